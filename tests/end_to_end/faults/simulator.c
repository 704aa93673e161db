/* Stands between a program and the system (LD_PRELOAD): shifts the clock on the wall, and has writes
 * below one folder fail, as a file that is mapped into memory says at each moment. Everything else
 * passes as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* As the tests write it. */
struct control {
    volatile int64_t clock_offset_s;
    volatile int32_t write_error; /* an errno, or 0 */
    volatile int32_t sync_error;
    volatile int32_t open_error; /* of new files, and of folders */
    volatile int32_t failed;     /* counts what failed */
};

static struct control *control;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("QUERN_TEST_CONTROL");
    folder = getenv("QUERN_TEST_FOLDER");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0 || !folder) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(file);
}

static int is_below(const char *path) {
    return path && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_file_below(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int fail(int error) {
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return 1;
}

static int fails_to_write(int file) {
    int error = control ? control->write_error : 0;
    return error && is_file_below(file) && fail(error);
}

static int fails_to_sync(int file) {
    int error = control ? control->sync_error : 0;
    return error && is_file_below(file) && fail(error);
}

static int fails_to_make(const char *path) {
    int error = control ? control->open_error : 0;
    return error && is_below(path) && fail(error);
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *bytes, size_t count) {
    REAL(write);
    return fails_to_write(file) ? -1 : real(file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    return fails_to_write(file) ? -1 : real(file, parts, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    REAL(pwrite);
    return fails_to_write(file) ? -1 : real(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64);
    return fails_to_write(file) ? -1 : real(file, bytes, count, at);
}

int fsync(int file) {
    REAL(fsync);
    return fails_to_sync(file) ? -1 : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return fails_to_sync(file) ? -1 : real(file);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return fails_to_make(path) ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return fails_to_make(to) ? -1 : real(from, to);
}

int unlink(const char *path) {
    REAL(unlink);
    /* A full disk lets files go, one that takes no writes does not. */
    if (control && control->open_error == EROFS && fails_to_make(path)) return -1;
    return real(path);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int writes = control && control->open_error == EROFS && (flags & O_ACCMODE) != O_RDONLY; \
        int makes = (flags & O_CREAT) && access(path, F_OK) != 0; \
        if ((writes || makes) && fails_to_make(path)) return -1; \
        return real(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *time) {
    /* Not by dlsym, which may ask for the time itself. */
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!failed && is_wall && control) time->tv_sec += control->clock_offset_s;
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

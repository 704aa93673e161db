// A CUDA driver without a device: as much of its interface as is used, over the host's memory.
// Kernels are those of kernels/*.cu, compiled for the host; the image that is loaded only has to
// name them. Built as libcuda.so.1 and found by the path of libraries, so that everything above
// it is what runs on a device. Fresh memory is full of rubbish, as that of a device may be, and
// it is an error to use it before all of it is cleared.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "block.h"
#include "faults.h"
#include "stream.h"

using namespace mock;

#define API extern "C" __attribute__((visibility("default"))) int

enum : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
};

typedef unsigned long long Pointer;

// An error that stays until the process ends, as it does after a kernel's fault.
static std::atomic<int> sticky{SUCCESS};
static std::atomic<bool> initialised{false};
static thread_local void* current_context;
static int the_context;

struct Block {
    size_t bytes;
    Stream* stream;  // whose memory it is; none for memory beside the pool
    bool cleared;
};
struct Memory {
    std::mutex mutex;
    std::map<Pointer, Block> blocks;
    unsigned long long used = 0;
};
static Memory& memory() {
    static Memory memory;
    return memory;
}
static std::mutex streams_mutex;
static std::set<Stream*> streams;

#define CHECK_CONTEXT() \
    if (sticky) return sticky; \
    if (!initialised) return NOT_INITIALIZED; \
    if (current_context != &the_context) return INVALID_CONTEXT

static unsigned long long total_memory() { return setting("QUERN_MOCK_MEMORY", 4ull << 30); }

// ---- the driver and its device

API cuInit(unsigned) {
    int result = int(setting("QUERN_MOCK_INIT", SUCCESS));
    initialised = result == SUCCESS;
    return result;
}

API cuDriverGetVersion(int* version) {
    *version = int(setting("QUERN_MOCK_VERSION", 13000));
    return SUCCESS;
}

API cuDeviceGetCount(int* count) {
    *count = int(setting("QUERN_MOCK_DEVICES", 1));
    return SUCCESS;
}

API cuDeviceGet(int* device, int ordinal) {
    if (ordinal < 0 || ordinal >= int(setting("QUERN_MOCK_DEVICES", 1))) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

API cuDeviceGetName(char* name, int length, int) {
    snprintf(name, length, "mock");
    return SUCCESS;
}

API cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = total_memory();
    return SUCCESS;
}

API cuDeviceGetAttribute(int* value, int attribute, int) {
    int capability = int(setting("QUERN_MOCK_CAPABILITY", 90));
    switch (attribute) {
        case 16: *value = 2; break;                 // multiprocessors
        case 75: *value = capability / 10; break;
        case 76: *value = capability % 10; break;
        case 115: *value = int(setting("QUERN_MOCK_POOLS", 1)); break;
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void** context, int) {
    int result = int(setting("QUERN_MOCK_CONTEXT", SUCCESS));
    if (result != SUCCESS) return result;
    *context = &the_context;
    return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) { return sticky; }
API cuCtxSetCurrent(void* context) {
    current_context = context;
    return sticky;
}
API cuCtxGetCurrent(void** context) {
    *context = current_context;
    return sticky;
}
API cuCtxSynchronize() {
    CHECK_CONTEXT();
    std::set<Stream*> all;
    {
        std::lock_guard<std::mutex> lock(streams_mutex);
        all = streams;
    }
    for (Stream* stream : all) stream->wait_until_idle();
    return sticky;
}

static const char* error_name(int error) {
    switch (error) {
        case INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
        case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
        case INVALID_IMAGE: return "CUDA_ERROR_INVALID_IMAGE";
        case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
        case NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
        case ILLEGAL_ADDRESS: return "CUDA_ERROR_ILLEGAL_ADDRESS";
        case LAUNCH_OUT_OF_RESOURCES: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
        default: return "CUDA_ERROR_UNKNOWN";
    }
}
API cuGetErrorName(int error, const char** text) {
    *text = error_name(error);
    return SUCCESS;
}
API cuGetErrorString(int error, const char** text) {
    *text = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                     : error_name(error);
    return SUCCESS;
}

// ---- streams and events

API cuStreamCreate(Stream** stream, unsigned) {
    CHECK_CONTEXT();
    *stream = Stream::start();
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.insert(*stream);
    return SUCCESS;
}
API cuStreamDestroy_v2(Stream* stream) {
    {
        std::lock_guard<std::mutex> lock(streams_mutex);
        streams.erase(stream);
    }
    Stream::stop(stream);
    return sticky;
}

typedef std::shared_ptr<Event> EventHandle;

API cuEventCreate(EventHandle** event, unsigned) {
    CHECK_CONTEXT();
    *event = new EventHandle(new Event);
    return SUCCESS;
}
API cuEventRecord(EventHandle* event, Stream* stream) {
    CHECK_CONTEXT();
    EventHandle kept = *event;
    unsigned long long number = ++kept->wanted;
    stream->enqueue([kept, number] {
        if (Faults::slow())
            std::this_thread::sleep_for(std::chrono::milliseconds(setting("QUERN_MOCK_SLOW_MS", 3)));
        kept->done = number;
    });
    return SUCCESS;
}
API cuEventQuery(EventHandle* event) {
    CHECK_CONTEXT();
    return (*event)->done >= (*event)->wanted ? SUCCESS : NOT_READY;
}
API cuEventDestroy_v2(EventHandle* event) {
    delete event;
    return sticky;
}

// ---- memory

// Work on memory, which must lie within what is allocated when its turn comes.
static void with_memory(Stream* stream, Pointer at, size_t bytes, std::function<void()> work) {
    stream->enqueue([=] {
        if (sticky) return;
        {
            std::lock_guard<std::mutex> lock(memory().mutex);
            auto block = memory().blocks.upper_bound(at);
            bool inside = block != memory().blocks.begin() &&
                (--block, at + bytes <= block->first + block->second.bytes);
            if (!inside) {
                sticky = ILLEGAL_ADDRESS;
                return;
            }
        }
        work();
    });
}

// Whether all memory of a stream was cleared, as it has to be before the stream uses any.
static bool is_clear(Stream* stream) {
    std::lock_guard<std::mutex> lock(memory().mutex);
    for (const auto& block : memory().blocks) {
        if (block.second.stream == stream && !block.second.cleared) {
            sticky = ILLEGAL_ADDRESS;
            return false;
        }
    }
    return true;
}
#define CHECK_CLEAR(stream) \
    if (!is_clear(stream)) return sticky

struct PoolProperties {
    int allocation, handle, location, id;
};
API cuMemPoolCreate(void** pool, const PoolProperties* properties) {
    CHECK_CONTEXT();
    if (properties->allocation != 1 || properties->location != 1) return INVALID_VALUE;
    *pool = new char;
    return SUCCESS;
}
API cuMemPoolDestroy(void* pool) {
    delete static_cast<char*>(pool);
    return sticky;
}
API cuMemPoolTrimTo(void*, size_t) {
    CHECK_CONTEXT();
    return SUCCESS;
}
API cuMemPoolSetAttribute(void*, int, void*) {
    CHECK_CONTEXT();
    return SUCCESS;
}
API cuMemPoolGetAttribute(void*, int attribute, void* value) {
    CHECK_CONTEXT();
    if (attribute != 7) return INVALID_VALUE;
    std::lock_guard<std::mutex> lock(memory().mutex);
    *static_cast<unsigned long long*>(value) = memory().used;
    return SUCCESS;
}
API cuMemGetInfo_v2(size_t* available, size_t* total) {
    CHECK_CONTEXT();
    std::lock_guard<std::mutex> lock(memory().mutex);
    *total = total_memory();
    *available = total_memory() - memory().used;
    return SUCCESS;
}

API cuMemAllocFromPoolAsync(Pointer* pointer, size_t bytes, void*, Stream* stream) {
    CHECK_CONTEXT();
    if (bytes == 0) return INVALID_VALUE;
    if (Faults::strikes("out-of-memory")) return OUT_OF_MEMORY;
    std::lock_guard<std::mutex> lock(memory().mutex);
    if (memory().used + bytes > total_memory()) return OUT_OF_MEMORY;
    void* block = nullptr;
    if (posix_memalign(&block, 256, bytes) != 0) return OUT_OF_MEMORY;
    memset(block, 0xcd, bytes);
    *pointer = Pointer(block);
    memory().blocks[*pointer] = Block{bytes, stream, false};
    memory().used += bytes;
    return SUCCESS;
}
API cuMemFreeAsync(Pointer pointer, Stream* stream) {
    CHECK_CONTEXT();
    if (Faults::strikes("leak")) return SUCCESS;
    stream->enqueue([pointer] {
        std::lock_guard<std::mutex> lock(memory().mutex);
        auto block = memory().blocks.find(pointer);
        if (block == memory().blocks.end()) {
            sticky = ILLEGAL_ADDRESS;
            return;
        }
        memory().used -= block->second.bytes;
        memory().blocks.erase(block);
        free(reinterpret_cast<void*>(pointer));
    });
    return SUCCESS;
}
// Memory beside the pool.
API cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
    CHECK_CONTEXT();
    void* block = nullptr;
    if (bytes == 0) return INVALID_VALUE;
    if (posix_memalign(&block, 256, bytes) != 0) return OUT_OF_MEMORY;
    memset(block, 0xcd, bytes);
    *pointer = Pointer(block);
    std::lock_guard<std::mutex> lock(memory().mutex);
    memory().blocks[*pointer] = Block{bytes, nullptr, true};
    return SUCCESS;
}
API cuMemFree_v2(Pointer pointer) {
    if (sticky) return sticky;
    std::lock_guard<std::mutex> lock(memory().mutex);
    memory().blocks.erase(pointer);
    free(reinterpret_cast<void*>(pointer));
    return SUCCESS;
}
API cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    CHECK_CONTEXT();
    *pointer = malloc(bytes);
    return *pointer ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFreeHost(void* pointer) {
    free(pointer);
    return sticky;
}
API cuMemsetD8Async(Pointer at, unsigned char value, size_t bytes, Stream* stream) {
    CHECK_CONTEXT();
    if (Faults::strikes("unclear")) return SUCCESS;
    {
        std::lock_guard<std::mutex> lock(memory().mutex);
        auto block = memory().blocks.find(at);
        if (block != memory().blocks.end() && block->second.bytes == bytes && value == 0)
            block->second.cleared = true;
    }
    with_memory(stream, at, bytes, [=] { memset(reinterpret_cast<void*>(at), value, bytes); });
    return SUCCESS;
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, Stream* stream) {
    CHECK_CONTEXT();
    CHECK_CLEAR(stream);
    with_memory(stream, to, bytes, [=] { memcpy(reinterpret_cast<void*>(to), from, bytes); });
    return SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, Stream* stream) {
    CHECK_CONTEXT();
    CHECK_CLEAR(stream);
    with_memory(stream, from, bytes, [=] { memcpy(to, reinterpret_cast<void*>(from), bytes); });
    return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream* stream) {
    CHECK_CONTEXT();
    CHECK_CLEAR(stream);
    with_memory(stream, to, bytes, [=] {
        memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    });
    return SUCCESS;
}

// ---- modules and kernels

// The names that an image has. A cubin is an ELF file, which says how long it is; PTX is a text.
struct Module {
    std::string image;
};

static size_t elf_bytes(const unsigned char* image) {
    auto number = [&](size_t at, size_t bytes) {
        unsigned long long value = 0;
        memcpy(&value, image + at, bytes);
        return size_t(value);
    };
    const size_t machine = number(18, 2), CUDA = 190;
    if (machine != CUDA) return 0;
    size_t programs = number(32, 8) + number(54, 2) * number(56, 2);
    size_t sections = number(40, 8) + number(58, 2) * number(60, 2);
    return programs > sections ? programs : sections;
}

API cuModuleLoadData(Module** module, const void* image) {
    CHECK_CONTEXT();
    int result = int(setting("QUERN_MOCK_IMAGE", SUCCESS));
    if (result != SUCCESS) return result;
    const char* text = static_cast<const char*>(image);
    bool is_elf = memcmp(text, "\x7f" "ELF", 4) == 0;
    size_t bytes = is_elf ? elf_bytes(static_cast<const unsigned char*>(image)) : strlen(text);
    if (bytes == 0) return INVALID_IMAGE;
    *module = new Module{std::string(text, bytes)};
    return SUCCESS;
}
API cuModuleUnload(Module* module) {
    delete module;
    return sticky;
}
API cuModuleGetFunction(const Kernel** kernel, Module* module, const char* name) {
    CHECK_CONTEXT();
    bool is_elf = module->image[0] == '\x7f';
    std::string named = is_elf ? std::string(".text.") + name + '\0'
                               : std::string(".entry ") + name + "(";
    if (module->image.find(named) == std::string::npos) return NOT_FOUND;
    *kernel = find_kernel(name);
    return *kernel ? SUCCESS : NOT_FOUND;
}

API cuLaunchKernel(const Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned, Stream* stream, void** parameters, void**) {
    CHECK_CONTEXT();
    bool valid = gx > 0 && gy == 1 && gz == 1 && bx > 0 && bx <= MAX_THREADS && by == 1 && bz == 1;
    if (!valid) return INVALID_VALUE;
    CHECK_CLEAR(stream);
    if (Faults::strikes("launch")) return LAUNCH_OUT_OF_RESOURCES;
    bool breaks = Faults::strikes("sticky"), hangs = Faults::strikes("hang");
    const char* bytes = static_cast<const char*>(parameters[0]);
    // As strictly aligned as the struct, which the bytes of a vector are, too.
    std::vector<char> kept(bytes, bytes + kernel->parameter_bytes);
    stream->enqueue([=] {
        if (hangs) return stream->hang();
        if (breaks) sticky = ILLEGAL_ADDRESS;
        if (sticky) return;
        run_grid(*kernel, {gx, gy, gz}, {bx, by, bz}, kept.data());
    });
    return SUCCESS;
}

// ---- for mocks of libraries over the driver

// Has a stream do some work, which must leave so many bytes at an address.
extern "C" __attribute__((visibility("default"))) void quern_mock_enqueue(
    Stream* stream, Pointer at, size_t bytes, void (*work)(void*), void* argument) {
    if (sticky || !is_clear(stream)) return;
    with_memory(stream, at, bytes, [=] { work(argument); });
}

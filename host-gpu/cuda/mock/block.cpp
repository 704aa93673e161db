// Threads of a kernel as fibers of one thread of the host: each runs until it waits for the others
// or ends, and then the next. Kernels without barriers are plain loops.
#include "block.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace mock {

thread_local Place* here;

static const Kernel*& kernels() {
    static const Kernel* first = nullptr;
    return first;
}

Kernel::Kernel(const char* name, void (*run)(const void*), unsigned long bytes, bool waits)
    : name(name), run(run), parameter_bytes(bytes), waits(waits), next(kernels()) {
    kernels() = this;
}

const Kernel* find_kernel(const char* name) {
    for (const Kernel* kernel = kernels(); kernel; kernel = kernel->next)
        if (strcmp(kernel->name, name) == 0) return kernel;
    return nullptr;
}

namespace {

constexpr size_t STACK_BYTES = 128 << 10;

// Where a fiber or the loop that runs them goes on. Saving signal masks, as swapcontext does,
// would cost most of the time: after its start a fiber is left and entered by long jumps, except
// under the address sanitizer, which has to be told of each change of stacks.
struct Context {
    ucontext_t context;
#ifndef __SANITIZE_ADDRESS__
    jmp_buf jump;
#endif
    void* fake_stack = nullptr;
    const void* stack = nullptr;
    size_t stack_bytes = 0;
};

struct Fiber {
    Context at;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    Place place;
    bool started, done;
};

// The fibers of one thread of the host, used again by each block.
struct Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    Context loop;
    Fiber* running = nullptr;
    const Kernel* kernel = nullptr;
    const void* parameters = nullptr;
};

thread_local std::unique_ptr<Block> block_of_thread;

#ifdef __SANITIZE_ADDRESS__
void leave(Context& from, Context& to, bool forever) {
    __sanitizer_start_switch_fiber(forever ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
    swapcontext(&from.context, &to.context);
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}
#else
void leave(Context& from, Context& to, bool) {
    if (_setjmp(from.jump) == 0) _longjmp(to.jump, 1);
}
#endif

void fiber_main() {
    Block& block = *block_of_thread;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &block.loop.stack, &block.loop.stack_bytes);
#endif
    Fiber& fiber = *block.running;
    block.kernel->run(block.parameters);
    fiber.done = true;
    leave(fiber.at, block.loop, true);
}

void enter(Block& block, Fiber& fiber) {
    block.running = &fiber;
    here = &fiber.place;
    if (fiber.started) return leave(block.loop, fiber.at, false);
    fiber.started = true;
    getcontext(&fiber.at.context);
    fiber.at.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.at.context.uc_stack.ss_size = STACK_BYTES;
    fiber.at.context.uc_link = nullptr;
    fiber.at.stack = fiber.stack.get();
    fiber.at.stack_bytes = STACK_BYTES;
    makecontext(&fiber.at.context, fiber_main, 0);
#ifdef __SANITIZE_ADDRESS__
    leave(block.loop, fiber.at, false);
#else
    if (_setjmp(block.loop.jump) == 0) setcontext(&fiber.at.context);
#endif
}

// Each turn ends where all threads wait for each other, or at the end of all.
void run_fibers(Block& block, unsigned count) {
    for (unsigned done = 0; done < count;) {
        for (unsigned i = 0; i < count; ++i) {
            enter(block, *block.fibers[i]);
            done += block.fibers[i]->done;
        }
        if (done > 0 && done < count) {
            fprintf(stderr, "mock: some threads of %s ended, others wait\n", block.kernel->name);
            abort();
        }
    }
}

}  // namespace

void wait_for_block() {
    Block& block = *block_of_thread;
    leave(block.running->at, block.loop, false);
}

void run_grid(const Kernel& kernel, Dimensions grid, Dimensions size, const void* parameters) {
    if (!block_of_thread) block_of_thread.reset(new Block);
    Block& block = *block_of_thread;
    block.kernel = &kernel;
    block.parameters = parameters;
    unsigned threads = size.x * size.y * size.z;
    while (kernel.waits && block.fibers.size() < threads)
        block.fibers.emplace_back(new Fiber);
    for (unsigned number = 0; number < grid.x; ++number) {
        Place place = {{0, 0, 0}, {number, 0, 0}, size, grid};
        if (kernel.waits) {
            for (unsigned thread = 0; thread < threads; ++thread) {
                Fiber& fiber = *block.fibers[thread];
                fiber.started = fiber.done = false;
                fiber.place = place;
                fiber.place.thread.x = thread;
            }
            run_fibers(block, threads);
        } else {
            here = &place;
            for (place.thread.x = 0; place.thread.x < threads; ++place.thread.x)
                kernel.run(parameters);
        }
    }
}

}  // namespace mock

// See stream.h.
#include "stream.h"

#include <chrono>
#include <thread>

#include "faults.h"

namespace mock {

// Whose turn it is where all streams share a queue.
namespace {

std::mutex turns_mutex;
std::condition_variable turns_changed;
unsigned long long turns_given, turn_now;

bool one_queue() {
    static const bool one = setting("QUERN_MOCK_ONE_QUEUE", 0) != 0;
    return one;
}

unsigned long long next_turn() {
    std::lock_guard<std::mutex> lock(turns_mutex);
    return turns_given++;
}

void wait_for_turn(unsigned long long turn) {
    if (!one_queue()) return;
    std::unique_lock<std::mutex> lock(turns_mutex);
    turns_changed.wait(lock, [turn] { return turn_now == turn; });
}

void end_turn() {
    std::lock_guard<std::mutex> lock(turns_mutex);
    ++turn_now;
    turns_changed.notify_all();
}

}  // namespace

Stream* Stream::start() {
    Stream* stream = new Stream;
    std::thread([stream] { stream->run(); }).detach();
    return stream;
}

void Stream::stop(Stream* stream) {
    std::lock_guard<std::mutex> lock(stream->mutex);
    stream->closing = true;
    stream->changed.notify_all();
}

void Stream::enqueue(std::function<void()> work) {
    std::lock_guard<std::mutex> lock(mutex);
    queue.push_back({std::move(work), next_turn()});
    changed.notify_all();
}

void Stream::hang() {
    std::lock_guard<std::mutex> lock(mutex);
    hangs = true;
}

void Stream::wait_until_idle() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return queue.empty() && !busy; });
}

void Stream::run() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
        changed.wait(lock, [this] { return closing || !queue.empty(); });
        if (queue.empty()) break;
        Work work = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        wait_for_turn(work.turn);
        work.run();
        work.run = nullptr;
        end_turn();
        lock.lock();
        while (hangs) {
            lock.unlock();
            std::this_thread::sleep_for(std::chrono::hours(1));
            lock.lock();
        }
        busy = false;
        changed.notify_all();
    }
    lock.unlock();
    delete this;
}

}  // namespace mock

// See stream.h.
#include "stream.h"

#include <chrono>
#include <thread>

namespace mock {

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
    queue.push_back(std::move(work));
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
        std::function<void()> work = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        work();
        work = nullptr;
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

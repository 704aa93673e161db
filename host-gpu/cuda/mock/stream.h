// Streams of the mock driver: a thread of the host for each, which does what it is asked for in
// order. So work is under way while the caller goes on, as on a device. With QUERN_MOCK_ONE_QUEUE=1
// it is done in the order of all streams together, as by a device that is busy with each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace mock {

class Stream {
  public:
    static Stream* start();
    // Ends once everything is done; what hangs is left behind.
    static void stop(Stream* stream);
    void enqueue(std::function<void()> work);
    // Does nothing more from now on, as a device that hangs. Called by work.
    void hang();
    void wait_until_idle();

  private:
    void run();
    std::mutex mutex;
    std::condition_variable changed;
    struct Work {
        std::function<void()> run;
        unsigned long long turn;  // of all streams together
    };
    std::deque<Work> queue;
    bool busy = false, closing = false, hangs = false;
};

struct Event {
    std::atomic<unsigned long long> wanted{0}, done{0};
};

}  // namespace mock

"""Enqueues with a queue's own client for so many seconds, from so many processes, without HTTP, and
prints how many calls a second that were: `queue_client.py rq|celery PROCESSES SECONDS BYTES`."""

import multiprocessing
import sys
import time

from queue_tasks import answer, connect, hello, queue


def enqueue(kind: str, seconds: float, text: str, count) -> None:
    own = queue(connect())
    made = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if kind == "rq":
            own.enqueue(hello, text, result_ttl=86_400)
        else:
            answer.delay(text)
        made += 1
    with count.get_lock():
        count.value += made


def main() -> None:
    kind, processes, seconds, size = sys.argv[1], *map(int, sys.argv[2:])
    count = multiprocessing.Value("q", 0)
    arguments = (kind, seconds, "x" * size, count)
    workers = [multiprocessing.Process(target=enqueue, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        sys.exit("a process failed")
    print(count.value / seconds)


if __name__ == "__main__":
    main()

"""The task that benches/control has RQ and Celery carry out: what the template's function does."""

import os

from celery import Celery
from redis import Redis
from rq import Queue

URL = os.environ["REDIS"]

celery = Celery("queue_tasks", broker=URL, backend=URL)
celery.conf.update(
    # A task whose worker dies is given to another one, as Quern's calls are.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)


def hello(body: str) -> str:
    return "hello\n"


answer = celery.task(name="answer")(hello)


def connect() -> Redis:
    return Redis.from_url(URL)


def queue(connection: Redis) -> Queue:
    return Queue(connection=connection)

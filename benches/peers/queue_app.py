"""Takes calls over HTTP for RQ and for Celery: peers of benches/control.

Both clients block while Redis answers, so that calls are handed over by threads of FastAPI's. A call
is acknowledged once Redis has it.
"""

from fastapi import Body, FastAPI
from queue_tasks import answer, connect, hello, queue

app = FastAPI()
redis = connect()
rq = queue(redis)


@app.post("/rq", status_code=202)
def enqueue_rq(call: dict = Body()) -> dict:
    return {"id": rq.enqueue(hello, call["text"], result_ttl=86_400).id}


@app.post("/celery", status_code=202)
def enqueue_celery(call: dict = Body()) -> dict:
    return {"id": answer.delay(call["text"]).id}


@app.get("/finished/rq")
def finished_rq() -> int:
    return rq.finished_job_registry.count


@app.get("/finished/celery")
def finished_celery() -> int:
    # It keeps each result under a key of its own, and little else.
    return sum(1 for _ in redis.scan_iter("celery-task-meta-*", count=10_000))


@app.delete("/calls", status_code=204)
def forget() -> None:
    redis.flushall()

"""ONNX Runtime without a server: threads that each run a model in a loop, as the lanes of a server
do, with a copy of it for each and one intra-op thread. Prints rows a second, p50 and p99 of a run
in µs.

    engine.py MODEL THREADS ROWS SECONDS
"""

import sys
import time
from threading import Barrier, Thread

import numpy as np
import onnxruntime as ort

path, threads, rows, seconds = sys.argv[1], *map(int, sys.argv[2:])
barrier = Barrier(threads)
runs = []


def array(port):
    shape = [rows, *port.shape[1:]]
    if port.type == "tensor(float)":
        return np.sin(np.arange(np.prod(shape)) * 0.7).astype(np.float32).reshape(shape)
    return np.ones(shape, np.int64)


def work():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {port.name: array(port) for port in session.get_inputs()}
    session.run(None, inputs)
    session.run(None, inputs)
    barrier.wait()
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        session.run(None, inputs)
        runs.append((start, time.perf_counter()))


workers = [Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
took = max(end for _, end in runs) - min(start for start, _ in runs)
latencies = np.array([end - start for start, end in runs]) * 1e6
print(len(runs) * rows / took, *np.quantile(latencies, [0.5, 0.99]))

"""The same model behind FastAPI and ONNX Runtime: a peer of benches/inference.

Three ways to write it. `/validated` is how FastAPI is meant to be used, and does what every
inference server has to: it checks the request and answers 422 where it doesn't fit. `/unchecked`
leaves that out, and parses with orjson: as fast as one can get with JSON. `/binary` takes and gives
tensors as bytes behind a head in JSON, as the Open Inference Protocol has it, and checks nothing
either. All answer with bytes.

A small model runs in the event loop, as a hop to a thread takes longer than the model; with THREADS
there are as many runs at the same time in threads, which is better for large ones.
"""

import os
from typing import Annotated, Literal

import anyio
import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field, create_model

THREADS = int(os.environ.get("THREADS", "0"))
TYPES = {
    "tensor(float)": ("FP32", np.float32, float),
    "tensor(int64)": ("INT64", np.int64, int),
}
DTYPES = {datatype: dtype for datatype, dtype, _ in TYPES.values()}

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
output_names = [output.name for output in session.get_outputs()]
limiter = anyio.CapacityLimiter(max(THREADS, 1))

app = FastAPI()


def tensor_of(port) -> type[BaseModel]:
    """What an input of one row has to be."""
    datatype, _, element = TYPES[port.type]
    length = int(np.prod(port.shape[1:]))
    return create_model(
        f"Tensor_{port.name}",
        name=Literal[port.name],
        shape=tuple[(Literal[1], *(Literal[dim] for dim in port.shape[1:]))],
        datatype=Literal[datatype],
        data=Annotated[list[element], Field(min_length=length, max_length=length)],
    )


InferenceRequest = create_model(
    "InferenceRequest", inputs=tuple[tuple(tensor_of(port) for port in session.get_inputs())]
)


async def run(inputs):
    if THREADS:
        return await anyio.to_thread.run_sync(
            session.run, output_names, inputs, limiter=limiter
        )
    return session.run(output_names, inputs)


def array(data, shape, datatype):
    return np.array(data, dtype=DTYPES[datatype]).reshape(shape)


def as_json(results) -> Response:
    outputs = [
        {"name": name, "shape": result.shape, "datatype": "FP32", "data": result.ravel()}
        for name, result in zip(output_names, results)
    ]
    content = orjson.dumps({"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


@app.post("/validated")
async def validated(request: InferenceRequest) -> Response:
    inputs = {
        tensor.name: array(tensor.data, tensor.shape, tensor.datatype) for tensor in request.inputs
    }
    return as_json(await run(inputs))


@app.post("/unchecked")
async def unchecked(request: Request) -> Response:
    inputs = {
        tensor["name"]: array(tensor["data"], tensor["shape"], tensor["datatype"])
        for tensor in orjson.loads(await request.body())["inputs"]
    }
    return as_json(await run(inputs))


@app.post("/binary")
async def binary(request: Request) -> Response:
    body = await request.body()
    offset = int(request.headers["inference-header-content-length"])
    inputs = {}
    for tensor in orjson.loads(body[:offset])["inputs"]:
        size = tensor["parameters"]["binary_data_size"]
        flat = np.frombuffer(body[offset : offset + size], DTYPES[tensor["datatype"]])
        inputs[tensor["name"]] = flat.reshape(tensor["shape"])
        offset += size
    results = await run(inputs)
    outputs = [
        {
            "name": name,
            "shape": result.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": result.nbytes},
        }
        for name, result in zip(output_names, results)
    ]
    head = orjson.dumps({"outputs": outputs})
    return Response(
        b"".join([head, *(result.tobytes() for result in results)]),
        media_type="application/octet-stream",
        headers={"inference-header-content-length": str(len(head))},
    )

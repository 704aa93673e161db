"""The same model behind FastAPI and ONNX Runtime: the peers of benches/inference.rs.

Two ways to write it. `/validated` is how FastAPI is meant to be used, and does what every
inference server has to: it checks the request and answers 422 where it doesn't fit. `/unchecked`
leaves that out, and parses with orjson: as fast as one can get within FastAPI. Both run the model
in the event loop, as a hop to a thread takes longer than the model, and both answer with bytes.
"""

import os
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

INPUTS = 256

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
output_names = [output.name for output in session.get_outputs()]

app = FastAPI()


class Input(BaseModel):
    name: Literal["x"]
    shape: tuple[Literal[1], Literal[INPUTS]]
    datatype: Literal["FP32"]
    data: Annotated[list[float], Field(min_length=INPUTS, max_length=INPUTS)]


class InferenceRequest(BaseModel):
    inputs: Annotated[list[Input], Field(min_length=1, max_length=1)]


def run(data: list[float], shape: list[int]) -> Response:
    inputs = {"x": np.array(data, dtype=np.float32).reshape(shape)}
    outputs = [
        {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel()}
        for name, array in zip(output_names, session.run(output_names, inputs))
    ]
    content = orjson.dumps(
        {"model_name": "mlp", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    return Response(content, media_type="application/json")


@app.post("/validated")
async def validated(request: InferenceRequest) -> Response:
    (tensor,) = request.inputs
    return run(tensor.data, tensor.shape)


@app.post("/unchecked")
async def unchecked(request: Request) -> Response:
    (tensor,) = orjson.loads(await request.body())["inputs"]
    return run(tensor["data"], tensor["shape"])

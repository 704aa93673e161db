"""KServe's clients: `make test-conformance KSERVE=1` installs and runs them. In a process of their
own, since they define the protocol's messages a second time."""

import asyncio

import kserve
import numpy as np
import pytest
from kserve.inference_client import InferenceGRPCClient
from kserve.protocol.infer_type import RequestedOutput

IMAGE = np.ones((2, 64), np.float32)


def ask(server, call):
    """What `call` makes of the client for HTTP."""
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    return asyncio.run(call(client, f"http://{server.address}"))


def ask_grpc(server, call):
    async def with_client():
        async with InferenceGRPCClient(server.address) as client:
            return await call(client)

    return asyncio.run(with_client())


def request(binary_in=None, binary_out=None):
    """For gRPC, where all data are binary, if nothing is said."""
    image = kserve.InferInput("image", list(IMAGE.shape), "FP32")
    image.set_data_from_numpy(IMAGE, binary_data=binary_in is not False)
    wanted = None if binary_out is None else {"binary_data": binary_out}
    outputs = [RequestedOutput("probabilities", wanted)]
    return kserve.InferRequest("digits-mlp", [image], request_outputs=outputs)


def test_health_and_readiness_are_understood(server):
    async def call(client, url):
        return [
            await client.is_server_live(url),
            await client.is_server_ready(url),
            await client.is_model_ready(url, "digits-mlp"),
            await client.is_model_ready(url, "absent"),
        ]

    assert ask(server, call) == [True, True, True, False]


def test_health_and_readiness_are_understood_over_grpc(server):
    async def call(client):
        return [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready("digits-mlp"),
            await client.is_model_ready("absent"),
        ]

    assert ask_grpc(server, call) == [True, True, True, False]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_tensors_pass_each_way(server, binary_in, binary_out):
    async def call(client, url):
        return await client.infer(url, request(binary_in, binary_out), model_name="digits-mlp")

    response = ask(server, call)
    assert response.model_name == "digits-mlp"
    assert response.outputs[0].as_numpy().shape == (2, 10)


def test_tensors_pass_over_grpc(server):
    async def call(client):
        return await client.infer(request())

    response = ask_grpc(server, call)
    assert response.model_name == "digits-mlp"
    assert [output.name for output in response.outputs] == ["probabilities"]
    np.testing.assert_allclose(response.outputs[0].as_numpy().sum(axis=1), [1, 1], rtol=1e-5)

"""KServe's client, where it is installed: `make test-conformance KSERVE=1` does that."""

import asyncio

import numpy as np
import pytest

kserve = pytest.importorskip("kserve", reason="make test-conformance KSERVE=1 installs it")

from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

IMAGE = np.ones((2, 64), np.float32)


def ask(server, call):
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    return asyncio.run(call(client, f"http://{server.address}"))


def test_health_and_readiness_are_understood(server):
    async def call(client, url):
        return [
            await client.is_server_live(url),
            await client.is_server_ready(url),
            await client.is_model_ready(url, "digits-mlp"),
            await client.is_model_ready(url, "absent"),
        ]

    assert ask(server, call) == [True, True, True, False]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_tensors_pass_each_way(server, binary_in, binary_out):
    image = kserve.InferInput("image", list(IMAGE.shape), "FP32")
    image.set_data_from_numpy(IMAGE, binary_data=binary_in)
    output = RequestedOutput("probabilities", {"binary_data": binary_out})
    request = kserve.InferRequest("digits-mlp", [image], request_outputs=[output])

    async def call(client, url):
        return await client.infer(url, request, model_name="digits-mlp")

    response = ask(server, call)
    assert response.model_name == "digits-mlp"
    assert response.outputs[0].as_numpy().shape == (2, 10)

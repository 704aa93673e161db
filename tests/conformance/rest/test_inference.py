"""Inference: forms of data, compression, classification, parameters and errors."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from inputs import ELEMENTS, IMAGE


def tensor(name, elements, binary=True):
    tensor = triton.InferInput(name, list(elements.shape), np_to_triton_dtype(elements.dtype))
    return tensor.set_data_from_numpy(elements, binary_data=binary)


def image(binary=True):
    return [tensor("image", IMAGE, binary)]


@pytest.fixture
def expected(client):
    return client.infer("digits-mlp", image()).as_numpy("probabilities")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_data_are_binary_or_json_each_way(client, expected, binary_in, binary_out):
    output = triton.InferRequestedOutput("probabilities", binary_data=binary_out)
    result = client.infer("digits-mlp", image(binary_in), outputs=[output])
    assert ("data" in result.get_output("probabilities")) == (not binary_out)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-6)


def test_every_datatype_passes_in_binary(client):
    result = client.infer("types", [tensor(name, data) for name, data in ELEMENTS.items()])
    for name, data in ELEMENTS.items():
        np.testing.assert_array_equal(result.as_numpy(name), data, name)


def test_every_datatype_but_the_halves_passes_in_json(client):
    halves = ("fp16", "bf16")
    inputs = [tensor(name, data, name in halves) for name, data in ELEMENTS.items()]
    outputs = [triton.InferRequestedOutput(name, binary_data=name in halves) for name in ELEMENTS]
    result = client.infer("types", inputs, outputs=outputs)
    names = [output["name"] for output in result.get_response()["outputs"]]
    assert names == list(ELEMENTS), "in the order asked for"
    for name, data in ELEMENTS.items():
        found = result.as_numpy(name)
        if name == "bytes":
            found = np.array([text.encode() for text in found], np.object_)
        np.testing.assert_array_equal(found, data, name)


def test_halves_in_json_are_refused(client):
    output = triton.InferRequestedOutput("fp16", binary_data=False)
    inputs = [tensor(name, data) for name, data in ELEMENTS.items()]
    with pytest.raises(InferenceServerException, match="FP16, which has no form in JSON") as error:
        client.infer("types", inputs, outputs=[output])
    assert error.value.status() == "400"


def test_tensors_may_be_empty(client):
    empty = {name: data[:0] for name, data in ELEMENTS.items()}
    result = client.infer("types", [tensor(name, data) for name, data in empty.items()])
    assert all(result.as_numpy(name).shape == (0,) for name in ELEMENTS)


@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_bodies_are_compressed(client, request_compression, response_compression):
    many = np.tile(IMAGE, (30, 1))
    result = client.infer(
        "digits-mlp",
        [tensor("image", many)],
        request_compression_algorithm=request_compression,
        response_compression_algorithm=response_compression,
    )
    assert result.as_numpy("probabilities").shape == (60, 10)


def test_the_highest_classes_are_given(client, expected):
    output = triton.InferRequestedOutput("probabilities", class_count=3)
    classes = client.infer("digits-mlp", image(), outputs=[output]).as_numpy("probabilities")
    assert classes.shape == (2, 3)
    for row, scores in zip(classes, expected):
        found = [text.decode().split(":") for text in row]
        order = np.argsort(-scores, kind="stable")[:3]
        assert [int(index) for _, index in found] == list(order)
        np.testing.assert_allclose([float(score) for score, _ in found], scores[order], rtol=1e-6)


def test_the_id_and_the_version_come_back(client):
    result = client.infer("digits-mlp", image(), model_version="1", request_id="mine").get_response()
    assert (result["id"], result["model_version"]) == ("mine", "1")


def test_parameters_are_accepted(client):
    result = client.infer(
        "digits-mlp", image(), priority=1, timeout=60_000_000, parameters={"mine": "x", "flag": True}
    )
    assert result.as_numpy("probabilities").shape == (2, 10)


def test_a_call_that_has_no_time_is_ended(client):
    with pytest.raises(InferenceServerException, match="did not answer") as error:
        client.infer("digits-mlp", image(), timeout=1)
    assert error.value.status() == "504"


def test_sequences_are_refused(client):
    with pytest.raises(InferenceServerException, match="sequences are not supported"):
        client.infer("digits-mlp", image(), sequence_id=7, sequence_start=True)


def test_a_raw_body_is_the_only_input(client, expected):
    headers = {"Inference-Header-Content-Length": "0"}
    response = client._post("v2/models/digits-mlp/infer", IMAGE.tobytes(), headers, None)
    result = triton.InferResult(response, False)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-6)


def test_wrong_inputs_are_named(client):
    wrong = [
        (tensor("picture", IMAGE), "picture"),
        (tensor("image", IMAGE[:, :63]), "63"),
        (tensor("image", IMAGE.astype(np.int32)), "INT32"),
    ]
    for given, part in wrong:
        with pytest.raises(InferenceServerException, match=part) as error:
            client.infer("digits-mlp", [given])
        assert error.value.status() == "400"
    with pytest.raises(InferenceServerException, match="logits"):
        client.infer("digits-mlp", image(), outputs=[triton.InferRequestedOutput("logits")])


def test_shared_memory_is_refused(client):
    shared = triton.InferInput("image", [2, 64], "FP32")
    shared.set_shared_memory("region", IMAGE.nbytes)
    with pytest.raises(InferenceServerException, match="shared memory is not allowed"):
        client.infer("digits-mlp", [shared])


def test_calls_run_side_by_side(client, expected):
    calls = [client.async_infer("digits-mlp", image()) for _ in range(32)]
    for call in calls:
        found = call.get_result().as_numpy("probabilities")
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_asynchronous_client_is_served(server):
    async def ask():
        async with triton_aio.InferenceServerClient(server.address) as client:
            assert await client.is_model_ready("digits-mlp")
            calls = [client.infer("digits", image()) for _ in range(8)]
            return await asyncio.gather(*calls)

    for result in asyncio.run(ask()):
        assert result.as_numpy("label").shape == (2,)

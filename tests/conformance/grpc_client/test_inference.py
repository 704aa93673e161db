"""Inference over gRPC: every datatype, classification, parameters, streams, errors."""

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from inputs import ELEMENTS, IMAGE


def tensor(name, elements):
    tensor = triton.InferInput(name, list(elements.shape), np_to_triton_dtype(elements.dtype))
    return tensor.set_data_from_numpy(elements)


def image():
    return [tensor("image", IMAGE)]


def test_every_datatype_passes(client):
    result = client.infer("types", [tensor(name, data) for name, data in ELEMENTS.items()])
    for name, data in ELEMENTS.items():
        np.testing.assert_array_equal(result.as_numpy(name), data, name)


def test_outputs_come_in_the_order_asked_for(client):
    outputs = [triton.InferRequestedOutput(name) for name in ("int8", "bytes", "bool")]
    inputs = [tensor(name, data) for name, data in ELEMENTS.items()]
    result = client.infer("types", inputs, outputs=outputs, request_id="7")
    names = [output.name for output in result.get_response().outputs]
    assert (names, result.get_response().id) == (["int8", "bytes", "bool"], "7")


def test_a_model_and_a_function_answer_alike(client):
    direct = client.infer("digits-mlp", image()).as_numpy("probabilities")
    through = client.infer("digits", image(), model_version="1").as_numpy("probabilities")
    assert direct.shape == (2, 10)
    np.testing.assert_allclose(direct, through, rtol=1e-5)


def test_classes_are_asked_for(client):
    output = triton.InferRequestedOutput("probabilities", class_count=3)
    classes = client.infer("digits-mlp", image(), outputs=[output]).as_numpy("probabilities")
    assert classes.shape == (2, 3)
    probabilities = client.infer("digits-mlp", image()).as_numpy("probabilities")
    best = [int(row[0].split(b":")[1]) for row in classes]
    assert best == list(probabilities.argmax(axis=1))


def test_a_stream_is_answered_in_order(server):
    answers = queue.Queue()
    with triton.InferenceServerClient(server.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(50):
            name = "absent" if number % 10 == 9 else "digits-mlp"
            client.async_stream_infer(name, image(), request_id=str(number))
        for number in range(50):
            result, error = answers.get(timeout=60)
            if number % 10 == 9:
                assert "absent" in error.message()
            else:
                assert error is None
                assert result.get_response().id == str(number)
        client.stop_stream()


def test_the_last_response_of_a_request_is_marked(server):
    answers = queue.Queue()
    with triton.InferenceServerClient(server.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("digits-mlp", image(), enable_empty_final_response=True)
        result, error = answers.get(timeout=60)
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param
        client.stop_stream()


def test_calls_are_made_at_the_same_time(server):
    async def calls():
        async with triton_aio.InferenceServerClient(server.address) as client:
            several = [client.infer("digits-mlp", image()) for _ in range(32)]
            return await asyncio.gather(*several)

    results = asyncio.run(calls())
    first = results[0].as_numpy("probabilities")
    for result in results:
        np.testing.assert_allclose(result.as_numpy("probabilities"), first, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "version", "name", "elements", "status", "part"),
    [
        ("absent", "", "image", IMAGE, "NOT_FOUND", "absent"),
        ("digits-mlp", "9", "image", IMAGE, "NOT_FOUND", "no version 9"),
        ("digits-mlp", "x", "image", IMAGE, "INVALID_ARGUMENT", "not a number"),
        ("digits-mlp", "", "picture", IMAGE, "INVALID_ARGUMENT", "picture"),
        ("digits-mlp", "", "image", IMAGE[:, :3], "INVALID_ARGUMENT", "shape"),
        ("digits-mlp", "", "image", IMAGE.astype(np.int32), "INVALID_ARGUMENT", "INT32"),
    ],
)
def test_errors_have_a_status_and_name_what_is_wrong(
    client, model, version, name, elements, status, part
):
    with pytest.raises(InferenceServerException, match=part) as error:
        client.infer(model, [tensor(name, np.ascontiguousarray(elements))], model_version=version)
    assert error.value.status() == f"StatusCode.{status}"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(server, client, algorithm):
    plain = client.infer("digits-mlp", image()).as_numpy("probabilities")
    packed = client.infer("digits-mlp", image(), compression_algorithm=algorithm)
    np.testing.assert_allclose(packed.as_numpy("probabilities"), plain, rtol=1e-5)
    answers = queue.Queue()
    with triton.InferenceServerClient(server.address) as streaming:
        streaming.start_stream(
            lambda result, error: answers.put((result, error)), compression_algorithm=algorithm
        )
        streaming.async_stream_infer("digits-mlp", image())
        result, error = answers.get(timeout=60)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("probabilities"), plain, rtol=1e-5)
        streaming.stop_stream()


def test_what_is_not_supported_is_refused(client):
    with pytest.raises(InferenceServerException, match="sequences") as error:
        client.infer("digits-mlp", image(), sequence_id=5)
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"
    region = triton.InferInput("image", [2, 64], "FP32").set_shared_memory("region", 512)
    with pytest.raises(InferenceServerException, match="shared memory") as error:
        client.infer("digits-mlp", [region])
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"


def test_a_client_that_does_not_wait_is_told_so(client):
    with pytest.raises(InferenceServerException) as error:
        client.infer("digits-mlp", image(), timeout=1)
    assert error.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    # Time is enough now, and unknown parameters change nothing.
    client.infer("digits-mlp", image(), timeout=60_000_000, parameters={"mine": "x"})

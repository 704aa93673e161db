"""Shared memory as the official client makes it, and what is tried with it over HTTP and gRPC."""

import contextlib
import os

import numpy as np
import pytest
import tritonclient.utils.shared_memory as memory
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

from inputs import ELEMENTS, IMAGE

PREFIX = "/quern-conformance-"
PROBABILITIES = 2 * 10 * 4


@contextlib.contextmanager
def region(client, name, byte_size):
    """A region that is registered, and its object, which go together."""
    key = f"{PREFIX}{os.getpid()}-{name}"
    handle = memory.create_shared_memory_region(name, key, byte_size, create_only=True)
    try:
        client.register_system_shared_memory(name, key, byte_size)
        yield handle
        client.unregister_system_shared_memory(name)
    finally:
        memory.destroy_shared_memory_region(handle)


def check_image(triton, client):
    """An image is read from one region, and what is said of it written to another."""
    inputs = [triton.InferInput("image", list(IMAGE.shape), "FP32")]
    output = triton.InferRequestedOutput("probabilities")
    sent = client.infer("digits-mlp", [inputs[0].set_data_from_numpy(IMAGE)])
    with region(client, "in", IMAGE.nbytes) as image, region(client, "out", 100) as results:
        memory.set_shared_memory_region(image, [IMAGE])
        inputs = [triton.InferInput("image", list(IMAGE.shape), "FP32")]
        inputs[0].set_shared_memory("in", IMAGE.nbytes)
        output.set_shared_memory("out", PROBABILITIES, 8)
        answer = client.infer("digits-mlp", inputs, outputs=[output])
        read = memory.get_contents_as_numpy(results, np.float32, [2, 10], 8)
        np.testing.assert_allclose(read, sent.as_numpy("probabilities"), rtol=1e-5)
        read = None
        output.set_shared_memory("out", PROBABILITIES - 1)
        with pytest.raises(InferenceServerException, match="has 80 bytes, which do not fit"):
            client.infer("digits-mlp", inputs, outputs=[output])
        inputs[0].set_shared_memory("in", IMAGE.nbytes, 1)
        with pytest.raises(InferenceServerException, match="reach beyond shared memory region"):
            client.infer("digits-mlp", inputs)
    return answer


def check_every_datatype(triton, client):
    """Elements of all datatypes lie in one region, and come back in another."""
    with region(client, "in", 4096) as source, region(client, "out", 4096) as target:
        inputs, outputs, offset = [], [], 0
        for name, elements in ELEMENTS.items():
            datatype = np_to_triton_dtype(elements.dtype)
            if datatype == "BYTES":
                elements = serialize_byte_tensor(elements)
                size = len(elements.item())
            else:
                size = elements.nbytes
            memory.set_shared_memory_region(source, [elements], offset)
            inputs.append(triton.InferInput(name, [2], datatype))
            inputs[-1].set_shared_memory("in", size, offset)
            outputs.append(triton.InferRequestedOutput(name))
            outputs[-1].set_shared_memory("out", 100, offset)
            offset += 100
        client.infer("types", inputs, outputs=outputs)
        for position, (name, elements) in enumerate(ELEMENTS.items()):
            read = memory.get_contents_as_numpy(target, elements.dtype, [2], 100 * position)
            np.testing.assert_array_equal(read, elements, name)
            read = None


def check_refusals(client):
    """What can't be registered, or is not there."""
    with region(client, "in", 64):
        key = f"{PREFIX}{os.getpid()}-in"
        with pytest.raises(InferenceServerException, match="is registered already"):
            client.register_system_shared_memory("in", key, 64)
        with pytest.raises(InferenceServerException, match="reach beyond key"):
            client.register_system_shared_memory("other", key, 64, 1)
    with pytest.raises(InferenceServerException, match="is not allowed on this server"):
        client.register_system_shared_memory("other", "/other", 64)
    with pytest.raises(InferenceServerException, match="is not registered"):
        client.get_system_shared_memory_status("in")

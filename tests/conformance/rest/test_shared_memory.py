"""Tensors in shared memory, over HTTP."""

import pytest
import tritonclient.http as triton

from shared import PREFIX, check_every_datatype, check_image, check_refusals, region


@pytest.fixture
def sharing(sharing_server):
    with triton.InferenceServerClient(sharing_server.address) as client:
        yield client


def test_an_image_is_read_and_its_answer_written(sharing):
    output = check_image(triton, sharing).get_output("probabilities")
    place = {"shared_memory_region": "out", "shared_memory_offset": 8, "shared_memory_byte_size": 80}
    assert (output["parameters"], "data" in output) == (place, False)


def test_every_datatype_passes(sharing):
    check_every_datatype(triton, sharing)


def test_regions_are_shown(sharing):
    assert "system_shared_memory" in sharing.get_server_metadata()["extensions"]
    with region(sharing, "a b", 64):
        (status,) = sharing.get_system_shared_memory_status("a b")
        assert status["key"].startswith(PREFIX)
        assert (status["name"], status["offset"], status["byte_size"]) == ("a b", 0, 64)
    assert sharing.get_system_shared_memory_status() == []


def test_what_is_not_allowed_is_refused(sharing):
    check_refusals(sharing)

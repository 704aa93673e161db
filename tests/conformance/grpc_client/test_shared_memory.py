"""Tensors in shared memory, over gRPC."""

import pytest
import tritonclient.grpc as triton

from shared import check_every_datatype, check_image, check_refusals, region


@pytest.fixture
def sharing(sharing_server):
    with triton.InferenceServerClient(sharing_server.address) as client:
        yield client


def test_an_image_is_read_and_its_answer_written(sharing):
    output = check_image(triton, sharing).get_output("probabilities")
    assert output.parameters["shared_memory_region"].string_param == "out"
    assert output.parameters["shared_memory_offset"].int64_param == 8
    assert output.parameters["shared_memory_byte_size"].int64_param == 80


def test_every_datatype_passes(sharing):
    check_every_datatype(triton, sharing)


def test_regions_are_shown(sharing):
    with region(sharing, "a b", 64):
        status = sharing.get_system_shared_memory_status("a b").regions["a b"]
        assert (status.name, status.offset, status.byte_size) == ("a b", 0, 64)
    assert not sharing.get_system_shared_memory_status().regions


def test_what_is_not_allowed_is_refused(sharing):
    check_refusals(sharing)

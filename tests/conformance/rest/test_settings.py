"""Settings of traces and the log, and shared memory."""

import pytest
from tritonclient.utils import InferenceServerException


@pytest.mark.parametrize("model", [None, "digits-mlp"])
def test_traces_are_off_and_stay_off(client, model):
    off = {"trace_level": ["OFF"]}
    assert client.get_trace_settings(model) == off
    assert client.update_trace_settings(model, off) == off
    with pytest.raises(InferenceServerException, match="trace_level") as error:
        client.update_trace_settings(model, {"trace_level": ["TIMESTAMPS"]})
    assert error.value.status() == "400"


def test_the_log_is_what_the_server_was_started_with(client):
    settings = client.get_log_settings()
    assert settings["log_error"] is True
    assert client.update_log_settings(settings) == settings
    with pytest.raises(InferenceServerException, match="log_file"):
        client.update_log_settings({"log_file": "elsewhere"})


def test_there_is_no_shared_memory(client):
    assert client.get_system_shared_memory_status() == []
    assert client.get_cuda_shared_memory_status() == []
    for status in (client.get_system_shared_memory_status, client.get_cuda_shared_memory_status):
        with pytest.raises(InferenceServerException, match="not registered"):
            status("region")
    with pytest.raises(InferenceServerException, match="shared memory is not allowed"):
        client.register_system_shared_memory("region", "/key", 64)
    with pytest.raises(InferenceServerException, match="shared memory is not allowed"):
        client.register_cuda_shared_memory("region", b"handle".decode(), 0, 64)
    client.unregister_system_shared_memory()
    client.unregister_system_shared_memory("region")
    client.unregister_cuda_shared_memory()

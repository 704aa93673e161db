"""Every call of the service but inference, as the official client makes it."""

import pytest
from tritonclient.utils import InferenceServerException


def test_the_server_says_what_it_is(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert about.name == "quern"
    assert "model_repository" in about.extensions


def test_models_and_functions_are_described(client):
    assert client.is_model_ready("digits-mlp")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("absent")
    model = client.get_model_metadata("digits-mlp", as_json=True)
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}]
    assert model["versions"] == ["1"]
    config = client.get_model_config("digits-mlp").config
    assert (config.name, config.max_batch_size) == ("digits-mlp", 64)
    assert config.input[0].data_type == 11, "TYPE_FP32"
    assert list(config.input[0].dims) == [64]
    assert config.version_policy.HasField("all")
    assert config.HasField("dynamic_batching")
    assert not config.model_transaction_policy.decoupled
    assert config.instance_group[0].kind == 2, "KIND_CPU"


def test_statistics_are_counted(client):
    counted = client.get_inference_statistics().model_stats
    assert {model.name for model in counted} >= {"digits-mlp", "digits", "types"}
    one = client.get_inference_statistics("types", "1").model_stats
    assert [model.name for model in one] == ["types"]


def test_the_repository_is_listed_and_loaded(client):
    index = client.get_model_repository_index().models
    states = {model.name: model.state for model in index}
    assert states["types"] == "READY"
    client.unload_model("types")
    assert not client.is_model_ready("types")
    client.load_model("types")
    assert client.is_model_ready("types")
    with pytest.raises(InferenceServerException, match="absent") as error:
        client.load_model("absent")
    assert error.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException) as error:
        client.load_model("types", config="{}")
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"


def test_settings_are_read(client):
    traces = client.get_trace_settings(as_json=True)["settings"]
    assert traces["trace_level"] == {"value": ["OFF"]}
    logs = client.get_log_settings().settings
    assert logs["log_info"].bool_param
    client.update_log_settings({"log_info": True})
    with pytest.raises(InferenceServerException, match="log_verbose_level") as error:
        client.update_log_settings({"log_verbose_level": 7})
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"


def test_there_is_no_shared_memory(client):
    assert not client.get_system_shared_memory_status().regions
    assert not client.get_cuda_shared_memory_status().regions
    client.unregister_system_shared_memory()
    with pytest.raises(InferenceServerException, match="shared memory") as error:
        client.register_system_shared_memory("region", "/key", 64)
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"

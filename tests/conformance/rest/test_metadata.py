"""Health, metadata, readiness, configuration and statistics."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def test_the_server_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()


def test_the_server_names_its_extensions(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] == "quern"
    expected = {"binary_tensor_data", "classification", "model_configuration", "statistics"}
    assert expected <= set(metadata["extensions"])


@pytest.mark.parametrize("version", ["", "1"])
def test_a_model_is_described(client, version):
    assert client.is_model_ready("digits-mlp", version)
    metadata = client.get_model_metadata("digits-mlp", version)
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    config = client.get_model_config("digits-mlp", version)
    assert config["max_batch_size"] == 64
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [64]}]
    assert config["output"][0]["dims"] == [10]


def test_a_function_is_described_like_a_model(client):
    assert client.get_model_metadata("digits")["platform"] == "wasm_component"
    assert client.get_model_config("digits")["max_batch_size"] == 0


def test_what_is_unknown_is_an_error(client):
    assert not client.is_model_ready("absent")
    assert not client.is_model_ready("digits-mlp", "9")
    for ask in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with pytest.raises(InferenceServerException, match="absent") as error:
            ask("absent")
        assert error.value.status() == "404"


def test_calls_are_counted(client):
    def stats():
        return client.get_inference_statistics("digits-mlp", "1")["model_stats"][0]

    def of(statistics, name):
        return statistics["inference_stats"][name]["count"]

    before = stats()
    image = triton.InferInput("image", [3, 64], "FP32")
    image.set_data_from_numpy(np.zeros((3, 64), np.float32))
    client.infer("digits-mlp", [image])
    after = stats()
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    assert of(after, "success") == of(before, "success") + 1
    assert any(batch["batch_size"] == 3 for batch in after["batch_stats"])
    every = client.get_inference_statistics()["model_stats"]
    assert {model["name"] for model in every} == {"digits", "digits-mlp", "types"}

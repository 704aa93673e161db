"""The model repository: its index, loading and unloading."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def index(client):
    entries = client.get_model_repository_index()
    return {(entry["name"], entry["version"]): entry["state"] for entry in entries}


def infer(client):
    image = triton.InferInput("image", [1, 64], "FP32")
    image.set_data_from_numpy(np.zeros((1, 64), np.float32))
    return client.infer("digits-mlp", [image])


def test_the_index_names_every_version(client):
    assert index(client)[("digits-mlp", "1")] == "READY"
    assert ("types", "1") in index(client)


def test_what_is_unloaded_is_not_ready_until_it_is_loaded(client):
    client.unload_model("digits-mlp")
    try:
        assert not client.is_model_ready("digits-mlp")
        assert index(client)[("digits-mlp", "1")] == "UNAVAILABLE"
        with pytest.raises(InferenceServerException, match="is unloaded"):
            infer(client)
    finally:
        client.load_model("digits-mlp")
    assert client.is_model_ready("digits-mlp")
    assert infer(client).as_numpy("probabilities").shape == (1, 10)


def test_what_can_not_be_loaded_is_said(client):
    with pytest.raises(InferenceServerException, match="absent"):
        client.load_model("absent")
    with pytest.raises(InferenceServerException, match="parameters.config"):
        client.load_model("digits-mlp", config="{}")
    with pytest.raises(InferenceServerException, match="unload_dependents"):
        client.unload_model("digits-mlp", unload_dependents=True)
    assert client.is_model_ready("digits-mlp")

"""Trains the next-letter model: the last eight letters of a text to the probabilities of the next.

Reads mill.txt and writes next-letter.onnx beside this file. Run it with the packages of
requirements.txt:

    python3 -m venv /tmp/letters && /tmp/letters/bin/pip install -r requirements.txt
    /tmp/letters/bin/python train.py

The seed is fixed and training uses one thread, so a second run on the same machine writes the
same file; another processor may round differently.
"""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from sklearn.neural_network import MLPClassifier

SEED = 2
CONTEXT = 8
# The function stream-tokens has the same, in the same order.
ALPHABET = "\n ,.abcdefghijklmnopqrstuvwxyz"
FOLDER = Path(__file__).parent


def numbers_of(text):
    """The letters as their places in the alphabet, after a blank line as long as the context."""
    return np.array([ALPHABET.index(letter) for letter in "\n" * CONTEXT + text])


def windows(numbers):
    """Every run of eight letters, and the letter that follows it."""
    runs = np.lib.stride_tricks.sliding_window_view(numbers, CONTEXT + 1)
    return runs[:, :CONTEXT], runs[:, CONTEXT]


def train(contexts, letters):
    model = MLPClassifier(
        hidden_layer_sizes=(96,),
        alpha=1e-4,
        batch_size=64,
        learning_rate_init=2e-3,
        max_iter=60,
        n_iter_no_change=60,
        random_state=SEED,
    )
    return model.fit(np.eye(len(ALPHABET))[contexts].reshape(len(contexts), -1), letters)


def graph(model):
    """The network as an ONNX graph that takes numbers of letters: their encoding is part of it."""
    size = len(ALPHABET)
    constants = {
        "letter": np.eye(size, dtype=np.float32),
        "flat": np.array([-1, CONTEXT * size], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["letter", "letters"], ["encoded"]),
        helper.make_node("Reshape", ["encoded", "flat"], ["row"]),
    ]
    current, last = "row", len(model.coefs_) - 1
    for layer, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_)):
        constants[f"weights{layer}"] = weights.astype(np.float32)
        constants[f"bias{layer}"] = bias.astype(np.float32)
        inputs = [current, f"weights{layer}", f"bias{layer}"]
        nodes.append(helper.make_node("Gemm", inputs, [f"sum{layer}"]))
        if layer < last:
            nodes.append(helper.make_node("Relu", [f"sum{layer}"], [f"hidden{layer}"]))
        current = f"hidden{layer}"
    nodes.append(helper.make_node("Softmax", [f"sum{last}"], ["probabilities"], axis=-1))
    return helper.make_graph(
        nodes,
        "next-letter",
        [helper.make_tensor_value_info("letters", TensorProto.INT64, ["batch", CONTEXT])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def main():
    contexts, letters = windows(numbers_of((FOLDER / "mill.txt").read_text()))
    assert set(letters) == set(range(len(ALPHABET))), "a letter that is never seen has no output"
    model = train(contexts, letters)
    onnx_model = helper.make_model(
        graph(model),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="functions/next-letter/train.py",
    )
    checker.check_model(onnx_model, full_check=True)
    save(onnx_model, FOLDER / "next-letter.onnx")
    encoded = np.eye(len(ALPHABET))[contexts].reshape(len(contexts), -1)
    print(f"{len(letters)} letters, {model.score(encoded, letters):.3f} of them predicted")


if __name__ == "__main__":
    main()

"""Trains the digits-mlp model: handwritten 8x8 digits to ten probabilities.

Writes digits.csv (the data with its split), digits-mlp.onnx and accuracy.json beside this
file. Run it with the packages of requirements.txt:

    python3 -m venv /tmp/digits && /tmp/digits/bin/pip install -r requirements.txt
    /tmp/digits/bin/python train.py

The seed is fixed and training uses one thread, so a second run on the same machine writes the
same files; another processor may round differently.
"""

import csv
import json
import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 2
HELD_OUT = 360
BRIGHTEST = 16.0
FOLDER = Path(__file__).parent


def shifted(images):
    """The images and their copies moved by one pixel up, down, left and right."""
    squares = images.reshape(-1, 8, 8)
    padded = np.pad(squares, ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return np.concatenate([padded[:, y : y + 8, x : x + 8].reshape(-1, 64) for y, x in moves])


def train(images, labels):
    model = MLPClassifier(
        hidden_layer_sizes=(128, 64),
        alpha=1e-3,
        batch_size=64,
        learning_rate_init=1e-3,
        max_iter=60,
        n_iter_no_change=60,
        random_state=SEED,
    )
    return model.fit(shifted(images) / BRIGHTEST, np.tile(labels, 5))


def graph(model):
    """The network as an ONNX graph that takes raw pixels: normalisation is part of it."""
    constants = {"brightest": np.array(BRIGHTEST, dtype=np.float32)}
    nodes = [helper.make_node("Div", ["image", "brightest"], ["scaled"])]
    current, last = "scaled", len(model.coefs_) - 1
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
        "digits-mlp",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def write_data(images, labels, held_out):
    with open(FOLDER / "digits.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([f"pixel{i}" for i in range(64)] + ["label", "split"])
        for image, label, test in zip(images.astype(int), labels, held_out):
            rows.writerow([*image, label, "test" if test else "train"])


def main():
    images, labels = load_digits(return_X_y=True)
    _, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    test = np.isin(np.arange(len(labels)), held_out)
    write_data(images, labels, test)

    model = train(images[~test], labels[~test])
    correct = int((model.predict(images[test] / BRIGHTEST) == labels[test]).sum())

    onnx_model = helper.make_model(
        graph(model),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="functions/digits-mlp/train.py",
    )
    checker.check_model(onnx_model, full_check=True)
    save(onnx_model, FOLDER / "digits-mlp.onnx")

    result = {"held_out": HELD_OUT, "correct": correct, "accuracy": correct / HELD_OUT}
    (FOLDER / "accuracy.json").write_text(json.dumps(result) + "\n")
    print(result)


if __name__ == "__main__":
    main()

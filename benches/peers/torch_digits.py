"""The network of functions/train-digits in PyTorch, on the same data with the same steps:
torch_digits.py DIGITS.CSV THREADS EPOCHS prints how long it took and what came of it, as JSON."""

import csv
import json
import sys
import time

import torch
from torch import nn

BATCH = 32
RATE = 0.003
BRIGHTEST = 16


def load(path):
    """Images and labels to train on, and those that are held out."""
    parts = {"train": ([], []), "test": ([], [])}
    with open(path, encoding="utf-8") as file:
        for *cells, part in csv.reader(file):
            if part in parts:
                images, labels = parts[part]
                images.append([float(pixel) / BRIGHTEST for pixel in cells[:64]])
                labels.append(int(cells[64]))
    return [
        (torch.tensor(images).reshape(-1, 1, 8, 8), torch.tensor(labels))
        for images, labels in parts.values()
    ]


def train(digits, held_out, epochs):
    """Trains; the share of the held-out images that it reads right."""
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    loss_of = nn.CrossEntropyLoss(reduction="none")
    accuracy = 0.0
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = RATE * (1 - epoch / epochs)
        order = torch.randperm(len(digits[1]))
        images, labels = digits[0][order], digits[1][order]
        total = torch.zeros(())
        for start in range(0, len(order), BATCH):
            losses = loss_of(network(images[start : start + BATCH]), labels[start : start + BATCH])
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            total += losses.detach().sum()
        with torch.inference_mode():
            right = network(held_out[0]).argmax(-1) == held_out[1]
            accuracy = right.float().mean().item()
    return accuracy


def main():
    """What the command line asks for."""
    path, threads, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    begin = time.perf_counter()
    digits, held_out = load(path)
    accuracy = train(digits, held_out, epochs)
    seconds = time.perf_counter() - begin
    version = torch.__version__.split("+")[0]
    print(json.dumps({"seconds": seconds, "accuracy": accuracy, "version": version}))


main()

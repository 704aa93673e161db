"""NVIDIA's load generator, where it is installed: `make test-conformance PERF_ANALYZER=1` does
that. Only whether it finds what it needs is looked at, never how quick it is."""

import csv
import os
import subprocess

import pytest

from server import ROOT

FOLDER = ROOT / ".quern/perf_analyzer"
pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="make test-conformance PERF_ANALYZER=1 installs it"
)

# A window of a second is enough, however much it varies.
BRIEFLY = ["--measurement-interval=1000", "--stability-percentage=999", "--max-trials=3"]


def load(server, file, *options):
    """What is measured at each level of load."""
    command = [FOLDER / "perf_analyzer", "-u", server.address, "-f", file, *BRIEFLY, *options]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(file, newline="") as rows:
        return list(csv.DictReader(rows))


@pytest.mark.parametrize(
    "model",
    [["digits-mlp", "-b1"], ["digits", "--shape=image:1,64", "--input-data=zero"]],
    ids=["a model", "a function"],
)
@pytest.mark.parametrize(
    "way",
    [
        ["-i", "http"],
        ["-i", "http", "--async"],
        ["-i", "http", "--input-tensor-format=json", "--output-tensor-format=json"],
        ["-i", "grpc"],
        ["-i", "grpc", "--async"],
        ["-i", "grpc", "--streaming"],
        ["-i", "grpc", "--grpc-compression-algorithm=gzip"],
    ],
    ids=lambda way: " ".join(way),
)
def test_a_model_is_loaded_each_way(server, tmp_path, model, way):
    rows = load(server, tmp_path / "load.csv", "-m", *model, *way)
    assert float(rows[0]["Inferences/Second"]) > 0
    # What it finds in the statistics of the server.
    assert float(rows[0]["Server Compute Infer"]) > 0


def test_load_is_raised_and_rows_come_together(server, tmp_path):
    levels = load(
        server, tmp_path / "load.csv", "-m", "digits-mlp", "-b8", "--concurrency-range=1:4:3"
    )
    assert [row["Concurrency"] for row in levels] == ["1", "4"]
    assert all(float(row["Inferences/Second"]) > 0 for row in levels)

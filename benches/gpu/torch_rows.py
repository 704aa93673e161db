"""Measures in PyTorch, on the same machine, what `gpu-suite bench` has measured: eager and compiled.

    python3 torch_rows.py results/gpu-DATE.json

Reads the rows of that file, runs the same operators on the same shapes and types, and writes
torch-gpu-DATE.json and torch-gpu-DATE.md beside it: each row with PyTorch's times and the ratio to
the better one. Rows that PyTorch has nothing for are kept as they are. Needs torch with CUDA.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

AIM = 0.9
ROUNDS = 5
PERIOD_S = 0.1
DTYPES = {"FP16": "float16", "BF16": "bfloat16", "FP32": "float32", "FP64": "float64"}


def operators(torch):
    """Functions of the inputs, by the names that the rows have."""
    functional = torch.nn.functional

    def attention(causal):
        return lambda q, k, v: functional.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=causal
        )[0]

    return {
        "add": lambda x, y: x + y,
        "add a row": lambda x, y: x + y,
        "relu": torch.relu,
        "exp": torch.exp,
        "gelu": functional.gelu,
        "sum": lambda x: x.sum(),
        "sum of rows": lambda x: x.sum(1),
        "sum of columns": lambda x: x.sum(0),
        "softmax": lambda x: torch.softmax(x, -1),
        "layer norm": lambda x, w, b: functional.layer_norm(x, w.shape, w, b),
        "RMS norm": lambda x, w: functional.rms_norm(x, w.shape, w, 1e-5),
        "cumulative sum": lambda x: x.cumsum(1),
        "concat": lambda x, y: torch.cat([x, y]),
        "copy": lambda x: x.clone(),
        "turn": lambda x: x.t().contiguous(),
        "gather rows": lambda x, i: x[i],
        "attention": attention(False),
        "causal attention": attention(True),
        "sort": lambda x: torch.sort(x, stable=True),
        "sort rows": lambda x: torch.sort(x, dim=1, stable=True),
        "top-k of rows": lambda x: torch.topk(x, min(64, x.shape[1]), dim=1),
        "matmul": torch.matmul,
        "matmul by own kernels": torch.matmul,
    }


def inputs_of(torch, row, device):
    """Tensors of a row's shapes; of a gather the last is of indices."""
    dtype = getattr(torch, DTYPES[row["dtype"]])
    shapes = list(row["inputs"])
    indices = shapes.pop() if row["operator"] == "gather rows" else None
    tensors = [torch.rand(shape, device=device).sub(0.5).to(dtype) for shape in shapes]
    if indices is not None:
        rows = shapes[0][0]
        tensors.append((torch.arange(indices[0], device=device) * 7919) % rows)
    return tensors


def seconds(torch, call, device):
    """What a call takes where one follows the other, the middle one of a few rounds."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        call()
    wait()
    times, found = 1, []
    while len(found) < ROUNDS:
        begin = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        took = time.perf_counter() - begin
        if took < PERIOD_S and times < 1 << 20:
            times *= 2
            continue
        found.append(took / times)
    return statistics.median(found)


def measure(torch, row, device):
    """PyTorch's seconds for a row: eager, compiled (none where it can't be compiled)."""
    function = operators(torch)[row["operator"]]
    tensors = inputs_of(torch, row, device)
    eager = seconds(torch, lambda: function(*tensors), device)
    try:
        torch.compiler.reset()
        compiled = torch.compile(function)
        return eager, seconds(torch, lambda: compiled(*tensors), device)
    except Exception as error:  # whatever a compiler may raise; the row says that there is none
        print(f"  not compiled: {error!r:.200}", file=sys.stderr)
        return eager, None


def markdown(report):
    """The merged rows as a table."""
    machine, torch = report["machine"], report["torch"]
    lines = ["# Kernels beside PyTorch", ""]
    if machine["mock"] or torch["device"] != "cuda":
        lines[0] += ": NO GPU, these figures mean nothing"
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    lines += [f"- PyTorch: {torch['version']} on {torch['device']}", ""]
    lines += ["| what | of | ours | eager | compiled | ratio to the better |", "|---|---|---|---|---|---|"]
    for row in report["rows"]:
        if "eager" not in row:
            continue
        shapes = ", ".join("×".join(map(str, dims)) for dims in row["inputs"])
        shown = lambda s: "–" if s is None else f"{s * 1e6:.1f} µs"
        verdict = "met" if row["ratio_to_torch"] >= AIM else "missed"
        lines.append(
            f"| {row['operator']} | {row['dtype']} {shapes} | {shown(row['value'])} | "
            f"{shown(row['eager'])} | {shown(row['compiled'])} | "
            f"**{row['ratio_to_torch']:.2f}** (aim ≥ {AIM}: {verdict}) |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("torch_rows.py: torch is not installed here: pip install torch")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_rows.py: torch finds no CUDA device here")
    # As ours: FP32 is multiplied as it is.
    torch.backends.cuda.matmul.allow_tf32 = False
    report = json.loads(arguments.results.read_text())
    report["torch"] = {"version": torch.__version__, "device": arguments.device}
    known = operators(torch)
    with torch.inference_mode():
        for row in report["rows"]:
            if row["operator"] not in known or row["dtype"] not in DTYPES or row["unit"] != "seconds":
                continue
            print(f"{row['operator']} of {row['dtype']} {row['inputs']}", flush=True)
            row["eager"], row["compiled"] = measure(torch, row, arguments.device)
            better = min(time for time in (row["eager"], row["compiled"]) if time is not None)
            row["ratio_to_torch"] = better / row["value"]
    stem = arguments.results.with_name("torch-" + arguments.results.stem)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    stem.with_suffix(".md").write_text(markdown(report))
    print(f"written: {stem}.json and {stem}.md")


if __name__ == "__main__":
    main()

"""Writes what became of the cases into docs/conformance.md, between its markers."""

import datetime
import pathlib
import re
import subprocess
from collections import Counter
from importlib import metadata

from nodes import cases
from nodes.outcomes import FAILED, PASSED, REFUSED, UNCHECKED, WRONG

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/conformance.md"
BEGIN, END = "<!-- begin nodes -->\n", "<!-- end nodes -->\n"

# The forms in which cases are run.
AS_THEY_ARE, ROW_BY_ROW = "as-they-are", "row-by-row"

# Reasons as the server gives them, and what they have in common; the first that fits counts.
GROUPS = [
    (r'" is an? (sequence|map|sparse tensor|optional value)', r"inputs and outputs: \1s"),
    (r"ONNX type STRING", r"inputs and outputs: texts"),
    (r"has elements of ONNX type", r"inputs and outputs: floats of 8 bits, numbers of 4 and fewer"),
    (r'" is BF16, which it has not', r"inputs and outputs: BF16"),
    (
        r"an? (Attention gives|MaxUnpool has|Resize aligns)",
        r"it would compute otherwise than ONNX says",
    ),
    (r"Opset \d+ is under development", r"an operator set that is newer than the engine"),
    (
        r"is not a registered function|Could not find an implementation|Unimplemented\(",
        r"an operator that it has not, or not in this version or for this type",
    ),
    (r"layout_ == 0 was false", r"a recurrent operator whose first dimension counts rows"),
    (
        r"(as|be|is|to be) a? ?const|constant and explicit|is variable|be determined|known scalar"
        r"|can not be typed|Neither sizes nor scales",
        r"a parameter of an operator comes with the call, which it wants in the file",
    ),
    (
        r"Failed analyse|ToTypedTranslator|Building node|translating to fact",
        r"something else that it can't plan",
    ),
]


# The columns of outcomes, by the form in which the cases are run.
COLUMNS = {
    AS_THEY_ARE: {
        PASSED: "passed",
        REFUSED: "refused at deployment",
        FAILED: "error at the call",
        UNCHECKED: "not compared",
        WRONG: "wrong",
    },
    ROW_BY_ROW: {
        PASSED: "batched, and right",
        UNCHECKED: "not batched",
        REFUSED: "refused at deployment",
        FAILED: "error at the call",
        WRONG: "wrong",
    },
}

ROWS = """### Row by row

The same cases, but with a first dimension that varies, as if it counted rows. Where the \
[trial](decisions/batching-trial.md) finds that it does, every row is sent in a call of its own, \
several times, all at the same time, so that the server makes runs of them; what comes out must be \
what the whole gives.
"""


def counts(found):
    """The numbers of outcomes, in a line."""
    kinds = Counter(outcome.kind for outcome in found.values())
    return ", ".join(f"{kinds[kind]} {kind}" for kind in COLUMNS[AS_THEY_ARE])


def write(engines, results):
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + text(engines, results) + END + after)


def text(engines, results):
    """What is between the markers."""
    found = {engine: results[engine, AS_THEY_ARE] for engine in engines}
    return "\n".join(
        [
            circumstances(engines, len(next(iter(found.values())))),
            numbers(engines, results, AS_THEY_ARE),
            "Why they were refused:\n",
            reasons(found),
            f"Errors at the call: {failures(found)}.\n",
            ROWS,
            numbers(engines, results, ROW_BY_ROW),
        ]
    )


def circumstances(engines, total):
    """When this was run, and with what."""
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True)
    versions = ", ".join(f"{engine} {version}" for engine, version in engines.items())
    return (
        f"{datetime.date.today()}, commit {commit.stdout.strip()}: {versions}; "
        f"{total} cases of `onnx` {metadata.version('onnx')}.\n"
    )


def numbers(engines, results, form):
    """A table of how many cases became what, by engine."""
    rows = []
    for engine in engines:
        kinds = Counter(outcome.kind for outcome in results[engine, form].values())
        rows.append([engine, *(str(kinds[kind]) for kind in COLUMNS[form])])
    return table(["engine", *COLUMNS[form].values()], rows)


def reasons(found):
    """A table of why cases were refused, by engine."""
    counted = {
        engine: Counter(group(outcome.reason) for outcome in of.values() if outcome.kind == REFUSED)
        for engine, of in found.items()
    }
    every = sum(counted.values(), Counter()).most_common()
    rows = [[common, *(str(of[common] or "–") for of in counted.values())] for common, _ in every]
    return table(["reason", *found], rows)


def group(reason):
    """What a reason has in common with others."""
    for pattern, common in GROUPS:
        match = re.search(pattern, reason)
        if match:
            return match.expand(common)
    return re.sub(r'"[^"]*"|\d+', "…", reason)[:120]


def failures(found):
    """The cases that failed when they were called, with their engines."""
    named = [
        f"`{name}` on {engine}"
        for engine, of in found.items()
        for name, outcome in of.items()
        if outcome.kind == FAILED
    ]
    return ", ".join(named) or "none"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

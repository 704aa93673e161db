"""What became of a case: deployed, called and compared, on one engine."""

import dataclasses
import itertools
import traceback

import numpy as np
from onnx.backend.test.runner import Runner

from nodes import cases, wire

PASSED, REFUSED, FAILED, WRONG, UNCHECKED = "passed", "refused", "failed", "wrong", "unchecked"
# What a deployment and a call may answer; any other error is a fault of the server.
REFUSALS = ("invalid-model", "invalid-manifest")
FAILURES = ("device-error", "signature-mismatch")

# How often every row is sent: which of them come into a run together differs from time to time.
TIMES = 3

names = itertools.count()


@dataclasses.dataclass
class Outcome:
    """`refused` at the deployment, `failed` with an error at the call, `wrong` in any other way."""

    kind: str
    reason: str = ""


def outcome(client, engine, case, check):
    """Deploys what `check` says of a case, has it checked, and deletes it."""
    if case.unchecked:
        return Outcome(UNCHECKED, case.unchecked)
    try:
        return check(client, engine, case)
    except Exception:  # noqa: BLE001, whatever it is, it is told with the case's name
        return Outcome(WRONG, traceback.format_exc())


def as_it_is(client, engine, case):
    """Whether the model gives what it should."""
    name, answer = deploy(client, engine, case.file())
    if isinstance(answer, Outcome):
        return answer
    try:
        for inputs, expected in case.datasets():
            differs = difference(case, expected, client.infer(name, inputs))
            if differs:
                return Outcome(WRONG, differs)
    except wire.Refused as refused:
        return told(FAILED, FAILURES, refused)
    finally:
        client.delete(name)
    return Outcome(PASSED)


def deploy(client, engine, onnx):
    """The name under which it is deployed, and the answer to that or the outcome."""
    name = f"case-{next(names)}"
    manifest = f'engine = "{engine}"\nlanes = 1\n'
    try:
        return name, client.deploy(name, onnx, manifest)
    except wire.Refused as refused:
        return name, told(REFUSED, REFUSALS, refused)


def told(kind, codes, refused):
    known = refused.code in codes
    return Outcome(kind if known else WRONG, f"{refused.status} {refused.code}: {refused.text}")


def difference(case, expected, outputs):
    """What is wrong with outputs, by the rules of the tests' own runner; none if they are right."""
    try:
        if case.tolerance is None:
            Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)
        else:
            for one, other in zip(expected, outputs, strict=True):
                largest = case.tolerance.largest * float(np.abs(one).max())
                atol = max(case.atol, largest)
                Runner.assert_similar_outputs([one], [other], case.tolerance.each, atol)
    except (AssertionError, ValueError) as error:
        return str(error).strip()
    return None


def row_by_row(client, engine, case, pool):
    """Whether the model gives what it should if its first dimension may vary, the server finds
    that it counts rows, and every row comes in a call of its own, all at the same time."""
    onnx = cases.opened(case)
    if onnx is None:
        return Outcome(UNCHECKED, "a tensor has no dimensions")
    name, answer = deploy(client, engine, onnx)
    if isinstance(answer, Outcome):
        return answer
    try:
        if "rows" not in answer["batch"]:
            return Outcome(UNCHECKED, answer["batch"]["none"]["reason"])
        for inputs, expected in case.datasets():
            counts = {array.shape[0] for array in [*inputs.values(), *expected]}
            if len(counts) != 1 or counts == {0}:
                return Outcome(UNCHECKED, "its tensors have different numbers of rows")
            rows = zip(*(cases.rows(array) for array in inputs.values()), strict=True)
            calls = [dict(zip(inputs, row, strict=True)) for row in rows]
            answers = list(pool.map(lambda call: client.infer(name, call), calls * TIMES))
            for first in range(0, len(answers), len(calls)):
                parts = zip(*answers[first : first + len(calls)], strict=True)
                differs = difference(case, expected, [np.concatenate(part) for part in parts])
                if differs:
                    return Outcome(WRONG, differs)
    except wire.Refused as refused:
        return told(FAILED, FAILURES, refused)
    finally:
        client.delete(name)
    return Outcome(PASSED)

"""What every case became when it was last looked at, so that one which gets worse is noticed."""

import pathlib

from nodes.outcomes import FAILED, PASSED, REFUSED, UNCHECKED, WRONG

FOLDER = pathlib.Path(__file__).parent / "expected"
# From best to worst; a wrong answer is never expected.
RANKS = (PASSED, UNCHECKED, REFUSED, FAILED, WRONG)


def path(engine, form):
    return FOLDER / f"{engine}-{form}.txt"


def read(engine, form):
    """The cases that did not pass, and what became of them."""
    lines = path(engine, form).read_text().splitlines()
    return dict(line.split(" ", 1)[::-1] for line in lines)


def write(engine, form, outcomes):
    lines = [
        f"{outcome.kind} {name}\n"
        for name, outcome in sorted(outcomes.items())
        if outcome.kind not in (PASSED, WRONG)
    ]
    path(engine, form).write_text("".join(lines))


def complaints(engine, form, outcomes):
    """What is worse than expected, or not to be expected at all."""
    expected = read(engine, form)
    for name, outcome in outcomes.items():
        before = expected.get(name, PASSED)
        if outcome.kind == WRONG or RANKS.index(outcome.kind) > RANKS.index(before):
            yield f"{engine}, {form}: {name} {outcome.kind}, expected {before}: {outcome.reason}"

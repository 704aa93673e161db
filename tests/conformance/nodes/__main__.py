"""Runs the standard's own test cases against each engine of a server, over HTTP.

    python -m nodes [--write] [part of a name]

Fails if a case gets a wrong answer, or is worse off than when the page was last written."""

import argparse
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

from nodes import cases, expected, outcomes, page, wire
from server import Server

# Calls at the same time: of cases, and of the rows of one case.
CASES, ROWS = 6, 12


def main():
    parser = argparse.ArgumentParser(prog="nodes", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("part", nargs="?", default="", help="only cases with this in their name")
    arguments = parser.parse_args()
    # Of numpy, about overflows that the cases are about.
    warnings.simplefilter("ignore")
    chosen = [case for case in cases.every_case() if arguments.part in case.name]
    with Server(log=False) as server, ThreadPoolExecutor(ROWS) as rows:
        client = wire.Client(server.address)
        forms = {
            page.AS_THEY_ARE: outcomes.as_it_is,
            page.ROW_BY_ROW: lambda *case: outcomes.row_by_row(*case, rows),
        }
        engines = client.engines()
        results = {
            (engine, form): run(client, engine, form, chosen, check)
            for engine in engines
            for form, check in forms.items()
        }
    if arguments.write:
        assert not arguments.part, "the page is of all cases"
        for (engine, form), found in results.items():
            expected.write(engine, form, found)
        page.write(engines, results)
    wrong = [line for of, found in results.items() for line in expected.complaints(*of, found)]
    sys.exit("\n".join(wrong) or None)


def run(client, engine, form, chosen, check):
    """What becomes of each case."""
    begun = time.monotonic()
    with ThreadPoolExecutor(CASES) as pool:
        found = pool.map(lambda case: outcomes.outcome(client, engine, case, check), chosen)
        found = dict(zip((case.name for case in chosen), found, strict=True))
    print(f"{engine}, {form}: {page.counts(found)}, {time.monotonic() - begun:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()

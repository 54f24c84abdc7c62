"""Break the lines of the table one by one in a copy of the checkout, and run the tests that must notice.

    python -m tests.mutants [--only TEXT]...

The same tests pass in the copy as it is; then each mutant has to make at least one of its tests
fail: in the test itself, or by what the test leaves behind.  A test that cannot be collected or set
up has caught nothing.  Exits with 1 when a mutant survived, or a row is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.mutants import copied
from tests.mutants.table import MUTANTS, Mutant

NOT_CAUGHT_BY = {
    "NameError",
    "SyntaxError",
    "IndentationError",
    "ImportError",
    "ModuleNotFoundError",
}
"""What is raised in the place of an answer when a replacement is no sound program."""

SECONDS = 300
"""For the tests of one mutant."""

SECONDS_OF_HANGING = 60
"""For those that need not end; as they are they take a few."""

Told = list[tuple[str, str, str, str]]


def run_tests(tests: Iterable[str], *, first: bool, seconds: int) -> Told | None:
    """Run tests in the copy; return what became of each phase of each, None: they did not end."""
    report = copied.PLACE / "report"
    report.write_bytes(b"")
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants.plugin"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copied.TREE}/src",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CK_MUTANTS_REPORT": str(report),
    }
    with (copied.PLACE / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, *(["-x"] if first else []), "-q", *tests],
            cwd=copied.TREE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [tuple(json.loads(line)) for line in report.read_text(encoding="utf-8").splitlines()]


def of(told: Told, tests: Iterable[str]) -> Told:
    """Return what was told of some tests: a name without brackets is all of its parameters."""
    return [
        one
        for one in told
        if any(one[0] == t or one[0].startswith((f"{t}[", f"{t}::")) for t in tests)
    ]


def fault_of_baseline(told: Told, mutant: Mutant) -> str | None:
    """Say what is wrong with the tests of a row before anything is broken."""
    for test in mutant.tests:
        mine = of(told, [test])
        if not any(when == "call" and outcome == "passed" for _, when, outcome, _ in mine):
            skipped = any(outcome == "skipped" for _, _, outcome, _ in mine)
            return f"{'skipped' if skipped else 'broken row'}: {test} does not pass as it is"
        if any(outcome == "failed" for _, _, outcome, _ in mine):
            return f"broken row: {test} fails as it is"
    return None


def verdict(mutant: Mutant) -> str:
    """Break the line and say what came of it."""
    path = copied.TREE / mutant.file
    try:
        text = mutant.apply(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"broken row: {error}"
    try:
        with copied.replaced(mutant.file, text):
            seconds = SECONDS_OF_HANGING if mutant.hangs else SECONDS
            told = run_tests(mutant.tests, first=True, seconds=seconds)
    except copied.BuildFailed as error:
        return f"broken row: {error}"
    if told is None:
        return "caught" if mutant.hangs else "broken row: the tests do not end"
    failed = [(test, when, error) for test, when, outcome, error in told if outcome == "failed"]
    caught = [
        test
        for test, when, error in failed
        if when in ("call", "teardown") and error not in NOT_CAUGHT_BY
    ]
    if caught:
        return "caught"
    if failed:
        return f"broken row: {failed[0][0]} fails at {failed[0][1]}, {failed[0][2]}"
    return "SURVIVED"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        help="rows with this text in their file or meaning; again for others beside them",
    )
    wanted = parser.parse_args().only or [""]
    for text in wanted:
        if not any(text in f"{m.file} {m.breaks}" for m in MUTANTS):
            parser.error(f"no row has {text!r} in its file or meaning")
    chosen = [m for m in MUTANTS if any(text in f"{m.file} {m.breaks}" for text in wanted)]
    results: dict[str, int] = {}
    with copied.copy():
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        baseline = run_tests(tests, first=False, seconds=SECONDS * len(chosen))
        plain = Path(copied.PLACE / "output").read_text(encoding="utf-8", errors="replace")
        if not baseline:
            print(f"the tests do not run as they are:\n{plain[-4000:]}")
            return 1
        for mutant in chosen:
            began = time.monotonic()
            said = fault_of_baseline(baseline, mutant) or verdict(mutant)
            word = said.partition(":")[0]
            results[word] = results.get(word, 0) + 1
            took = time.monotonic() - began
            print(
                f"{said.splitlines()[0]:<9} {took:5.1f} s  {Path(mutant.file).name}: {mutant.breaks}"
            )
            sys.stdout.flush()
            if word == "broken row":
                print(said)
    print("mutants:", ", ".join(f"{count} {word}" for word, count in sorted(results.items())))
    return 1 if results.keys() - {"caught", "skipped"} else 0


if __name__ == "__main__":
    sys.exit(main())

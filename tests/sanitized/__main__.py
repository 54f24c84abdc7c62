"""Run the Python tests on the sanitized build.

    python -m tests.sanitized [ARGUMENT OF PYTEST …]

Exits with 1 when a test failed, or a sanitizer reported anything of our code, even where no test
noticed.  Left out: the fault sweeps, which have a build of their own; what measures a build; and what
executes the launcher's program in a container, where this one, which is not static, can not be.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

from tests.sanitized.build import REPORTS, build

LEFT_OUT = (
    "--ignore=tests/faults",
    "--deselect=tests/integration/test_packaging.py",
    "--deselect=tests/unit/test_import_cost.py",
    "--deselect=tests/integration/files/test_trees.py::test_a_large_file_streams",
    "--deselect=tests/integration/logs/test_init.py::test_nothing_of_the_launchers_table_stays_mapped",
    "--deselect=tests/integration/logs/test_logs.py::test_following_a_flood_costs_little_memory",
    "--deselect=tests/security/test_program.py::test_entering_by_its_own_program",
)
ERROR = re.compile(r"ERROR: AddressSanitizer|runtime error")
LEAK = re.compile(r"^(?:Direct|Indirect) leak .*?(?=^\n|\Z)", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"^ +#[0-4] .*\bck_\w+", re.MULTILINE)
"""A frame of the core, no further from malloc than one of its own functions."""


def findings() -> Iterator[str]:
    """Yield what was reported, and is ours: leaks of CPython are not."""
    for path in sorted(REPORTS.iterdir()):
        text = path.read_bytes()
        if path.name == "page":
            text = text[4:].rstrip(b"\0")
        told = text.decode(errors="replace")
        leaks = LEAK.findall(told)
        yield from (leak for leak in leaks if OURS.search(leak))
        if not leaks and ERROR.search(told):
            yield told


def main() -> int:
    made = build()
    command = [sys.executable, "-m", "pytest", "-p", "tests.sanitized.plugin", *LEFT_OUT]
    code = subprocess.run(
        [*command, *(sys.argv[1:] or ["tests"])], env=made.environment(), check=False
    ).returncode
    found = list(findings())
    for text in found:
        sys.stderr.write(f"{text}\n")
    print(f"sanitizers: {len(found)} findings")
    return 1 if found or code else 0


if __name__ == "__main__":
    sys.exit(main())

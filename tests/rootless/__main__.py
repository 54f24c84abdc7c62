"""`make test-rootless`: tests as an ordinary user, with its own id alone, and with subordinate ids.

    python -m tests.rootless                  a sample
    python -m tests.rootless tests/integration/exec -k terminal

Run by root, it becomes the user of `tests.rootless.user`; by anybody else, it stays who it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

SAMPLE: Final = (
    "tests/rootless",
    "tests/integration/run/test_run.py::test_output_and_code",
    "tests/integration/run/test_run.py::test_check_raises_with_the_result",
    "tests/integration/exec/test_exec.py::test_many_at_once",
)
"""What runs with one id; with more, only the first of these."""


def main(arguments: list[str]) -> int:
    worst = 0
    for ids in (False, True):
        chosen = arguments or list(SAMPLE[:1] if ids else SAMPLE)
        pytest = [sys.executable, "-m", "pytest", "-q", *chosen]
        words = [sys.executable, "-m", "tests.rootless.user", *(["--ids"] if ids else []), *pytest]
        what = "subordinate ids" if ids else "one id"
        sys.stdout.write(f"as an ordinary user with {what}:\n")
        sys.stdout.flush()
        done = subprocess.run(words if os.geteuid() == 0 else pytest, check=False)
        worst = max(worst, done.returncode)
        if os.geteuid():
            break
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

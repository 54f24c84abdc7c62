"""`make test-rootless`: tests as an ordinary user, with its own id alone, and with subordinate ids.

    python -m tests.rootless                  all that runs containers
    python -m tests.rootless --sample         what `make test` runs
    python -m tests.rootless tests/integration/exec -k terminal
    python -m tests.rootless --no-openat2 …   as on a kernel without openat2(2); by root only

Run by root, it becomes the user of `tests.rootless.user`; by anybody else, it stays who it is, and
has the ids that it has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from tests.no_openat2.plugin import refuse_openat2
from tests.rootless import user

ALL: Final = ("tests/rootless", "tests/integration", "tests/security")

SAMPLE: Final[dict[str, tuple[str, ...]]] = {
    "one id": (
        "tests/rootless",
        "tests/integration/run/test_run.py",
    ),
    "subordinate ids": (
        "tests/rootless",
        "tests/security/test_identity.py",
    ),
}
"""The quick ones of each kind."""


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--no-openat2"]:
        refuse_openat2()  # of all that is started from here; an ordinary user alone could not
        arguments = arguments[1:]
    sample = arguments[:1] == ["--sample"]
    modes = ("one id", "subordinate ids") if os.geteuid() == 0 else ("the ids it has",)
    ends: dict[str, str] = {}
    worst = 0
    for mode in modes:
        chosen = arguments[sample:] or (SAMPLE.get(mode, ALL) if sample else ALL)
        words = [sys.executable, "-m", "pytest", "-q", *chosen]
        if os.geteuid() == 0:
            ids = ["--ids"] if mode == "subordinate ids" else []
            words = [sys.executable, "-m", "tests.rootless.user", *ids, *words]
        sys.stdout.write(f"as an ordinary user with {mode}:\n")
        sys.stdout.flush()
        code, ends[mode] = followed(words)
        worst = max(worst, code)
    for mode, end in ends.items():
        sys.stdout.write(f"as an ordinary user with {mode}: {end}\n")
    return worst


def followed(words: list[str]) -> tuple[int, str]:
    """Run a program, show what it says, and return its code and its last line."""
    last = ""
    environment = {**os.environ, user.ASKED: "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        line = b""
        while piece := os.read(process.stdout.fileno(), 4096):
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            *lines, line = (line + piece).split(b"\n")
            last = next((one.decode() for one in reversed(lines) if one), last)
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A process that pulls, for tests of many of them and of killed ones: ``python -m … ROOT NAME``.

With CK_KILL_AT=N it kills itself at the N-th call of a function, Python's or C's, in any thread;
with CK_COUNT=1 it says how many there were.  With CK_WAIT=1 it waits for a line before it pulls.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from containerkit.model.progress import Progress
from tests.support.store import opened


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(root: Path, name: str) -> None:
    made = 0

    def note(event: Progress) -> None:
        nonlocal made
        made += event.action == "verify"

    with opened(root) as store:
        if "CK_WAIT" in os.environ:
            say("ready")
            sys.stdin.readline()
        store.images.pull(name, progress=note)
    say(made)


def profile(kill_at: int) -> count[int]:
    """Count the calls of all threads from here on; die at the given one."""
    calls = count(1)

    def seen(_frame: FrameType, event: str, _argument: Any) -> None:
        if event in {"call", "c_call"} and next(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(seen)
    sys.setprofile(seen)
    return calls


if __name__ == "__main__":
    calls = profile(int(os.environ["CK_KILL_AT"])) if "CK_KILL_AT" in os.environ else None
    main(Path(sys.argv[1]), sys.argv[2])
    sys.setprofile(None)
    if calls is not None:
        say(next(calls))

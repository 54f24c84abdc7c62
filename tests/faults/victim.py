"""The process that suffers: an engine of the fault build, told by JSON lines what to break off.

    python -m tests.faults.victim ROOT IMAGE

Each request is ``[operation, classes, errno, nth]``; the answer says what came of it and what was left.
With errno 0 the process waits at the chosen call to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import containerkit as ck
from tests.faults.build import PLACE
from tests.faults.operations import OPERATIONS, act, undo
from tests.faults.page import Page
from tests.support import leaks

SETTLE = 3.0


def typed(error: BaseException) -> bool:
    """Say whether an error is one that the library promises."""
    return isinstance(error, ck.ContainerKitError | MemoryError)


def leftovers(root: Path) -> set[str]:
    """Return what is there of containers, on disk and open in this process."""
    names = {f"containers/{name}" for name in os.listdir(root / "containers") if name[0] != "."}
    names |= {f"ingest/{name}" for name in os.listdir(root / "ingest")}
    names |= {f"layers/{name}" for name in os.listdir(root / "layers") if name[:2] == ".t"}
    return names | set(leaks.descriptors()) | set(leaks.threads())


def settled(root: Path, before: set[str]) -> list[str]:
    """Return what is left beyond *before*, after waiting for it to go by itself."""
    deadline = time.monotonic() + SETTLE
    while left := leftovers(root) - before:
        if time.monotonic() > deadline:
            return sorted(left)
        time.sleep(0.005)
    return []


class Victim:
    """An engine, an image that is there, and operations to run on them."""

    def __init__(self, root: Path, image: str, page: Page) -> None:
        self.engine = ck.Engine.open(root)
        self.image = image
        self.page = page
        self.engine.images.pull(image, insecure=True)

    def warm(self, name: str) -> None:
        """Run an operation unharmed, so that what is loaded and opened once is."""
        for _ in range(2):
            act(OPERATIONS[name](self.engine, self.image), lambda: None, lambda: None)
        undo(self.engine)

    def suffer(self, name: str, classes: int, error: int, nth: int) -> dict[str, Any]:
        """Run an operation in which one call fails, then the same unharmed."""
        root = self.engine.root
        before = leftovers(root)
        answer: dict[str, Any] = {"outcome": "ok", "left": [], "again": "ok"}
        try:
            act(
                OPERATIONS[name](self.engine, self.image),
                lambda: self.page.arm(classes, error, nth),
                self.page.disarm,
            )
        except Exception as caught:
            answer["outcome"] = describe(caught)
        fault = self.page.look()
        answer |= {"hit": fault.hit, "name": fault.name}
        try:
            undo(self.engine)
            answer["left"] = settled(root, before)
            act(OPERATIONS[name](self.engine, self.image), lambda: None, lambda: None)
        except Exception as caught:
            answer["again"] = describe(caught)
        return answer


def describe(error: Exception) -> str:
    """Return a typed error as "typed: …", another with its trace."""
    if typed(error):
        return f"typed: {type(error).__name__}: {error}"
    return "untyped: " + "".join(traceback.format_exception(error))


def main() -> None:
    with Page(PLACE / "page") as page:
        victim = Victim(Path(sys.argv[1]), sys.argv[2], page)
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            name, *rest = json.loads(line)
            if rest:
                print(json.dumps(victim.suffer(name, *rest)), flush=True)
            else:
                victim.warm(name)
                print(json.dumps("warm"), flush=True)
        victim.engine.close()


if __name__ == "__main__":
    main()

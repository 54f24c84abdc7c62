"""The process that suffers: an engine of the fault build, told by JSON lines what to break off.

    python -m tests.faults.victim ROOT IMAGE

Each request is ``[operation, classes, errno, nth]``; the answer says what came of it and what was left.
With errno 0 the process waits at the chosen call to be killed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import containerkit as ck
from containerkit.runtime import idclaims, marks
from tests.faults.build import PLACE
from tests.faults.operations import OPERATIONS, act, undo
from tests.faults.page import CLASSES, NEVER, Page
from tests.support import claims, leaks

SETTLE = 60.0
HANGS = 150.0
"""Seconds until a victim that hangs says where."""


def typed(error: BaseException) -> bool:
    """Say whether an error is one that the library promises."""
    return isinstance(error, ck.ContainerKitError | MemoryError)


def leftovers(engine: ck.Engine) -> set[str]:
    """Return what is there of containers, on disk and open in this process.

    A layer that has come in part is none of it: the next pull goes on with it.  Nor is the catalog:
    while one connection has it open, SQLite keeps the descriptors of others that were closed, for
    the next ones (their log is closed at once, and counted).
    """
    root = engine.root
    names = {f"containers/{name}" for name in os.listdir(root / "containers") if name[0] != "."}
    names |= {f"ingest/{name}" for name in os.listdir(root / "ingest") if name[:3] != "sha"}
    names |= {f"owners/{name}" for name in os.listdir(root / "owners")}
    names |= {path.name for path in Path("/run/containerkit", run_name(root)).glob("*.sock")}
    names |= {f"layers/{name}" for name in os.listdir(root / "layers") if name[:2] == ".t"}
    names |= set(ranges(engine))
    names |= {name for name in leaks.descriptors() if not name.endswith("/catalog.sqlite")}
    names |= set(leaks.threads())
    ours = tuple(of_launcher(engine))
    return {name for name in names if not any(one.fullmatch(name) for one in ours)}


def ranges(engine: ck.Engine) -> Iterator[str]:
    """Yield ranges of ids that are not free for the engine's next container, while none runs."""
    there = claims.of(engine.root)
    own = engine._runner._ranges
    known = ([], []) if own is None else (own._taken, own._free)
    taken, free = ({idclaims.name_of(engine.root, ids) for ids in each} for each in known)
    for first, holder in there.items():
        if first not in free:
            yield f"ids/{first} of {holder}"
    yield from (f"ids/{first} in use" for first in taken - free)
    yield from (f"ids/{first} without a claim" for first in free - there.keys())


def run_name(root: Path) -> str:
    """Return the name of the directory of the sockets of a root."""
    status = os.stat(root)
    return f"{status.st_dev:x}:{status.st_ino:x}"


def of_launcher(engine: ck.Engine) -> Iterator[re.Pattern[str]]:
    """Yield patterns of what the engine's own launcher has; when one dies, another one comes."""
    launcher = engine._runner._launcher
    if launcher is not None:
        yield re.compile(f"(owners/)?{launcher.id}(.sock)?")
        yield re.compile(f"({launcher._control.fileno()}|{launcher._pidfd}) -> .*")


def is_debris(engine: ck.Engine, name: str) -> bool:
    """Whether something was left by a launcher that died, or a removal that was refused half-way.

    What else is left of a container, nothing excuses.
    """
    if name.startswith("containers/gone-"):
        return True
    if name.startswith("ids/"):
        return idclaims._is_stale(str(engine.root), name.partition(" of ")[2])
    owner = marks.owner_of(marks.read(engine.root / name) or "")
    return owner is not None and not engine._keeper.is_alive(owner)


def settled(engine: ck.Engine, before: set[str]) -> list[str]:
    """Return what is left beyond *before*, after waiting for it to go by itself."""
    deadline = time.monotonic() + SETTLE
    if any(is_debris(engine, name) for name in leftovers(engine) - before):
        engine.recover()
    while left := leftovers(engine) - before:
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
        self.engine._runner.lowers._held()  # the first copy of layers leaves it until the end

    def warm(self, name: str) -> None:
        """Run an operation unharmed, so that what is loaded and opened once is."""
        for _ in range(2):
            act(OPERATIONS[name](self.engine, self.image), lambda: None, lambda: None)
        undo(self.engine)

    def count(self, name: str) -> dict[str, int]:
        """Return how many calls of each kind an operation makes, unharmed."""
        made = {}
        for kind, bit in CLASSES.items():

            def count(bit: int = bit) -> None:
                self.page.arm(bit, 0, NEVER)

            act(OPERATIONS[name](self.engine, self.image), count, lambda: None)
            made[kind] = self.page.disarm().counted
        undo(self.engine)
        return made

    def suffer(self, name: str, classes: int, error: int, nth: int) -> dict[str, Any]:
        """Run an operation in which one call fails, then the same unharmed."""
        before = leftovers(self.engine)
        faulthandler.dump_traceback_later(HANGS)
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
            answer["left"] = settled(self.engine, before)
            act(OPERATIONS[name](self.engine, self.image), lambda: None, lambda: None)
        except Exception as caught:
            answer["again"] = describe(caught)
        faulthandler.cancel_dump_traceback_later()
        return answer


def describe(error: Exception) -> str:
    """Return a typed error as "typed: …", another with its trace."""
    if typed(error):
        return f"typed: {type(error).__name__}: {error}"
    return "untyped: " + "".join(traceback.format_exception(error))


def main() -> None:
    faulthandler.enable()
    with Page(PLACE / "page") as page:
        victim = Victim(Path(sys.argv[1]), sys.argv[2], page)
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            name, *rest = json.loads(line)
            if rest == ["count"]:
                print(json.dumps(victim.count(name)), flush=True)
            elif rest:
                print(json.dumps(victim.suffer(name, *rest)), flush=True)
            else:
                victim.warm(name)
                print(json.dumps("warm"), flush=True)
        victim.engine.close()


if __name__ == "__main__":
    main()

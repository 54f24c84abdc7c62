"""The launcher is the parent of what enters a container, and of nothing that is made there.

clone(2) with CLONE_PARENT makes a sibling.  Nobody would wait for one of an exec or a health check: it
stays a zombie, and the container's first process does not end before all others are waited for
(pid_namespaces(7)): the container could not be stopped, nor its launcher end.  Filters refuse the flag;
without one, the launcher waits for who nobody knows.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import attrs
import pytest

import containerkit as ck
from tests.support.patience import until

SIBLINGS = 20


def children(parent: int) -> list[str]:
    """Return the names of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after.split()[1]) == parent:
            found.append(before.partition("(")[2])
    return found


def has_none(parent: int, stay: tuple[str, ...] = ()) -> bool:
    return bool(stay) or "sibling" not in children(parent)


def launcher_of(box: ck.Container) -> int:
    assert box.pid is not None
    status = Path(f"/proc/{box.pid}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def test_no_child_is_made_for_the_launcher(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    check = ck.Healthcheck(f"/attacks/sibling {SIBLINGS} >/dev/shm/said", interval=0.05)
    command = ["sleep", "100000"]
    with engine.start(hostile, command, security=security, healthcheck=check) as box:
        assert box.exec(["/attacks/sibling", str(SIBLINGS)], text=True).stdout == "0\n"
        box.wait_ready(healthy=True)
        assert box.exec(["cat", "/dev/shm/said"], text=True).stdout == "0\n"
        assert "sibling" not in children(launcher_of(box))


@pytest.mark.parametrize("stay", [(), ("stay",)])
def test_those_that_are_made_all_the_same(
    engine: ck.Engine, hostile: str, security: ck.Security, stay: tuple[str, ...]
) -> None:
    """The control, without a filter: they are made; the container ends, by itself and by others."""
    command = ["/attacks/sibling", str(SIBLINGS), *stay]
    free = attrs.evolve(security, seccomp="unconfined")
    script = "while ! test -e /dev/shm/end; do sleep 0.1; done"
    for end in ("touch /dev/shm/end", "true"):
        box = engine.start(hostile, ["sh", "-c", script], security=free)
        launcher = launcher_of(box)
        assert box.exec(command, text=True).stdout == f"{SIBLINGS}\n"
        box.exec(["sh", "-c", end])
        if end == "true":
            until(partial(has_none, launcher, stay))
            box.stop(grace=0)
        box.wait(timeout=120)
        box.remove(force=True)
        until(partial(has_none, launcher))


def test_its_launcher_ends(engine_root: Path, hostile: str) -> None:
    """Of many containers, each with some that have ended and some that have not."""
    with ck.Engine.open(engine_root) as engine:
        security = ck.Security(seccomp="unconfined")
        boxes = [engine.start(hostile, ["sleep", "100000"], security=security) for _ in range(3)]
        launcher = launcher_of(boxes[0])
        for box in boxes:
            box.exec(["/attacks/sibling", str(SIBLINGS)])
            box.exec(["/attacks/sibling", str(SIBLINGS), "stay"])
    until(lambda: not os.path.exists(f"/proc/{launcher}"))

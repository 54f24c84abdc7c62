"""The control groups of a running container, found from outside.

Owns: from a process to the directories of its container's groups.  Must not: change one; the
launcher does.  Neighbours: `cgroups` knows where hierarchies are mounted; `stats` and `top` read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from containerkit.runtime import cgroups

Group = Mapping[str, str]
"""Controller → directory of a container's group; "unified" alone in version 2; empty: none."""

_READ: Final = 64 << 10


def group_of(pid: int) -> Group:
    """Return the groups of a container's first process; empty where it has none of its own.

    Raises:
        ProcessLookupError: there is no such process any more.
    """
    text = text_of(f"/proc/{pid}/cgroup")
    if text is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return parse(text, _mounts())


def parse(cgroup: str, mounts: Mapping[str, tuple[str, str]]) -> Group:
    """Return the groups in the text of a ``/proc/PID/cgroup``.

    Args:
        cgroup: the text.
        mounts: controller → (its group that is mounted, where); "" for version 2.
    """
    found = {}
    for names, path in cgroups.memberships(cgroup):
        if f"/{cgroups.PREFIX}" not in path:
            continue  # the caller's own, or one above it
        for name in names:
            top, place = mounts.get(name, ("", ""))
            if place and (path == top or path.startswith(top.rstrip("/") + "/")):
                found[name] = place + path.removeprefix(top.rstrip("/"))
    unified = found.pop("", None)
    return found or ({} if unified is None else {"unified": unified})


def of_launcher(root: Path, launcher_id: str) -> tuple[str, ...]:
    """Return where a launcher may have its groups: it says so before it makes them."""
    lines = (text_of(f"{root}/owners/{launcher_id}") or "").splitlines()
    return tuple(line for line in lines if line[:1] == "/")


def of_container(root: Path, launcher_id: str, number: int, *, alone: bool) -> tuple[str, ...]:
    """Return the groups of a kept container, which no other one ever has.

    They are there while it waits to be restarted, too.

    Args:
        root: of the engine.
        launcher_id: of the launcher that runs it.
        number: names its groups below the launcher's.
        alone: the launcher runs nothing else, and in version 1 its groups are the container's.
    """
    places = of_launcher(root, launcher_id)
    own = [group for place in places if os.path.isdir(group := f"{place}/{number}")]
    return tuple(own or (filter(os.path.isdir, places) if alone else ()))


@lru_cache(maxsize=1)
def _mounts() -> Mapping[str, tuple[str, str]]:
    """Return where hierarchies are mounted; that stays as long as we run."""
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return cgroups._mounts(table)


def text_of(path: str) -> str | None:
    """Read a small file of the kernel; None where it, or what it tells of, is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return os.read(fd, _READ).decode("utf-8", "surrogateescape")
    except OSError:  # of a group that is being removed, of a process that has ended
        return None
    finally:
        os.close(fd)

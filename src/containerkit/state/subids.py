"""The ids that the host grants an ordinary user beside its own.

Owns: reading subuid(5), finding newuidmap(1), and what keeps a process from the one or the other.
Must not: make a namespace.  Neighbours: `userns` makes one with these ids, `care.probe` tells.

Spec: subuid(5), newuidmap(1).
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from containerkit.state.procstatus import status_of

_FILES: Final = (Path("/etc/subuid"), Path("/etc/subgid"))
_SET_IDS: Final = 1 << 6 | 1 << 7
"""CAP_SETGID and CAP_SETUID, which newuidmap writes maps by."""
_FIRST: Final = 100_000
_USUAL: Final = 65_536


def ranges() -> tuple[tuple[int, int], ...]:
    """Return this user's range of user ids, and that of group ids: first id, how many of each."""
    found = tuple(_range(path) for path in _FILES)
    return tuple(one for one in found if one is not None)


def withheld() -> str:
    """Say why this process has no more ids than its own; empty: it has."""
    missing = [str(path) for path in _FILES if _range(path) is None]
    if missing:
        return f"none for this user in {' and '.join(missing)}"
    missing = [name for name in ("newuidmap", "newgidmap") if program(name) is None]
    if missing:
        return f"{' and '.join(missing)} can not be found"
    return in_the_way()


def in_the_way() -> str:
    """Say what keeps newuidmap(1) from doing its work for this process; empty: nothing known."""
    with contextlib.suppress(OSError):
        found = status_of()
        if found.get("NoNewPrivs") == "1":
            return "no_new_privs is set for this process, so newuidmap has no rights"
        if ~int(found.get("CapBnd", "0"), 16) & _SET_IDS:
            return "this process may not have SETUID and SETGID, so newuidmap has no rights"
    with contextlib.suppress(KeyError):
        if pwd.getpwuid(os.getuid()).pw_gid != os.getegid():
            return f"newuidmap wants this user's own group, and not {os.getegid()}"
    return ""


def knob() -> str:
    """Return what gives this user more ids: a range that is nobody else's."""
    if in_the_way():
        return "start this program without that"
    taken = [first + count for path in _FILES for _, first, count in _lines(path)]
    first = max([_FIRST, *(end for end in taken if fits(end, _USUAL))])
    span = f"{first}-{first + _USUAL - 1}"
    name = next((name for name in _names() if not name.isdecimal()), str(os.getuid()))
    return (
        f"as root: usermod --add-subuids {span} --add-subgids {span} {name} (/etc/subuid,"
        " /etc/subgid), and install newuidmap (package uidmap)"
    )


def program(name: str) -> str | None:
    """Return the path of a program; what PATH names relative to the working directory is not looked at."""
    import shutil

    places = [*os.environ.get("PATH", os.defpath).split(":"), "/usr/bin", "/bin"]
    return shutil.which(name, path=":".join(one for one in places if os.path.isabs(one)))


def _range(path: Path) -> tuple[int, int] | None:
    """Return the first range of this user: first id, how many."""
    names = _names()
    return next(((first, count) for name, first, count in _lines(path) if name in names), None)


def _names() -> set[str]:
    uid = os.getuid()
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    return names


def _lines(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the lines of a file like subuid(5) that mean something: whose, first id, how many."""
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            name, *numbers = line.strip().split(":")
            with contextlib.suppress(ValueError):
                first, count = map(int, numbers)
                if fits(first, count):
                    yield name, first, count


def fits(first: int, count: int) -> bool:
    """Whether so many ids can be had from one on; the last number of 32 bits is none."""
    return count > 0 and 0 <= first < first + count < 1 << 32

"""Who has which range of user and group ids: files on the disk, changed only under one lock.

Owns: where they are, which range is free, and that no two living holders share an id.  Must not: know
what a range is used for (`idranges` does).

    ROOT                   the engine's root directory
    launcher ID            a process's own, for its runs: until that launcher has died
    container ID           a kept container's, also when it does not run: until it is removed

A claim is named by its first id in `PLACE`; an ordinary user's by first id and size, in a directory of
that user's.  One whose holder is no longer there is stale: whoever wants that range takes it over, and
`recover` removes those of its root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError, MissingFeature, refusals
from containerkit.runtime import subordinate
from containerkit.runtime.alive import is_alive
from containerkit.state import userns
from containerkit.state.atomic import make_directories, publish_file
from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.runtime.subordinate import Shape

PLACE: Final = Path("/run/containerkit/ids")
SIZE: Final = 65536
LAST: Final = (1 << 32) - 2

# Far from what useradd gives away (subuid(5)), below the numbers that some programs take for negative.
POOL: Final = (1 << 30, 1 << 31)
_USER: Final = "containerkit"
_DIGITS: Final = 10
_TRIES: Final = 64
_LOCK_SECONDS: Final = 25.0


def number_in(text: str) -> int | None:
    """Return a number as it is written here and in subuid(5); None: it is none, or no id's."""
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None


def sweep(root: Path) -> None:
    """Remove the stale claims of a root."""
    place = place_of(root)
    try:
        names = os.listdir(place)
    except OSError:
        return
    for name in filter(span_of, names):
        found = read(place, name)
        if found is not None and found[0] == str(root) and _is_stale(*found):
            with contextlib.suppress(OSError), locked(root):
                if read(place, name) == found and _is_stale(*found):
                    os.unlink(place / name)


def place_of(root: Path) -> Path:
    """Return where the claims are that a root's containers must respect.

    An ordinary user's are in its home, wherever the environment says that such things go: there may be
    but one place.  Who has no home gets one for each root.
    """
    if not userns.is_needed():
        return PLACE
    with contextlib.suppress(KeyError, OSError):
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        if home.is_dir() and os.access(home, os.W_OK):
            return home / ".local/state/containerkit/ids"
    return root / "run" / "ids"


@contextmanager
def locked(root: Path) -> Iterator[Path]:
    """Be the only one that looks at claims and changes them meanwhile."""
    place = place_of(root)
    with refusals("choose ids for the container"):
        make_directories(place, 0o700)
        lock = FileLock(place / "lock")
        with lock.holding(deadline=time.monotonic() + _LOCK_SECONDS):
            yield place


def allocate(root: Path, holder: str, shape: Shape) -> int:
    """Claim a range, and return its first id.

    Raises:
        HostError: all are taken, or the claims can not be written.
        MissingFeature: so many are not granted to this user.
    """
    if userns.is_needed():
        return _allocate_own(root, holder, shape)
    start, end = _pool()
    count = (end - start) // SIZE
    with locked(root) as place:
        tried = [random.randrange(count) for _ in range(_TRIES)]  # noqa: S311 - spread, no secret
        for number in (*tried, *range(count)):
            first: int = start + number * SIZE
            if claim(place, str(first), root, holder):
                return first
    raise HostError(
        f"cannot choose ids for the container: all {count} ranges are taken",
        hint=f"remove containers; a larger range can be given to {_USER!r} in /etc/subuid",
    )


def _allocate_own(root: Path, holder: str, shape: Shape) -> int:
    """Claim some of the ids that are granted to this user."""
    granted = userns.ids_of(root)
    outside, least = granted.uids[-1][1], min(granted.uids[-1][2], granted.gids[-1][2])
    pool, count = subordinate.pool_of(least), subordinate.size_of(shape)
    taken: list[tuple[int, int]] = []
    with locked(root) as place:
        for last in (False, True):
            spans = [span for span in map(span_of, os.listdir(place)) if span]
            taken = [(first - outside + 1, size) for first, size in spans]
            first = subordinate.free_in(pool, taken, count)
            if first is not None:
                name = f"{outside + first - 1}+{count}"
                write(place, name, root, holder)
                return first
            if not last:
                _drop_stale(place)
    inside = [size for first, size in taken if pool[0] <= first < pool[1]]
    raise _used_up(least, pool[1] - pool[0], sum(inside), count)


def _used_up(granted: int, usable: int, taken: int, wanted: int) -> HostError:
    message = (
        f"cannot choose ids for the container: it needs {wanted} in a row, and of the {granted} that"
        f" are granted to this user containers can have {usable}, {taken} of which are taken"
    )
    hint = (
        "remove containers, or have more granted, by larger ranges in /etc/subuid and /etc/subgid, and"
        " use a new root directory"
    )
    if usable < wanted:
        return MissingFeature(message, hint=hint, feature="userns")
    return HostError(message, hint=hint)


def _drop_stale(place: Path) -> None:
    for name in filter(span_of, os.listdir(place)):
        found = read(place, name)
        if found is not None and _is_stale(*found):
            os.unlink(place / name)


def _pool() -> tuple[int, int]:
    """Return where ranges are: what the host gives in /etc/subuid and /etc/subgid, if it does."""
    users, groups = (_granted(path) for path in ("/etc/subuid", "/etc/subgid"))
    for start, count in users & groups:
        first = -(-start // SIZE) * SIZE
        if first + SIZE <= start + count:
            return first, start + count
    return POOL


def _granted(path: str) -> set[tuple[int, int]]:
    """Return the lines of our name in a file of subuid(5)."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        name, *numbers = line.split(":")
        start, count = map(number_in, numbers) if len(numbers) == 2 else (None, None)
        if name == _USER and start is not None and count and start + count - 1 <= LAST:
            found.add((start, count))
    return found


def name_of(root: Path, ids: IdMap) -> str:
    """Return the name of a range's claim."""
    first, count = subordinate.span_of(ids)
    if not userns.is_needed():
        return str(first)
    return f"{userns.ids_of(root).uids[-1][1] + first - 1}+{count}"


def span_of(name: str) -> tuple[int, int] | None:
    """Return the first id that a claim of this name is for, and how many; None: it is none."""
    first, plus, count = name.partition("+")
    found = number_in(first), number_in(count) if plus else SIZE
    return (found[0], found[1]) if found[0] and found[1] else None


def claim(place: Path, name: str, root: Path, holder: str) -> bool:
    """Write a claim unless another holds a part of the range."""
    for other in _overlapping(place, name):
        found = read(place, other)
        if found is not None and not _is_stale(*found):
            return False
        if other != name and found is not None:
            os.unlink(place / other)
    write(place, name, root, holder)
    return True


def _overlapping(place: Path, name: str) -> list[str]:
    """Return names of claims for some of the same ids; whole ranges begin at multiples of their size."""
    wanted = span_of(name)
    if "+" not in name or wanted is None:
        return [name]
    found = []
    for other in os.listdir(place):
        span = span_of(other)
        if span and span[0] < sum(wanted) and wanted[0] < sum(span):
            found.append(other)
    return found


def read(place: Path, name: str) -> tuple[str, str] | None:
    """Return root and holder of a claim, empty when it was not written whole; None: there is none."""
    try:
        data = (place / name).read_bytes()
    except FileNotFoundError:
        return None
    root, end, holder = os.fsdecode(data).rpartition("\n")[0].rpartition("\n")
    return (root, holder) if end else ("", "")


def write(place: Path, name: str, root: Path, holder: str) -> None:
    """Make a claim say who holds it."""
    publish_file(place, name, os.fsencode(f"{root}\n{holder}\n"), durable=False)


def release(root: Path, ids: IdMap, holder: str) -> None:
    """Give up a range, if this holder has it; left where the host refuses that: it is stale."""
    with contextlib.suppress(OSError):
        name = name_of(root, ids)
        with locked(root) as place:
            if read(place, name) == (str(root), holder):
                os.unlink(place / name)


def _is_stale(root: str, holder: str) -> bool:
    if "\0" in root + holder:
        return True
    kind, _, name = holder.partition(" ")
    if kind == "launcher":
        return not is_alive(Path(root), name)
    return kind != "container" or not os.path.isdir(f"{root}/containers/{name}")

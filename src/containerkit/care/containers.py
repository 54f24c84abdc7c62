"""Containers, as care sees them: directories against rows.

Owns: what of the two does not fit, and what is left of crashes in the catalog.  Must not: touch a
container that somebody supervises, makes or removes.
Neighbours: `runtime.marks` says what a container is, `runtime.recover` clears away directories.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from containerkit.errors import ContainerNotFound
from containerkit.model.check import Problem
from containerkit.runtime import begin, birth, marks
from containerkit.runtime.recover import look_for_lost
from containerkit.state import record
from containerkit.state.atomic import names_in

if TYPE_CHECKING:
    from containerkit.runtime.keeper import Keeper

_ID: Final = re.compile(r"[0-9a-f]{64}")


def check_containers(keeper: Keeper, *, repair: bool) -> tuple[list[Problem], int]:
    """Look at every directory that has a mark; return the problems, and how many there are.

    A row without a marked directory is no problem: it is no container, see `drop_orphans`.
    """
    found = []
    for name in names_in(keeper.root / "containers"):
        if _ID.fullmatch(name) and marks.read(keeper.directory(name)) is not None:
            found.append(name)
    known = {row.id for row in keeper.records.all()}
    problems = [
        Problem("unknown container", name, "it has a directory and no row", repaired)
        for name in found
        if name not in known and (repaired := _without_row(keeper, name, repair=repair)) is not None
    ]
    problems += [problem for name in found if (problem := _record(keeper, name, repair=repair))]
    return problems, len(found)


def _record(keeper: Keeper, identity: str, *, repair: bool) -> Problem | None:
    """Return what is wrong with a container's record; a launcher that runs it writes it anew itself."""
    damaged = record.unknown()
    if record.read(keeper.directory(identity), damaged=lambda: damaged) is not damaged:
        return None
    repaired = False
    if repair:
        look_for_lost(keeper.root, identity)
        repaired = record.read(keeper.directory(identity)) is not None
    return Problem("damaged record", identity, "how it ended last is not known", repaired)


def _without_row(keeper: Keeper, identity: str, *, repair: bool) -> bool | None:
    """Look again, while nobody starts or removes it; return whether it was repaired."""
    try:
        with begin.Operation(keeper, identity):
            marked = marks.read(keeper.directory(identity)) is not None
            if not marked or keeper.records.get(identity) is not None:
                return None
            if repair:
                birth.unmake(keeper, identity)
            return repair
    except BlockingIOError:  # it runs
        return False
    except ContainerNotFound:
        return None


def drop_orphans(keeper: Keeper) -> int:
    """Remove the rows that crashes have left without a container; return how many."""
    dropped = 0
    for row in keeper.records.all():
        if marks.read(keeper.directory(row.id)) is None:
            dropped += birth.drop_orphan(keeper, row.id)
    return dropped

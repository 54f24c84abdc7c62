"""What a container has changed in its files, against its image: `Container.diff`.

Owns: the list of changes.  Must not: look at files (`compare` does).
Neighbours: `rootplan` says which overlays there are.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import attrs

from containerkit.model.idmap import IdMap
from containerkit.runtime.beneath import attempt
from containerkit.runtime.compare import Comparison, above
from containerkit.runtime.rootplan import RootPlan, Stack
from containerkit.runtime.sameness import AS_THEY_ARE, Owners
from containerkit.state import userns
from containerkit.state.inside import Inside

Kind = Literal["added", "modified", "deleted"]


@attrs.frozen(order=True)
class Change:
    """One difference between a container's files and its image.

    Args:
        path: absolute, in the container.
        kind: "added", "modified" (content or what `stat` says; a directory also when something in
            it changed) or "deleted" (with all that was in it).
    """

    path: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind[0].upper() if self.kind != 'modified' else 'C'} {self.path}"


def changes_of(
    root: RootPlan, store: Path, container: Path, owners: Owners = AS_THEY_ARE
) -> tuple[Change, ...]:
    """Return what differs, in the order of paths.

    Args:
        root: of the container.
        store: the engine's root, where lowers lie.
        container: its directory, which holds ``upper``.
        owners: by which ids owners are counted.

    Raises:
        OSError: something can not be read.
        HostError: it is too deep.
    """
    found: dict[str, Kind] = {}
    # Targets come after the stack that they lie in; what was changed in one changes those above.
    for overlay in root.stacks:
        if overlay.upper is None:
            continue
        hidden = root.covered(overlay)
        comparison = Comparison(overlay.target, hidden, marks=userns.marks(), owners=owners)
        lowers = [store / lower for lower in overlay.lowers]
        with contextlib.closing(
            comparison.run(container / "upper" / overlay.upper, lowers)
        ) as differences:
            for one in differences:
                if one.path != overlay.target.rstrip("/"):
                    found[one.path] = "modified" if one.kind == "above" else one.kind
    for path in list(found):
        for parent in above(path):
            found.setdefault(parent, "modified")
    return tuple(sorted(Change(path, kind) for path, kind in found.items()))


def changes_inside(
    plan: RootPlan, store: Path, container: Path, ids: IdMap | None
) -> tuple[Change, ...]:
    """Do `changes_of` by a process in a root's user namespace, which may look at everybody's files.

    Args:
        plan: of the container.
        store: the engine's root.
        container: its directory.
        ids: by which its files are counted in there.
    """
    arguments = {
        "stacks": plan.stacks,
        "files": list(plan.files),
        "mounted": list(plan.mounted),
        "store": str(store),
        "container": str(container),
        "ids": ids and (ids.uids, ids.gids),
    }
    with Inside(store, f"{__name__}:_told_changes", arguments) as inside:
        return tuple([Change(path, kind) for path, kind in inside.result()])


def _told_changes(
    stacks: list[Any], files: list[str], mounted: list[str], store: str, container: str, ids: Any
) -> list[tuple[str, str]]:
    plan = RootPlan(
        tuple(Stack(target, tuple(lowers), upper) for target, lowers, upper in stacks),
        frozenset(files),
        frozenset(mounted),
    )
    owners = Owners(IdMap(*ids) if ids else None)
    with attempt("compare the files of container", Path(container).name[:12]):
        found = changes_of(plan, Path(store), Path(container), owners)
    return [(change.path, change.kind) for change in found]

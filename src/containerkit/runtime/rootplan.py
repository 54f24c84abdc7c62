"""What a plan says of a container's root: its overlays, and what is mounted over them.

Owns reading that out of a plan.  Pure.  Neighbours: `changes` and `commit` have the overlays'
directories compared, `export` leaves out what is mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from containerkit.launch.ops import Code

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan


class Stack(NamedTuple):
    """One overlay of a root file system.

    Attributes:
        target: where in the container, "/" for the root.
        lowers: directories, top first: relative to the engine's root, or absolute on this host.
        upper: name of what is written, in the container's directory ``upper``; None: nothing is.
    """

    target: str
    lowers: tuple[str, ...]
    upper: str | None


class RootPlan(NamedTuple):
    """The root of a container.

    Attributes:
        stacks: its overlays, parents first.
        files: targets of its other own mounts: host directories where an overlay was refused.
        mounted: targets of everything that is mounted over it: /proc, volumes, single files.
    """

    stacks: tuple[Stack, ...]
    files: frozenset[str]
    mounted: frozenset[str]

    def covered(self, stack: Stack) -> frozenset[str]:
        """Return where something else is mounted over one of the overlays."""
        others = {other.target for other in self.stacks}
        return (self.mounted | self.files | others) - {stack.target}


def root_plan(plan: Plan) -> RootPlan:
    """Read a plan."""
    overlays = {op.fd[0]: op for op in plan.prepare if op.code == Code.OVERLAY}
    stacks: list[Stack] = []
    files: set[str] = set()
    mounted: set[str] = set()
    own = True  # the root file system's mounts come before the first of the system's
    for op in plan.child:
        if op.code == Code.ROOT:
            target = "/"
        elif op.code == Code.MOVE_MOUNT:
            target = str(op.arena[0])
        elif op.code in {Code.MOUNT_FS, Code.TEMPLATE}:
            own = False
            mounted.add(str(op.arena[0 if op.code == Code.TEMPLATE else 1]))
            continue
        elif op.code == Code.LINK:
            files.add(str(op.arena[1]))
            continue
        else:
            continue
        overlay = overlays.get(op.fd[0])
        if overlay is not None:
            lowers = overlay.arena[0]
            assert isinstance(lowers, tuple)
            upper = overlay.arena[1]
            stacks.append(
                Stack(
                    target,
                    tuple(_path(plan, lower) for lower in lowers),
                    upper if isinstance(upper, str) else None,
                )
            )
        elif own:
            files.add(target)
        else:
            mounted.add(target)
    return RootPlan(tuple(stacks), frozenset(files), frozenset(mounted))


def _path(plan: Plan, lower: str) -> str:
    return plan.inputs[int(lower[1:])].name if lower.startswith("@") else lower

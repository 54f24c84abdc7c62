"""What makes a plan valid beyond its bytes: slots, flags, values, and the order of steps.

Owns the rules that ``src/_native/ck_plan.c`` has too; where they differ these are stricter, so that
a plan of ours is never refused by the launcher.  Neighbours: `wire` calls it on decoding; tests
call it on every plan that `compile` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from containerkit.errors import InvalidSpec
from containerkit.launch.ops import (
    CHILD,
    CLONE_NEWNS,
    CLONE_NEWPID,
    NAMESPACES,
    OPS,
    PREPARE,
    SECTIONS,
    SLOTS,
    STAGE_ANY,
    STAGE_PIVOT,
    Argument,
    Code,
    Op,
    OpInfo,
)


def refuse(cause: str, section: int | None = None, index: int = 0) -> InvalidSpec:
    """Return the error that says what is wrong with a plan, and where."""
    where = "" if section is None else f" ({SECTIONS[section]} step {index})"
    return InvalidSpec(f"cannot read a launch plan{where}: {cause}")


_EXEC_OPS: Final = frozenset(
    {
        Code.RLIMIT,
        Code.OOM_SCORE,
        Code.KEYRING,
        Code.STDIO,
        Code.SESSION,
        Code.PTY,
        Code.JOIN_USER,
        Code.CHROOT,
        Code.INIT,
        Code.UMASK,
        Code.GROUPS,
        Code.IDS,
        Code.CAPS,
        Code.CHDIR,
        Code.NO_NEW_PRIVS,
        Code.SECCOMP,
        Code.UNCONFINED,
        Code.EXEC,
    }
)
"""What an exec may do: nothing that changes the container it runs in."""


_SEVERAL: Final = frozenset({Code.SOURCE, Code.CLONE, Code.OVERLAY, Code.FILE})
"""What may be prepared more than once in a plan."""


def check(
    sections: Sequence[Sequence[Op]], *, inputs: int, namespaces: int, execute: bool = False
) -> None:
    """Check slots, flags, values and order of the steps of a plan.

    Args:
        sections: prepare, child.
        inputs: how many descriptors the caller sends.
        namespaces: CLONE_NEW* of the child.
        execute: it is of an exec: a child section that begins where others have pivoted.

    Raises:
        InvalidSpec: naming the section and the step.
    """
    bare = any(op.code == Code.CHROOT for op in sections[CHILD])
    _check_namespaces(namespaces, none=execute or bare)
    slots = _Slots(inputs)
    made: set[int] = set()
    for section, ops in enumerate(sections):
        for index, op in enumerate(ops):
            info = OPS.get(op.code)
            if info is None or info.section != section:
                raise refuse(f"no such step here: {op.code}", section, index)
            cause = _check_op(op, info) or slots.check(op, info)
            if op.code in made and section == PREPARE and op.code not in _SEVERAL:
                cause = f"{info.name} a second time"
            made.add(op.code)
            if execute and op.code not in _EXEC_OPS:
                cause = f"{info.name} in an exec"
            if cause:
                raise refuse(cause, section, index)
    _check_order(sections[CHILD], execute=execute, bare=bare)


def _check_op(op: Op, info: OpInfo) -> str:
    if op.flags & ~info.flags:
        return f"{info.name} can not have the flags {op.flags:#x}"
    for kind, value in zip(info.value, op.value, strict=True):
        if value and not kind:
            return f"{info.name} has a value it does not use"
    for kind, argument in zip(info.arena, op.arena, strict=True):
        count = len(argument) if argument is not None else 0
        if kind == "triples" and count % 3:
            return f"{info.name} has a list of {count}, not of triples"
        if kind in ("layers", "candidates", "argv") and not count:
            return f"{info.name} has an empty list"
        if kind == "ids" and count % 4:
            return f"{info.name} has {count} bytes of ids"
        if kind == "filter" and (not count or count % 8):
            return f"{info.name} has {count} bytes of program"
    return ""


class _Slots:
    """Which slots hold a descriptor, at this point of the plan."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.filled = set(range(inputs))
        self.sources: set[int] = set()

    def check(self, op: Op, info: OpInfo) -> str:
        for kind, slot in zip(info.fd, op.fd, strict=True):
            if slot == -1 and (not kind or kind.endswith("?")):
                continue
            cause = self._check_slot(kind.removesuffix("?"), slot)
            if cause:
                return f"{info.name} {cause}"
        if op.code == Code.SOURCE:
            self.sources.add(op.fd[0])
        if op.code == Code.OVERLAY:
            return self._check_layers(op.arena[0])
        return ""

    def _check_slot(self, kind: str, slot: int) -> str:
        if not kind or not 0 <= slot < SLOTS:
            return f"has slot {slot}"
        if kind == "fill":
            if slot in self.filled:
                return f"fills slot {slot}, which is taken"
            self.filled.add(slot)
        elif kind == "in" and slot >= self.inputs:
            return f"wants slot {slot}, which is no input"
        elif kind == "source" and slot not in self.sources:
            return f"wants slot {slot}, which is no source"
        elif slot not in self.filled:
            return f"uses slot {slot}, which is empty"
        return ""

    def _check_layers(self, layers: Argument) -> str:
        for layer in layers or ():
            if not isinstance(layer, str) or not layer:
                return "overlay has an empty layer"
            if layer.startswith("@"):
                number = layer[1:]
                if not (number.isascii() and number.isdigit()) or len(number) > 2:
                    return f"overlay has the layer {layer!r}"
                if int(number) not in self.sources:
                    return f"overlay wants {layer!r}, which is no source"
            elif layer.startswith("/") or ".." in layer.split("/"):
                return f"overlay has the layer {layer!r}, which is outside of the store"
        return ""


def _check_order(child: Sequence[Op], *, execute: bool, bare: bool) -> None:
    """Root first, one pivot, no right needed after the identity changed, a filter or the word that
    there is none, exec last.

    Without namespaces nothing is mounted, and an init sees to the end of what its command leaves.
    """
    stage = STAGE_PIVOT if execute or bare else 0
    for index, op in enumerate(child):
        info = OPS[op.code]
        if info.stage == STAGE_ANY:
            if stage < STAGE_PIVOT:
                raise refuse(f"{info.name} before pivot", CHILD, index)
            continue
        if info.stage < stage or (bare and info.stage == STAGE_PIVOT):
            raise refuse(f"{info.name} comes too late", CHILD, index)
        stage = info.stage
    codes = [op.code for op in child]
    entered = () if execute else (Code.ROOT, Code.PIVOT)
    if bare:
        entered = (Code.CHROOT, Code.INIT)
    for code in (*entered, Code.IDS, Code.CAPS):
        if codes.count(code) != 1:
            raise refuse(f"{code.name.lower()} must be there once", CHILD, len(child))
    if not {Code.SECCOMP, Code.UNCONFINED} & {*codes}:
        raise refuse("no filter, and not said to be unconfined", CHILD, len(child))
    ends = [code for code in codes if code in {Code.EXEC, Code.PARK}]
    if len(ends) != 1 or codes[-1] != ends[0]:
        raise refuse("the last step, and no other, must be exec or park", CHILD, len(child))
    if execute and (Code.PARK in codes or (Code.INIT in codes and not bare)):
        raise refuse("an exec is no first process", CHILD, len(child))


def _check_namespaces(namespaces: int, *, none: bool) -> None:
    if none:
        if namespaces:
            raise refuse(f"namespaces {namespaces:#x} where there are none")
        return
    required = CLONE_NEWNS | CLONE_NEWPID
    if namespaces & required != required or namespaces & ~sum(NAMESPACES):
        raise refuse(f"namespaces {namespaces:#x}")

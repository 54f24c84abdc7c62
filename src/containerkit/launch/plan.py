"""A launch plan: everything that starting a container does, as data.

Owns the `Plan` value: what each descriptor the caller sends is for, two sections of steps, and
the namespaces.  `compile` makes plans, the launcher (``src/_native``) validates and runs them,
`explain` prints them.  Must not perform anything, nor decide anything.

*prepare* runs in the launcher: control group, network namespace, overlays, generated files.
*child* runs in the new namespaces and ends in exec.  What *prepare* made, the launcher undoes after the
container has ended and after a start that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from containerkit.launch import wire
from containerkit.launch.check import check
from containerkit.launch.ops import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    PLAN_EPHEMERAL,
    PLAN_EXEC,
    PLAN_KEPT,
    SECTIONS,
    Code,
    Op,
)


class Input(NamedTuple):
    """What the caller puts into a slot: the n-th input is the n-th descriptor it sends.

    Attributes:
        kind: "stdin", "stdout", "stderr", "source" or "secret".
        name: the host path of a source (to be opened as a detached tree), the name of a secret.
        recursive: a source includes what is mounted below it.
    """

    kind: str
    name: str = ""
    recursive: bool = False


PlanKind = Literal["ephemeral", "kept", "exec"]

_FLAGS: Final[dict[PlanKind, int]] = {
    "ephemeral": PLAN_EPHEMERAL,
    "kept": PLAN_KEPT,
    "exec": PLAN_EXEC,
}
_STREAMS: Final = ("stdin", "stdout", "stderr")


class Plan:
    """A compiled launch.  A value: never change it.

    Attributes:
        inputs: the descriptors the caller sends, in order of slots.
        prepare, child: the sections.
        namespaces: CLONE_NEW* flags of the child; 0 for an exec.
        kind: "ephemeral": nothing of it is left when it has ended; "kept": its directory and record
            stay; "exec": not a container, but one more process of a running one.
        notes: what was wished implicitly and is not there, one sentence each; not on the wire.
    """

    __slots__ = ("_encoded", "child", "inputs", "kind", "namespaces", "notes", "prepare")

    def __init__(
        self,
        *,
        inputs: Sequence[Input] = (),
        prepare: Sequence[Op] = (),
        child: Sequence[Op] = (),
        namespaces: int = CLONE_NEWNS | CLONE_NEWPID,
        kind: PlanKind = "kept",
        notes: Sequence[str] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.prepare = tuple(prepare)
        self.child = tuple(child)
        self.namespaces = namespaces
        self.kind: PlanKind = kind
        self.notes = tuple(notes)
        self._encoded: bytes | None = None

    @property
    def sections(self) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        """Both sections, in order."""
        return self.prepare, self.child

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__[1:])

    def __hash__(self) -> int:
        return hash((self.sections, self.namespaces))

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(ops)} {name}" for name, ops in zip(SECTIONS, self.sections, strict=True)
        )
        return f"<Plan: {counts} steps>"

    def encode(self) -> bytes:
        """Encode for the launcher; a plan does not change, so this is done once.

        Raises:
            InvalidSpec: it does not fit the format (a NUL in a text, more than 1 MiB).
        """
        if self._encoded is None:
            self._encoded = wire.encode(
                self.sections,
                inputs=len(self.inputs),
                namespaces=self.namespaces,
                flags=_FLAGS[self.kind],
            )
        return self._encoded

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        """Decode an encoded plan, checking it as the launcher does.

        Names of inputs and notes do not travel: inputs come back with the kind that their use
        shows, without a name.

        Raises:
            InvalidSpec: the bytes are not a valid plan.
        """
        decoded = wire.decode(data)
        prepare, child = decoded.sections
        return cls(
            inputs=_inputs_of(prepare, child, decoded.inputs),
            prepare=prepare,
            child=child,
            namespaces=decoded.namespaces,
            kind=next(kind for kind, flags in _FLAGS.items() if flags == decoded.flags),
        )

    def check(self) -> None:
        """Check slots and order without encoding.

        Raises:
            InvalidSpec: naming the section and the step.
        """
        check(
            self.sections,
            inputs=len(self.inputs),
            namespaces=self.namespaces,
            execute=self.kind == "exec",
        )

    def number(self, section: int, index: int) -> int:
        """Return the number `explain` prints for a step, counting from 1 over all sections."""
        return sum(len(ops) for ops in self.sections[:section]) + index + 1

    def step(self, section: int, index: int) -> Op:
        """Return the step a report of the launcher names."""
        return self.sections[section][index]

    def describe(self, section: int, index: int) -> str:
        """Say in words what one step does, with its number: for messages of failures.

        Example: ``mount proc on /proc, nosuid nodev noexec (step 11 of 74, mount_fs)``.
        """
        from containerkit.launch.explain import describe

        return describe(self, section, index)

    def explain(self) -> str:
        """Print the plan as numbered text; values of the environment and secrets as ``***``."""
        from containerkit.launch.explain import explain

        return explain(self)


def _inputs_of(prepare: Sequence[Op], child: Sequence[Op], count: int) -> list[Input]:
    kinds = {}
    for op in (*prepare, *child):
        if op.code == Code.SOURCE:
            kinds[op.fd[0]] = "source"
        elif op.code == Code.COPY_FD:
            kinds[op.fd[0]] = "secret"
        elif op.code == Code.STDIO:
            kinds |= dict(zip(op.fd, _STREAMS, strict=True))
    return [Input(kinds.get(slot, "")) for slot in range(count)]

"""Containers without one of their defences: what shows that an attack would be seen if it worked.

Owns: the plans of starts and of execs, changed between their making and their being sent.  A control
does what its attack does, in a container that was started within one of these blocks:

    with plans.without(Code.KEYRING):
        assert attack(engine, hostile, security) == SUCCEEDS
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from containerkit.runtime import execute, runner

Change = Callable[[Plan], Plan]


def rebuilt(
    plan: Plan,
    *,
    prepare: Sequence[Op] | None = None,
    child: Sequence[Op] | None = None,
    namespaces: int | None = None,
) -> Plan:
    """Return the same plan with other steps."""
    return Plan(
        inputs=plan.inputs,
        prepare=plan.prepare if prepare is None else prepare,
        child=plan.child if child is None else child,
        namespaces=plan.namespaces if namespaces is None else namespaces,
        kind=plan.kind,
        notes=plan.notes,
    )


@contextmanager
def changed(change: Change) -> Iterator[None]:
    """Start whatever is started in this process meanwhile, execs too, by a changed plan."""
    # what may be changed already, in a block around this one
    compile_plan, exec_plan = runner.__dict__["compile_plan"], execute.__dict__["exec_plan"]

    def compile_changed(*arguments: Any) -> Plan:
        made: Plan = compile_plan(*arguments)
        return change(made)

    def exec_changed(*arguments: Any) -> Plan:
        made: Plan = exec_plan(*arguments)
        return change(made)

    with (
        mock.patch.object(runner, "compile_plan", compile_changed),
        mock.patch.object(execute, "exec_plan", exec_changed),
        mock.patch.object(runner, "key_of", return_value=None),  # nothing of it is kept
    ):
        yield


@contextmanager
def without(*codes: Code) -> Iterator[None]:
    """Start without these steps of the child."""
    with changed(lambda plan: rebuilt(plan, child=[o for o in plan.child if o.code not in codes])):
        yield


@contextmanager
def unfiltered(*codes: Code) -> Iterator[None]:
    """Start without a filter of system calls, which a plan has to say, and without these steps."""

    def change(plan: Plan) -> Plan:
        child = [o for o in plan.child if o.code not in {*codes, Code.SECCOMP}]
        return rebuilt(plan, child=[*child[:-1], Op(Code.UNCONFINED), child[-1]])

    with changed(change):
        yield


@contextmanager
def replaced(code: Code, *steps: Op) -> Iterator[None]:
    """Start with other steps of the child instead of those of one code."""

    def change(plan: Plan) -> Plan:
        child: list[Op] = []
        for op in plan.child:
            child += steps if op.code == code else (op,)
        return rebuilt(plan, child=child)

    with changed(change):
        yield


MANY = 330


@contextmanager
def slowly() -> Iterator[None]:
    """Enter by a plan that takes long: with all rights, and again with the container's own."""

    def change(plan: Plan) -> Plan:
        child: list[Op] = []
        for op in plan.child:
            often = op.code in {Code.UMASK, Code.CHDIR}
            child += [op] * (MANY if often else 1)
        return rebuilt(plan, child=child) if plan.kind == "exec" else plan

    with changed(change):
        yield

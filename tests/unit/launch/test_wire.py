"""Plans as bytes: what is refused, and with which words."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from containerkit.errors import InvalidSpec
from containerkit.launch import ops, wire
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Input, Plan
from containerkit.launch.process import environment
from containerkit.model.mount import Mount
from tests.unit.launch.plans import IMAGE, compiled

ROOT = Op(Code.ROOT, fd=(1, -1, -1))
PIVOT = Op(Code.PIVOT)
CAPS = Op(Code.CAPS)
IDS = Op(Code.IDS)
OPEN = Op(Code.UNCONFINED)
EXEC = Op(Code.EXEC, arena=(("/a",), ("a", ""), ()))
OVERLAY = Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("layers/a",), "0", None))
CHILD = (ROOT, PIVOT, IDS, CAPS, OPEN, EXEC)


def plan(
    prepare: tuple[Op, ...] = (OVERLAY,),
    child: tuple[Op, ...] = CHILD,
) -> Plan:
    return Plan(inputs=[Input("stdin")], prepare=prepare, child=child)


def test_the_smallest_plan() -> None:
    smallest = plan()
    assert Plan.decode(smallest.encode()).sections == smallest.sections


def test_empty_arguments_and_an_empty_environment_survive() -> None:
    again = Plan.decode(plan().encode())
    assert again.child[-1].arena == (("/a",), ("a", ""), ())


def test_paths_that_are_not_utf_8_survive() -> None:
    path = "/caf\udce9"
    found = Plan.decode(compiled({"mounts": [Mount.tmpfs(path)]}).encode())
    assert path in [op.arena[1] for op in found.child]
    assert b"/caf\xe9\0" in found.encode()


def test_inputs_come_back_with_their_kind() -> None:
    made = compiled({"mounts": [Mount.bind("/s", "/t")], "secrets": {"k": b""}})
    kinds = [given.kind for given in Plan.decode(made.encode()).inputs]
    assert kinds == ["stdin", "stdout", "stderr", "source", "secret"]
    assert not Plan.decode(compiled({"tty": True}).encode()).inputs


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (plan(prepare=()), "slot 1, which is empty"),
        (plan(prepare=(OVERLAY, OVERLAY)), "slot 1, which is taken"),
        (plan(prepare=(Op(Code.SOURCE, fd=(1, -1, -1)),)), "slot 1, which is no input"),
        (plan(prepare=(OVERLAY, Op(Code.CLONE, fd=(0, 2, -1)))), "no source"),
        (plan(prepare=(OVERLAY, ROOT)), "no such step here"),
        (plan(child=(PIVOT, IDS, CAPS, EXEC)), "root must be there once"),
        (plan(child=(ROOT, PIVOT, CAPS, EXEC)), "ids must be there once"),
        (plan(child=CHILD[:-1]), "must be exec or park"),
        (plan(child=(*CHILD, EXEC)), "must be exec or park"),
        (plan(child=(PIVOT, ROOT, IDS, CAPS, EXEC)), "root comes too late"),
        (plan(child=(ROOT, PIVOT, CAPS, IDS, EXEC)), "ids comes too late"),
        (
            plan(child=(ROOT, PIVOT, IDS, Op(Code.KEYRING), CAPS, EXEC)),
            "keyring comes too late",
        ),
        (plan(child=(Op(Code.NO_NEW_PRIVS), *CHILD)), "before pivot"),
        (plan(child=(ROOT, PIVOT, IDS, OPEN, EXEC)), "caps must be there once"),
        (plan(child=(ROOT, PIVOT, IDS, CAPS, EXEC)), "not said to be unconfined"),
        (plan(child=(OPEN, *CHILD)), "unconfined before pivot"),
        (
            plan(prepare=(Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("../x",), None, None)),)),
            "outside of the store",
        ),
        (
            plan(prepare=(Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("/x",), None, None)),)),
            "outside of the store",
        ),
        (
            plan(prepare=(Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("@0",), None, None)),)),
            "no source",
        ),
        (
            plan(prepare=(Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("@x",), None, None)),)),
            "layer '@x'",
        ),
        (
            plan(prepare=(Op(Code.OVERLAY, fd=(1, -1, -1), arena=(("",), None, None)),)),
            "empty layer",
        ),
        (
            plan(prepare=(OVERLAY, Op(Code.CGROUP, arena=(("pids",), None, None)))),
            "not of triples",
        ),
        (plan(prepare=(OVERLAY, Op(Code.STATE, flags=1))), "can not have the flags"),
        (plan(prepare=(OVERLAY, Op(Code.STATE, value=(1, 0)))), "value it does not use"),
        (plan(prepare=(OVERLAY, Op(Code.STATE, fd=(0, -1, -1)))), "has slot 0"),
        (plan(prepare=(OVERLAY, Op(Code.STATE), Op(Code.STATE))), "a second time"),
        (plan(child=(*CHILD[:-1], Op(Code.EXEC, arena=((), (), ())))), "empty list"),
        (
            plan(child=(ROOT, PIVOT, Op(Code.GROUPS, arena=(b"123", None, None)), *CHILD[2:])),
            "3 bytes of ids",
        ),
        (
            plan(child=(*CHILD[:-1], Op(Code.SECCOMP, arena=(b"123", None, None)), EXEC)),
            "3 bytes of program",
        ),
    ],
)
def test_invalid_plans(broken: Plan, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        broken.check()
    with pytest.raises(InvalidSpec, match=message):
        Plan.decode(broken.encode())


@pytest.mark.parametrize(
    "namespaces", [0, ops.CLONE_NEWNS, ops.CLONE_NEWNS | ops.CLONE_NEWPID | 0x100]
)
def test_namespaces(namespaces: int) -> None:
    made = Plan(prepare=(OVERLAY,), child=CHILD, inputs=[Input("")], namespaces=namespaces)
    with pytest.raises(InvalidSpec, match="namespaces"):
        Plan.decode(made.encode())


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data[:0],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"X" + data[1:],
        lambda data: data[:4] + b"\2" + data[5:],
        lambda data: data[:6] + b"\3" + data[7:],
        lambda data: data[:23] + b"\1" + data[24:],
        lambda data: data[:-1] + b"x",
        lambda data: data[:12] + b"\xff\xff" + data[14:],
        lambda data: data[: 32 + 10] + b"\1" + data[32 + 11 :],
        lambda data: data[:32] + b"\xff" + data[33:],
        lambda data: data[: 32 + 12] + b"\xff\xff\xff\x7f" + data[32 + 16 :],
        lambda data: data + bytes(ops.PLAN_MAX),
    ],
)
def test_broken_bytes(break_it: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidSpec, match="cannot read a launch plan"):
        Plan.decode(break_it(plan().encode()))


@pytest.mark.parametrize(
    "op",
    [
        Op(Code.HOSTNAME, arena=("", None, None)),
        Op(Code.HOSTNAME, arena=("a\0b", None, None)),
        Op(Code.HOSTNAME, arena=("\ud800", None, None)),
        Op(Code.EXEC, arena=(("a\0b",), ("a",), ())),
        Op(Code.UMASK, value=(-1, 0)),
        Op(Code.UMASK, value=(1 << 64, 0)),
        Op(Code.STDIO, fd=(1 << 15, 0, 0)),
        Op(Code.RLIMIT, flags=1 << 16),
    ],
)
def test_what_does_not_fit(op: Op) -> None:
    with pytest.raises(InvalidSpec, match="cannot encode"):
        plan(child=(op,)).encode()


def test_arguments_have_three_types() -> None:
    with pytest.raises(TypeError):
        wire.Arena().add(["a"])  # type: ignore[arg-type]


def test_limits_of_size() -> None:
    with pytest.raises(InvalidSpec, match="more than 1048576"):
        plan(child=(Op(Code.EXEC, arena=(("a",), ("x" * (1 << 20),), ())),)).encode()
    with pytest.raises(InvalidSpec, match="more than 1024 steps"):
        plan(child=(PIVOT,) * 1025).encode()
    with pytest.raises(InvalidSpec):
        Plan(inputs=[Input("")] * 70000).encode()


def test_texts_are_stored_once() -> None:
    arena = wire.Arena()
    assert arena.add("abc") == arena.add("abc")
    assert arena.add(("abc",)) == arena.add(("abc",))
    assert arena.add(None) == 0


def test_constant_steps_do_not_leak_between_plans() -> None:
    """Arguments of one plan never reach the bytes of another."""
    compiled({"hostname": "first-host"}).encode()
    assert b"first-host" not in compiled({"hostname": "second-host"}).encode()


def test_ops_are_values() -> None:
    one = Op(Code.UMASK, value=(1, 0))
    assert one == Op(Code.UMASK, value=(1, 0))
    assert one != Op(Code.UMASK, value=(2, 0))
    assert one != "umask"
    assert len({one, copy.deepcopy(one), pickle.loads(pickle.dumps(one))}) == 1
    assert repr(one) == "<Op umask: set umask 0001>"
    assert repr(Op(99)) == "<Op 99>"


def test_plans_are_values() -> None:
    assert compiled() == compiled()
    assert hash(compiled()) == hash(compiled())
    assert compiled() != compiled({"hostname": "x"})
    assert compiled() != "plan"
    assert pickle.loads(pickle.dumps(compiled())) == compiled()
    assert repr(plan()) == "<Plan: 1 prepare, 6 child steps>"


def test_values_of_the_environment_are_in_the_plan_only() -> None:
    found = environment(IMAGE, {"A": "hunter2"}, hostname="b", home="/", tty=False)
    assert found["A"] == "hunter2"
    assert b"A=hunter2\0" in compiled({"env": {"A": "hunter2"}}).encode()

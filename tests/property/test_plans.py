"""Plans survive their wire form; no other bytes do anything but raise."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import InvalidSpec
from containerkit.launch import wire
from containerkit.launch.compile import compile_plan
from containerkit.launch.explain import explain_op
from containerkit.launch.ops import OPS, Op
from containerkit.launch.plan import Plan
from containerkit.launch.wire import OP_KINDS
from containerkit.model.mount import Mount
from tests.unit.launch.plans import V1, V2, request

TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40
)
WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


def arguments(kind: str) -> st.SearchStrategy[object]:
    """Values for an argument of a kind, as an op's row names it."""
    if not kind:
        return st.none()
    found: st.SearchStrategy[object] = {
        "text": TEXTS,
        "list": WORDS.map(tuple),
        "bytes": st.binary(max_size=80),
    }[OP_KINDS[kind.removesuffix("?")]]
    return found | st.none() if kind.endswith("?") else found


@st.composite
def ops(draw: st.DrawFn) -> Op:
    code = draw(st.sampled_from(sorted(OPS)))
    first, second, third = (draw(arguments(kind)) for kind in OPS[code].arena)
    return Op(
        code,
        flags=draw(st.integers(0, 0xFFFF)),
        fd=draw(st.tuples(*[st.integers(-1, 63)] * 3)),
        arena=(first, second, third),  # type: ignore[arg-type]
        value=draw(st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2)),
    )


@given(st.lists(ops(), max_size=8))
def test_arguments_survive(given_ops: list[Op]) -> None:
    """Whatever is in an op, unpacking gives it back."""
    arena = wire.Arena()
    packed = [wire.pack_op(op, arena) for op in given_ops]
    data = bytes(arena.data) + b"\0"
    for op, each in zip(given_ops, packed, strict=True):
        assert wire.unpack_op(each, 0, data, OPS[op.code].section, 0) == op


ENVIRONMENTS = st.dictionaries(
    st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.none(),
    max_size=5,
)


@given(
    command=WORDS.filter(lambda words: bool(words and words[0])),
    env=ENVIRONMENTS,
    targets=st.lists(st.sampled_from(["/a", "/a/b", "/c", "/dev/shm", "/etc"]), unique=True),
    facts=st.sampled_from([V1, V2]),
    ephemeral=st.booleans(),
)
def test_compiled_plans_are_valid_and_survive(
    command: list[str],
    env: dict[str, str | None],
    targets: list[str],
    facts: object,
    ephemeral: bool,
) -> None:
    mounts = [Mount.bind(f"/src{n}", target) for n, target in enumerate(targets)]
    made = attrs.evolve(request(command, {"env": env, "mounts": mounts}), ephemeral=ephemeral)
    plan = compile_plan(made, facts)  # type: ignore[arg-type]
    plan.check()
    data = plan.encode()
    assert Plan.decode(data).sections == plan.sections
    assert Plan.decode(data).encode() == data
    assert plan.explain().isascii() or plan.explain().replace("\n", "").isprintable()


VALID = compile_plan(
    request(["true"], {"mounts": [Mount.bind("/s", "/t")], "secrets": {"k": b""}}), V1
).encode()


def decode_or_refuse(data: bytes) -> None:
    try:
        plan = Plan.decode(data)
    except InvalidSpec:
        return
    assert plan.explain()
    for section in plan.sections:
        for op in section:
            assert explain_op(op)


@given(st.binary(max_size=400))
def test_random_bytes_only_raise_invalid_spec(data: bytes) -> None:
    decode_or_refuse(data)
    decode_or_refuse(VALID[:48] + data)


@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(VALID)),
)
def test_mutated_plans_only_raise_invalid_spec(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(VALID)
    for at, value in changes:
        data[at] = value
    decode_or_refuse(bytes(data))
    decode_or_refuse(bytes(data[:cut]))

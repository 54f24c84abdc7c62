"""The numbers of launch plans are the same in Python and in ck_plan.h."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from containerkit.launch import ops, wire

HEADER = Path(__file__).parents[3] / "src" / "_native" / "ck_plan.h"
TABLE = (HEADER.parent / "ck_ops.h").read_text(encoding="utf-8")
TEXT = re.sub(
    r"/\*.*?\*/|^#[^\n]*", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
)


def enum_values(body: str) -> dict[str, int]:
    """Evaluate the members of one C enum: literals, shifts, and counting on."""
    found: dict[str, int] = {}
    following = 0
    for member in filter(None, (part.strip() for part in body.split(","))):
        name, equals, value = (part.strip() for part in member.partition("="))
        if equals:
            assert re.fullmatch(r"[0-9a-fx<> ]+", value), value
            following = eval(value)
        found[name] = following
        following += 1
    return found


ENUMS = {
    match[1]: enum_values(match[2])
    for match in re.finditer(r"enum\s*(\w*)\s*\{(.*?)\}", TEXT, flags=re.DOTALL)
}


def test_op_codes() -> None:
    """Every op of the C table is in ours, under the same number, and no other."""
    rows = re.findall(r"^CK_(PREPARE|CHILD)_OP\((\w+), (\d+),", TABLE, flags=re.MULTILINE)
    expected = {
        name: (ops.SECTIONS.index(section.lower()), int(code)) for section, name, code in rows
    }
    assert expected == {code.name: (ops.OPS[code].section, int(code)) for code in ops.Code}


def test_every_op_has_a_row() -> None:
    assert {int(code) for code in ops.Code} == set(ops.OPS)


def test_op_flags() -> None:
    expected = {name.removeprefix("CK_"): value for name, value in ENUMS["ck_op_flag"].items()}
    actual = {name: value for name, value in vars(ops).items() if name.startswith("F_")}
    assert expected == actual


@pytest.mark.parametrize(
    ("enum", "name", "actual"),
    [
        ("", "CK_PLAN_MAGIC", ops.PLAN_MAGIC),
        ("", "CK_PLAN_VERSION", ops.PLAN_VERSION),
        ("", "CK_PLAN_MAX", ops.PLAN_MAX),
        ("", "CK_PLAN_INLINE", ops.PLAN_INLINE),
        ("", "CK_PLAN_OPS_MAX", ops.PLAN_OPS_MAX),
        ("", "CK_SLOTS", ops.SLOTS),
        ("ck_plan_flag", "CK_PLAN_EPHEMERAL", ops.PLAN_EPHEMERAL),
        ("ck_plan_flag", "CK_PLAN_KEPT", ops.PLAN_KEPT),
        ("ck_plan_flag", "CK_PLAN_EXEC", ops.PLAN_EXEC),
        ("ck_restart", "CK_RESTART_ON_FAILURE", ops.RESTART_ON_FAILURE),
        ("ck_restart", "CK_RESTART_ALWAYS", ops.RESTART_ALWAYS),
        ("ck_restart", "CK_RESTART_UNLESS_STOPPED", ops.RESTART_UNLESS_STOPPED),
        ("ck_own", "CK_OWN_IS_DEV", ops.OWN_DEV),
        ("ck_own", "CK_OWN_IS_GROUPS", ops.OWN_GROUPS),
        ("ck_netns", "CK_NETNS_POOLED", ops.NETNS_POOLED),
        ("ck_netns", "CK_NETNS_HOST", ops.NETNS_HOST),
        ("ck_section", "CK_PREPARE", ops.PREPARE),
        ("ck_section", "CK_CHILD", ops.CHILD),
    ],
)
def test_constants(enum: str, name: str, actual: int) -> None:
    assert ENUMS[enum][name] == actual


def test_sizes() -> None:
    """The header's comments say how large its structures are."""
    text = HEADER.read_text(encoding="utf-8")
    assert f"struct ck_plan_header {{ /* {wire.HEADER.size} bytes */" in text
    assert f"struct ck_op {{ /* {wire.OP.size} bytes */" in text

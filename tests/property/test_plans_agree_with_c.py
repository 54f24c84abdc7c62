"""What Python calls a valid plan, the launcher's validator accepts."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from containerkit.errors import InvalidSpec
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import F_OPTIONAL, Code, Op
from containerkit.launch.plan import Plan
from containerkit.model.limits import Limits
from containerkit.model.mount import Mount
from containerkit.model.security import Security
from tests.unit.launch.plans import GROUP, ID, IMAGE, PASSWD, V2, compiled

NATIVE = Path(__file__).parents[2] / "src" / "_native"

# Reads u32 size | plan, over and over; writes a byte each: 1 for valid.
PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#include "ck_plan.h"

int main(void)
{
    uint32_t size, at;
    struct ck_plan plan;

    while (fread(&size, sizeof size, 1, stdin) == 1) {
        void *bytes = aligned_alloc(8, (size + 8) / 8 * 8);
        if (!bytes || (size && fread(bytes, size, 1, stdin) != 1))
            return 1;
        putchar(ck_plan_check(bytes, size, &plan, &at) == 0);
        free(bytes);
    }
    return 0;
}
"""

PLANS = [
    compiled(),
    compiled({"tty": True, "network": "host"}),
    compiled(
        {
            "mounts": [Mount.bind("/s", "/t"), Mount.tmpfs("/u", size="1m")],
            "secrets": {"k": b""},
            "workdir": "/w",
            "user": "app",
            "limits": Limits(memory="64m", cpus=1),
            "security": Security(read_only=True, seccomp=bytes(8), no_new_privileges=False),
        },
        facts=V2,
        oom_score_adj=0,
        ephemeral=False,
    ),
    exec_plan(
        ExecBase(ID, IMAGE, {"security": Security(seccomp=bytes(8))}, V2, PASSWD, GROUP),
        ExecRequest("true", user="app"),
    ),
]


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("validator")
    (folder / "main.c").write_text(PROGRAM)
    program = folder / "validator"
    flags = ["-D_GNU_SOURCE", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [folder / "main.c", NATIVE / "ck_plan.c"]
    subprocess.run(
        [compiler, *flags, f"-I{NATIVE}", "-o", program, *sources], check=True, timeout=60
    )
    return program


def verdicts(validator: Path, plans: list[bytes]) -> list[bool]:
    data = b"".join(struct.pack("<I", len(plan)) + plan for plan in plans)
    done = subprocess.run([validator], input=data, capture_output=True, timeout=60, check=True)
    return [byte == 1 for byte in done.stdout]


def is_valid(data: bytes) -> bool:
    try:
        Plan.decode(data)
    except InvalidSpec:
        return False
    return True


def test_compiled_plans_are_accepted(validator: Path) -> None:
    assert verdicts(validator, [plan.encode() for plan in PLANS]) == [True] * len(PLANS)


CONFINES = (Code.IDS, Code.CAPS, Code.SECCOMP)


def without(plan: Plan, *codes: Code) -> bytes:
    child = [op for op in plan.child if op.code not in codes]
    return Plan(
        inputs=plan.inputs,
        prepare=plan.prepare,
        child=child,
        namespaces=plan.namespaces,
        kind=plan.kind,
    ).encode()


@pytest.mark.parametrize("code", CONFINES)
def test_what_does_not_confine_is_refused_by_both(validator: Path, code: Code) -> None:
    bare = [without(plan, code) for plan in PLANS]
    assert verdicts(validator, bare) == [False] * len(PLANS)
    assert [is_valid(data) for data in bare] == [False] * len(PLANS)
    assert verdicts(validator, [without(plan, Code.CHDIR) for plan in PLANS]) == [True] * len(PLANS)


@pytest.mark.parametrize("code", [*CONFINES, Code.NO_NEW_PRIVS, Code.PIVOT, Code.MASK])
def test_what_confines_may_not_fail(validator: Path, code: Code) -> None:
    made = compiled()
    child = [
        Op(op.code, flags=F_OPTIONAL, fd=op.fd, arena=op.arena, value=op.value)
        if op.code == code
        else op
        for op in made.child
    ]
    assert child != list(made.child)
    data = Plan(inputs=made.inputs, prepare=made.prepare, child=child).encode()
    assert (verdicts(validator, [data]), is_valid(data)) == ([False], False)


def test_that_there_is_no_filter_is_said(validator: Path) -> None:
    """By those that mean it, and they alone."""
    for security in (Security.privileged(), Security(seccomp="unconfined")):
        made = compiled({"security": security})
        assert [op.code for op in made.child].count(Code.UNCONFINED) == 1
        assert verdicts(validator, [made.encode()]) == [True]
        assert verdicts(validator, [without(made, Code.UNCONFINED)]) == [False]
    assert all(op.code != Code.UNCONFINED for plan in PLANS for op in plan.child)


def test_mutated_plans(validator: Path) -> None:
    """C is never stricter than Python, and never reads past the plan (it runs under ASan)."""
    choose = random.Random(20261124)
    mutated = []
    for _ in range(600):
        data = bytearray(choose.choice(PLANS).encode())
        for _ in range(choose.randint(1, 3)):
            # Mostly in header and steps, where fields are; the arena is nearly all text.
            at = choose.randrange(len(data) if choose.random() < 0.3 else len(data) // 2)
            data[at] = choose.choice([0, 1, 2, 8, 40, 58, 255, choose.randrange(256)])
        mutated.append(bytes(data))
    stricter = [
        data
        for data, accepted in zip(mutated, verdicts(validator, mutated), strict=True)
        if is_valid(data) and not accepted
    ]
    assert stricter == []

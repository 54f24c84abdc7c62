"""Plans where no namespaces are to be had: what is refused, and what is left out."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from containerkit.errors import InvalidSpec, MissingFeature
from containerkit.launch.bare import WITHHELD
from containerkit.launch.capabilities import mask_of
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import CHILD, CLONE_NEWNS, CLONE_NEWPID, Code
from containerkit.launch.plan import Plan
from containerkit.model.idmap import IdMap
from containerkit.model.limits import Limits
from containerkit.model.mount import Mount
from containerkit.model.security import Security
from tests.unit.launch.plans import GROUP, ID, IMAGE, NESTED, PASSWD, compiled

NOBODY = attrs.evolve(NESTED, capabilities=mask_of(("SYS_CHROOT",)), euid=65534, egid=65534)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"hostname": "name"}, "a host name"),
        ({"mounts": [Mount.tmpfs("/mnt")]}, "mounts"),
        ({"secrets": {"name": b"secret"}}, "secrets"),
        ({"limits": Limits(memory="64m")}, "memory"),
        ({"limits": Limits(disk="64m")}, "disk"),
        ({"limits": Limits(shm_size="64m")}, "/dev/shm"),
        ({"security": Security.strict()}, "strict"),
        ({"security": Security(read_only=True)}, "read-only root"),
        ({"security": Security(userns="auto")}, "'auto'"),
        ({"security": Security(userns=IdMap([(0, 1, 1)]))}, "user namespace"),
        ({"security": Security(devices=["/dev/fuse"])}, "devices"),
        ({"security": Security(sysctls={"kernel.shmmax": "1"})}, "sysctls"),
        ({"security": Security(masked_paths=["/proc"])}, "masked paths"),
        ({"security": Security(read_only_paths=["/proc"])}, "read-only paths"),
        ({"security": Security(no_new_privileges=False)}, "new privileges"),
        ({"security": Security(capabilities=["SYS_PTRACE"])}, "SYS_PTRACE"),
    ],
)
def test_what_was_asked_for_and_can_not_be_held_is_refused(
    options: dict[str, Any], what: str
) -> None:
    with pytest.raises(MissingFeature, match=what):
        compiled(options, facts=attrs.evolve(NESTED, capabilities=(1 << 41) - 1))  # type: ignore[arg-type]


def test_no_capability_leads_out() -> None:
    for security in (Security(), Security.privileged()):
        plan = compiled(
            {"security": security}, facts=attrs.evolve(NESTED, capabilities=(1 << 41) - 1)
        )
        bounding, held = next(op.value for op in plan.child if op.code == Code.CAPS)
        assert not (bounding | held) & mask_of(WITHHELD)


def test_who_can_not_become_another_is_not() -> None:
    plan = compiled({}, facts=NOBODY)
    assert [op.value for op in plan.child if op.code == Code.IDS] == [(65534, 65534)]
    assert Code.GROUPS not in [op.code for op in plan.child]
    assert any("as user 65534" in note for note in plan.notes)
    compiled({"user": "65534:65534"}, facts=NOBODY)
    with pytest.raises(MissingFeature, match="as user 1000"):
        compiled({"user": "app"}, facts=NOBODY)


def test_an_image_needs_chroot() -> None:
    with pytest.raises(MissingFeature, match="neither namespaces nor chroot") as caught:
        compiled({}, facts=attrs.evolve(NESTED, capabilities=0))
    assert "--cap-add SYS_CHROOT" in str(caught.value.hint)


def test_all_rights_are_not_to_be_had_in_an_exec() -> None:
    base = ExecBase(ID, IMAGE, facts=NESTED, passwd=PASSWD, group=GROUP)
    with pytest.raises(MissingFeature, match="all rights"):
        exec_plan(base, ExecRequest(["true"], privileged=True))


def test_a_plan_is_of_one_kind() -> None:
    """What has no namespaces has an init that ends what is left; what has some changes its root so."""
    plan = compiled({}, facts=NESTED)

    def broken(**changes: Any) -> None:
        parts = {"prepare": plan.prepare, "child": plan.child, "namespaces": 0, **changes}
        with pytest.raises(InvalidSpec):
            Plan(inputs=plan.inputs, kind=plan.kind, **parts).check()

    broken(namespaces=CLONE_NEWNS | CLONE_NEWPID)
    for code in (Code.CHROOT, Code.INIT):
        broken(child=[op for op in plan.child if op.code != code])
    ordinary = compiled({})
    pivot = next(op for op in ordinary.sections[CHILD] if op.code == Code.PIVOT)
    broken(child=[pivot, *plan.child])

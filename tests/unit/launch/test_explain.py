"""Words for steps that failed."""

from __future__ import annotations

import errno

import pytest

from containerkit.launch.capabilities import explain_mask
from containerkit.launch.explain import explain_op, hint_for
from containerkit.launch.ops import CHILD, OPS, PREPARE, Code, Op
from containerkit.launch.plan import Plan
from tests.unit.launch.plans import compiled, steps


def test_a_step_is_described_with_its_number_in_the_text() -> None:
    plan = compiled()
    index = [op.arena[0] for op in plan.child].index("proc")
    text = plan.describe(CHILD, index)
    number = len(plan.prepare) + index + 1
    count = sum(map(len, plan.sections))
    assert text == (
        f"mount proc on /proc, nosuid nodev noexec, creating it (step {number} of {count}, mount_fs)"
    )
    assert plan.number(CHILD, index) == number
    assert f"{number:4}  mount_fs        mount proc on /proc" in plan.explain()


def test_an_unknown_step_is_no_failure() -> None:
    assert "unknown step" in compiled().describe(CHILD, 999)
    assert "unknown step" in compiled().describe(PREPARE, 99)


def test_long_commands_are_cut_in_messages_not_in_the_text() -> None:
    plan = compiled(command=["x" * 1000])
    assert len(plan.describe(CHILD, len(plan.child) - 1)) < 400
    assert "x" * 1000 in plan.explain()


def test_control_characters_of_an_image_do_not_reach_a_terminal() -> None:
    plan = compiled(command=["\x1b[2J", "a\nb"], options={"workdir": "/\x1b]0;x\x07"})
    text = plan.explain()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"'a\nb'" in text
    assert steps(plan, Code.CHDIR)[0].arena[0] == "/\x1b]0;x\x07"


@pytest.mark.parametrize("code", list(OPS))
def test_every_op_has_words(code: int) -> None:
    """Also with nothing in it, as a hostile plan may have it."""
    assert explain_op(Op(code)) != ""


@pytest.mark.parametrize(
    ("code", "errnum", "word"),
    [
        (Code.EXEC, errno.ENOENT, "interpreter"),
        (Code.EXEC, errno.EACCES, "not executable"),
        (Code.OVERLAY, errno.ENODEV, "module overlay"),
        (Code.OVERLAY, errno.E2BIG, "90 layers"),
        (Code.RLIMIT, errno.EPERM, "CAP_SYS_RESOURCE"),
        (Code.MOUNT_FS, errno.ELOOP, "link"),
        (Code.MKDIR, errno.EROFS, "read-only"),
        (Code.MOVE_MOUNT, errno.EINVAL, "the other a directory"),
        (Code.SYSCTL, errno.EACCES, "only be read"),
        (Code.MKDIR, errno.ENAMETOOLONG, "255 bytes"),
        (Code.HOSTNAME, errno.EPERM, "right"),
        (Code.JOIN_NET, errno.EMFILE, "ulimit -n"),
    ],
)
def test_hints(code: Code, errnum: int, word: str) -> None:
    assert word in (hint_for(code, errnum) or "")


def test_no_hint_is_better_than_a_wrong_one() -> None:
    assert hint_for(Code.HOSTNAME, errno.EIO) is None


@pytest.mark.parametrize(
    ("mask", "text"), [(0, "none"), (1, "CHOWN"), ((1 << 41) - 1, "all"), (1 << 60, "#60")]
)
def test_masks(mask: int, text: str) -> None:
    assert explain_mask(mask) == text


def test_an_empty_plan() -> None:
    assert Plan().explain().startswith("prepare")

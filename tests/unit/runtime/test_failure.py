"""What the launcher reports, as exceptions that say what to do."""

from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path

import pytest

from containerkit.errors import CommandNotFound, InvalidSpec, LaunchError, NotExecutable
from containerkit.launch.ops import CHILD, PREPARE, Code
from containerkit.launch.plan import Plan
from containerkit.runtime import packets
from containerkit.runtime.failure import launch_error, was_stillborn
from tests.unit.launch.plans import compiled

PLAN = compiled(command=("prog", "arg"))
NOWHERE = 0xFFFF


def event(section: int, step: int, code: int, errnum: int, aux: int = 0) -> packets.Event:
    return packets.Event(packets.FAILED, section, step, code, errnum, aux, 0, 0, 0, 0, 0, 0, 0, 0)


def failed(plan: Plan, section: int, code: Code, errnum: int, aux: int = 0) -> Exception:
    """The error for the failure of the first step of a kind."""
    step = next(n for n, op in enumerate(plan.sections[section]) if op.code == code)
    return launch_error(plan, event(section, step, code, errnum, aux))


@pytest.mark.parametrize("errnum", [errno.ECHILD, errno.EPIPE])
def test_a_parked_child_that_ended_too_late_to_be_noticed(errnum: int) -> None:
    """Nothing of the plan was done: whoever asked may ask again."""
    assert was_stillborn(event(CHILD, 0, 0, errnum))
    assert not was_stillborn(event(CHILD, 0, Code.EXEC, errnum))
    assert not was_stillborn(event(CHILD, 0, 0, errnum, aux=9))


def test_every_step_has_its_words() -> None:
    for section in (PREPARE, CHILD):
        for step, op in enumerate(PLAN.sections[section][:-1]):
            error = launch_error(PLAN, event(section, step, op.code, errno.EPERM))
            assert isinstance(error, LaunchError)
            assert error.errno == errno.EPERM
            assert error.op_index == PLAN.number(section, step)
            assert error.plan is PLAN
            assert str(error).startswith("cannot start the container: cannot ")
            assert "EPERM" in str(error)


@pytest.mark.parametrize(
    ("errnum", "kind"),
    [
        (errno.ENOENT, CommandNotFound),
        (errno.ENOTDIR, CommandNotFound),
        (errno.EACCES, NotExecutable),
        (errno.ENOEXEC, NotExecutable),
        (errno.E2BIG, LaunchError),
        (errno.ENOMEM, LaunchError),
    ],
)
def test_exec(errnum: int, kind: type[LaunchError]) -> None:
    error = failed(PLAN, CHILD, Code.EXEC, errnum)
    assert type(error) is kind
    assert error.op == "exec"
    assert "'prog'" in str(error)


def test_where_it_was_looked_for() -> None:
    error = failed(PLAN, CHILD, Code.EXEC, errno.ENOENT)
    assert "(looked for /usr/bin/prog, /bin/prog)" in str(error)


def test_a_missing_interpreter() -> None:
    error = failed(PLAN, CHILD, Code.EXEC, errno.ENOENT, aux=2)
    assert isinstance(error, CommandNotFound)
    assert "'/bin/prog': it is there, but the interpreter" in str(error)


def test_killed_during_set_up() -> None:
    error = launch_error(PLAN, event(CHILD, 0, 0, errno.ECHILD, aux=9))
    assert isinstance(error, LaunchError)
    assert "killed by signal 9" in str(error)


@pytest.mark.parametrize("section", [NOWHERE, PREPARE, CHILD])
def test_a_plan_that_was_refused(section: int) -> None:
    error = launch_error(PLAN, event(section, 3, 0, errno.EINVAL))
    assert isinstance(error, InvalidSpec)
    assert ("its header" if section == NOWHERE else "step 3 of section") in str(error)


def test_no_room() -> None:
    error = launch_error(PLAN, event(NOWHERE, 0, 0, errno.EMFILE))
    assert isinstance(error, LaunchError)
    assert error.hint
    header = (Path(__file__).parents[3] / "src" / "_native" / "ck_launcher.h").read_text()
    found = re.search(r"CK_CONTAINERS = (\d+)", header)
    assert found is not None
    assert found[1] in str(error)


def test_they_pickle() -> None:
    error = failed(PLAN, CHILD, Code.CHDIR, errno.EACCES)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.op, again.errno, again.op_index) == ("chdir", errno.EACCES, error.op_index)  # type: ignore[attr-defined]

"""Which ids an ordinary user's containers have, and what is said where they can have none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerkit.errors import HostError, PermissionDenied
from containerkit.state import forbidden, userns
from containerkit.state.userns import Ids

ALONE = Ids(((0, 1000, 1),), ((0, 100, 1),))
MORE = Ids(((0, 1000, 1), (1, 100000, 65536)), ((0, 100, 1), (1, 100000, 65536)))


@pytest.mark.parametrize("ids", [ALONE, MORE])
def test_ids_are_fixed_when_a_root_is_first_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: Ids
) -> None:
    monkeypatch.setattr(userns, "granted", lambda: ids)
    assert userns.ids_of(tmp_path) == ids
    monkeypatch.setattr(userns, "granted", lambda: None)
    assert userns.ids_of(tmp_path) == ids
    assert ids.single == (ids is ALONE)


def test_without_a_grant_there_is_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "granted", lambda: None)
    assert userns.ids_of(tmp_path) == Ids(((0, os.geteuid(), 1),), ((0, os.getegid(), 1),))


def test_a_refusal_names_the_setting_and_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii").strip()
    monkeypatch.setattr(forbidden, "KNOBS", (("kernel.pid_max", setting, "7"),))
    error = forbidden.refused(errno.EPERM)
    assert isinstance(error, PermissionDenied)
    assert f"kernel.pid_max is {setting}" in str(error)
    assert error.hint == "as root: sysctl kernel.pid_max=7"


def test_a_launcher_that_is_not_set_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii").strip()
    monkeypatch.setattr(forbidden, "KNOBS", (("kernel.pid_max", setting, "7"),))
    for number in (errno.EPERM, errno.EACCES):
        error = forbidden.not_set_up("mount its /proc", number)
        assert isinstance(error, PermissionDenied)
        assert "could not mount its /proc" in str(error)
        assert error.hint == "as root: sysctl kernel.pid_max=7"
    monkeypatch.setattr(forbidden, "KNOBS", ())
    assert "seccomp" in str(forbidden.not_set_up("mount its /proc", errno.EPERM).hint)
    assert forbidden.not_set_up("open the store", errno.EACCES).hint is None
    other = forbidden.not_set_up("mount its /proc", errno.ENOSPC)
    assert type(other) is HostError
    assert other.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, HostError, "user.max_user_namespaces"),
        (errno.EPERM, PermissionDenied, "seccomp"),
    ],
)
def test_a_refusal_without_a_setting_says_what_else_it_may_be(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[HostError], words: str
) -> None:
    monkeypatch.setattr(forbidden, "KNOBS", ())
    error = forbidden.refused(number)
    assert type(error) is kind
    assert error.errno == number
    assert words in str(error)


def test_as_many_processes_as_may_be_are_not_called_a_filter() -> None:
    hint = str(forbidden.refused(errno.EAGAIN).hint)
    assert "ulimit -u" in hint
    assert "seccomp" not in hint


def test_root_that_may_not_be_root_is_told_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(forbidden, "_may_be_root", lambda: False)
    assert "SETFCAP" in str(forbidden.refused(errno.EPERM).hint)


SOME_RIGHTS = """
import os, sys
from containerkit.state import userns
print(userns.is_administrator(), userns.is_within(), userns.marks())
"""


@pytest.mark.needs("host root")
@pytest.mark.parametrize(
    ("around", "said"),
    [
        ([], "True False trusted"),
        (["setpriv", "--bounding-set", "-net_admin"], "False True user"),
        (["unshare", "--user", "--map-root-user"], "False True user"),  # the mounts are the host's
        (["unshare", "--user", "--map-root-user", "--mount"], "True True user"),
    ],
)
def test_who_is_not_root_of_all_it_takes_makes_a_namespace(around: list[str], said: str) -> None:
    command = [*around, sys.executable, "-c", SOME_RIGHTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said

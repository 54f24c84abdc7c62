"""Which ids an ordinary user's containers have, and what is said where they can have none."""

from __future__ import annotations

import errno
import os
import pwd
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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("somebody:100000:65536\n", None),
        ("me:100000:65536\nme:300000:65536\n", (100000, 65536)),
        ("4321:200000:10\n", (200000, 10)),
        ("me:none:65536\n", None),
        ("me:100000:0\n", None),
        ("me:100000\n", None),
    ],
)
def test_ranges_are_read_as_newuidmap_reads_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    found: tuple[int, int] | None,
) -> None:
    class Me:
        pw_name = "me"

    monkeypatch.setattr(os, "getuid", lambda: 4321)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: Me)
    path = tmp_path / "subuid"
    path.write_text(text)
    assert userns._range(path) == found


def test_no_file_of_ranges_grants_nothing(tmp_path: Path) -> None:
    assert userns._range(tmp_path / "subuid") is None


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

"""The ids that a host grants an ordinary user, and what is said where it grants none."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from containerkit.state import subids


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
    assert subids._range(path) == found


def test_no_file_of_ranges_grants_nothing(tmp_path: Path) -> None:
    assert subids._range(tmp_path / "subuid") is None


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    two = tmp_path / "subuid", tmp_path / "subgid"
    monkeypatch.setattr(subids, "_FILES", two)
    monkeypatch.setattr(subids, "in_the_way", lambda: "")
    monkeypatch.setattr(subids, "_names", lambda: {"me", "4321"})
    return two


def test_a_grant_that_is_asked_for_is_nobody_elses(files: tuple[Path, Path]) -> None:
    assert "--add-subuids 100000-165535 --add-subgids 100000-165535 me" in subids.knob()
    files[0].write_text("ann:100000:65536\n")
    files[1].write_text("ann:100000:65536\nbob:165536:100000\nodd:4294900000:60000\n")
    assert "--add-subuids 265536-331071 --add-subgids 265536-331071 me" in subids.knob()


def test_it_says_which_of_them_is_missing(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files[0].write_text("me:100000:65536\n")
    assert subids.withheld() == f"none for this user in {files[1]}"
    files[1].write_text("me:100000:65536\n")
    monkeypatch.setattr(subids, "program", lambda name: "x" if name == "newuidmap" else None)
    assert subids.withheld() == "newgidmap can not be found"
    monkeypatch.setattr(subids, "program", lambda _: "x")
    assert subids.withheld() == ""
    assert subids.ranges() == ((100000, 65536), (100000, 65536))
    monkeypatch.setattr(subids, "in_the_way", lambda: "this is so")
    assert subids.withheld() == "this is so"


def test_who_gains_no_rights_can_not_use_newuidmap() -> None:
    code = "from containerkit.state import subids; print(subids.in_the_way())"
    done = subprocess.run(
        ["setpriv", "--no-new-privs", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no_new_privs" in done.stdout


def test_a_program_beside_the_user_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "sh"
    mine.write_text("#!/bin/false\n")
    mine.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".::relative:")
    assert shutil.which("sh") == "./sh"
    assert subids.program("sh") in ("/usr/bin/sh", "/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert subids.program("sh") == str(mine)

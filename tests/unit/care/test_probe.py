"""`probe` on this host and on hosts that are made up; it reads, and changes nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from containerkit.care import groups, kernel, probe
from containerkit.model.host import HostFeature, HostReport
from containerkit.runtime import cgroups
from containerkit.state import userns
from tests.no_openat2 import plugin


def test_every_feature_says_what_it_is_for_and_what_stands_in() -> None:
    report = probe.probe()
    names = [feature.name for feature in report]
    assert len(set(names)) == len(names) == len(report)
    for feature in report:
        assert feature.needed_for
        assert feature.stands_in
        assert feature.found
        assert report[feature.name] is feature
    for feature in report.missing:
        assert not feature.present
    assert {"overlay", "openat2", "cgroup memory", "detached containers", "kvm"} <= set(names)


def test_it_is_a_table() -> None:
    there = HostFeature("one", True, "yes", "this", "that", "")
    missing = HostFeature("second", False, "no", "this", "that", "modprobe it")
    report = HostReport((there, missing))
    assert str(report).splitlines() == [
        "one     yes  yes",
        "             for this",
        "second  NO   no",
        "             for this",
        "             without: that",
        "             to have it: modprobe it",
    ]
    assert report.missing == (missing,)
    assert "one" in report
    assert "third" not in report
    with pytest.raises(KeyError):
        report["third"]


def test_the_questions_have_no_effect() -> None:
    """Descriptors, namespaces and mounts are what they were."""

    def state() -> tuple[object, ...]:
        spaces = sorted(
            os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
        )
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        return spaces, mounts, len(os.listdir("/proc/self/fd")), os.listdir("/proc/self/task")

    before = state()
    probe.probe()
    assert state() == before


def test_this_kernel_knows_the_calls_that_containers_need() -> None:
    for question in (kernel.clone3, kernel.pidfd_open, kernel.mount_api):
        assert question().known
    assert kernel.openat2().known == plugin.has_openat2()  # the one that they can do without


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.E2BIG])
def test_a_kernel_that_says_no(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    monkeypatch.setattr(kernel, "_call", lambda *_: error)
    answer = kernel.clone_into_cgroup()
    assert answer == (False, errno.errorcode[error])


def test_groups_of_version_2_that_were_not_handed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").write_text("pids cpu\n")
    found = cgroups.Hierarchies("v2", {"unified": tmp_path}, {"unified": tmp_path})
    monkeypatch.setattr(cgroups, "find", lambda: found)
    features = {feature.name: feature for feature in groups.features()}
    assert features["cgroups"].present
    assert features["cgroup pids"].present
    assert features["cgroup freezer"].present
    assert not features["cgroup memory"].present
    assert "Delegate=yes" in features["cgroup memory"].knob


@pytest.mark.parametrize("error", [errno.EPERM, errno.EFAULT])
def test_devices_of_version_2_need_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    (tmp_path / "cgroup.controllers").write_text("pids cpu\n")
    found = cgroups.Hierarchies("v2", {"unified": tmp_path}, {"unified": tmp_path})
    monkeypatch.setattr(cgroups, "find", lambda: found)
    monkeypatch.setattr(kernel, "_call", lambda *_: error)
    features = {feature.name: feature for feature in groups.features()}
    assert features["cgroup devices"].present == (error == errno.EFAULT)
    assert error == errno.EFAULT or "CAP_BPF" in features["cgroup devices"].knob


def test_a_host_without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "find", lambda: cgroups.NONE)
    features = list(groups.features())
    assert not any(feature.present for feature in features)
    assert groups.detached_ends_with() == () or os.readlink("/proc/self/ns/pid")


@pytest.mark.parametrize(("module", "word"), [("AppArmor", "profile"), ("SELinux", "label")])
def test_that_no_profile_is_set_is_said_where_there_could_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, word: str
) -> None:
    monkeypatch.setattr(probe, "_MODULES", {module: str(tmp_path / "there")})
    assert probe.probe()["security module"].present
    (tmp_path / "there").touch()
    feature = probe.probe()["security module"]
    assert not feature.present
    assert f"{module} is there; no {word} is set" in feature.found


@pytest.mark.parametrize(
    ("needed", "granted", "groups", "present"),
    [
        (False, None, [7, 8], True),
        (True, object(), [7, 8], True),
        (True, None, [7], True),
        (True, None, [7, 8], False),
    ],
)
def test_groups_that_stay_are_named(
    monkeypatch: pytest.MonkeyPatch, needed: bool, granted: object, groups: list[int], present: bool
) -> None:
    monkeypatch.setattr(userns, "is_needed", lambda: needed)
    monkeypatch.setattr(userns, "granted", lambda: granted)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr(os, "getegid", lambda: 7)
    found = probe._groups()
    assert found[0] == present
    assert present or found[1].startswith("8 stay")

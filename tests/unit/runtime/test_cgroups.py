"""Where a process is in control groups, from the texts of /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerkit.runtime import cgroups
from containerkit.runtime.cgroups import NONE, Hierarchies, parse


def mount(kind: str, root: str, point: str, options: str = "rw") -> str:
    return f"30 20 0:26 {root} {point} rw,nosuid - {kind} {kind} {options}\n"


V1_MOUNTS = (
    "20 1 8:1 / / rw - ext4 /dev/root rw\n"
    + mount("cgroup", "/", "/sys/fs/cgroup/pids", "rw,pids")
    + mount("cgroup", "/", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct")
    + mount("cgroup", "/", "/sys/fs/cgroup/memory", "rw,memory")
    + mount("cgroup", "/", "/sys/fs/cgroup/systemd", "rw,xattr,name=systemd")
)
V1 = "5:memory:/user\n4:cpu,cpuacct:/user\n3:pids:/\n2:blkio:/\n1:name=systemd:/\n"


def test_version_1() -> None:
    found = parse(V1, V1_MOUNTS)
    assert found == Hierarchies(
        "v1",
        {
            "memory": Path("/sys/fs/cgroup/memory/user"),
            "cpu": Path("/sys/fs/cgroup/cpu,cpuacct/user"),
            "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct/user"),
            "pids": Path("/sys/fs/cgroup/pids"),
        },
        {
            "memory": Path("/sys/fs/cgroup/memory"),
            "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
            "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
            "pids": Path("/sys/fs/cgroup/pids"),
        },
    )


def test_hybrid() -> None:
    """Version 1 has the controllers, and an empty version 2 is mounted beside it."""
    mounts = V1_MOUNTS + mount("cgroup2", "/", "/sys/fs/cgroup/unified")
    found = parse(V1 + "0::/\n", mounts)
    assert found.version == "hybrid"
    assert found.directories == parse(V1, V1_MOUNTS).directories


def test_version_2(tmp_path: Path) -> None:
    group = tmp_path / "user.slice"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    found = parse("0::/user.slice\n", mount("cgroup2", "/", str(tmp_path)))
    assert found == Hierarchies("v2", {"unified": group}, {"unified": tmp_path})


def test_version_2_without_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("\n")
    assert parse("0::/\n", mount("cgroup2", "/", str(tmp_path))) == NONE


def test_a_mount_of_a_part() -> None:
    """In a container, only what is below its own group is mounted."""
    mounts = mount("cgroup", "/docker/abc", "/sys/fs/cgroup/pids", "rw,pids")
    found = parse("3:pids:/docker/abc/inner\n", mounts)
    assert found.directories == {"pids": Path("/sys/fs/cgroup/pids/inner")}
    assert parse("3:pids:/docker/abcd\n", mounts) == NONE
    assert parse("3:pids:/\n", mounts) == NONE


def test_a_mount_from_outside_of_our_namespace() -> None:
    mounts = mount("cgroup", "/..", "/sys/fs/cgroup/pids", "rw,pids")
    assert parse("3:pids:/\n", mounts) == NONE


def test_blanks_in_paths() -> None:
    mounts = mount("cgroup", "/a\\040b", "/c\\134g", "rw,pids")
    assert parse("3:pids:/a b/c\n", mounts).directories == {"pids": Path("/c\\g/c")}


def test_no_control_groups() -> None:
    assert parse("", "") == NONE
    assert cgroups.planned_paths(NONE, "x") == ()


def test_controllers_that_share_a_hierarchy(tmp_path: Path) -> None:
    """The group of "cpu,cpuacct" is made once, under both names, and stays."""
    import os

    shared = tmp_path / "cpu,cpuacct"
    shared.mkdir()
    places = {"cpu": shared, "cpuacct": shared, "pids": tmp_path / "missing"}
    found = Hierarchies("v1", places, places)
    group = cgroups.make_group(found, "id")
    for fd in group.fds:
        os.close(fd)
    assert group.names == ("cpu", "cpuacct")
    assert group.paths == (shared / "containerkit-id",)
    assert group.paths[0].is_dir()
    assert group.missing == (
        f"no pids group below {tmp_path / 'missing'}: No such file or directory",
    )
    assert set(group.paths) <= set(cgroups.planned_paths(found, "id"))


@pytest.mark.parametrize("depth", [1, 4])
def test_removal(tmp_path: Path, depth: int) -> None:
    top = tmp_path / "containerkit-x"
    top.joinpath(*map(str, range(depth))).mkdir(parents=True)
    cgroups.remove_tree(top)
    assert not top.exists()
    cgroups.remove_tree(top)

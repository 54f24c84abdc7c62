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


# ---- where a launcher's group may be made


SYSTEMD = (
    "22 1 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2"
    " rw,nsdelegate,memory_recursiveprot\n"
)


def test_hybrid_with_a_group_of_its_own_in_one_hierarchy() -> None:
    """Recorded on a virtual machine: only memory is not at the top."""
    cgroup = (
        "9:name=systemd:/\n8:pids:/\n7:blkio:/\n6:freezer:/\n5:devices:/\n"
        "4:memory:/process_api/557f25f6\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n"
    )
    names = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
    mounts = "".join(mount("cgroup", "/", f"/sys/fs/cgroup/{name}", f"rw,{name}") for name in names)
    mounts += mount("cgroup", "/", "/sys/fs/cgroup/systemd", "rw,name=systemd")
    found = parse(cgroup, mounts + mount("cgroup2", "/", "/sys/fs/cgroup/unified"))
    assert found.version == "hybrid"
    assert set(found.directories) == set(names)
    memory = Path("/sys/fs/cgroup/memory")
    assert found.directories["memory"] == memory / "process_api/557f25f6"
    assert found.tops["memory"] == memory
    own = cgroups.planned_paths(found, "x")
    assert memory / "process_api/557f25f6/containerkit-x" in own
    apart = cgroups.planned_paths(found, "x", detached=True)
    assert apart.index(memory / "containerkit-x") < apart.index(
        memory / "process_api/557f25f6/containerkit-x"
    )
    assert len(own) == len(names) + 1
    assert Path("/sys/fs/cgroup/devices/containerkit-x+") in own  # for who is given devices


def test_devices_together_with_another() -> None:
    """Then nobody can be in a group of devices elsewhere than in the other's."""
    place = {"devices": Path("/d,f/own"), "freezer": Path("/d,f/own")}
    found = Hierarchies("v1", place, place)
    assert cgroups.planned_paths(found, "x") == (Path("/d,f/own/containerkit-x"),)


@pytest.mark.parametrize("detached", [False, True])
def test_a_service_of_systemd(detached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_has_controllers", lambda _: True)
    found = parse("0::/system.slice/app.service/leaf\n", SYSTEMD)
    top = Path("/sys/fs/cgroup")
    service = top / "system.slice/app.service"
    assert found == Hierarchies("v2", {"unified": service / "leaf"}, {"unified": top})
    planned = cgroups.planned_paths(found, "x", detached=detached)
    beneath = (service / "leaf/containerkit-x", service / "containerkit-x")
    assert planned == ((top / "containerkit-x", *beneath) if detached else beneath)


def test_never_above_what_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with a control group namespace, our own group is the top."""
    monkeypatch.setattr(cgroups, "_has_controllers", lambda _: True)
    found = parse("0::/\n", SYSTEMD)
    for detached in (False, True):
        assert cgroups.planned_paths(found, "x", detached=detached) == (
            Path("/sys/fs/cgroup/containerkit-x"),
        )


def test_a_group_with_processes_hands_nothing_down(tmp_path: Path) -> None:
    """A tree of plain files: nothing is tried, nothing is left."""
    leaf = tmp_path / "leaf"
    leaf.mkdir()
    for group in (tmp_path, leaf):
        (group / "cgroup.type").write_text("domain\n")
        (group / "cgroup.procs").write_text("1\n")
        (group / "cgroup.controllers").write_text("memory pids\n")
        (group / "cgroup.subtree_control").write_text("")
    places = Hierarchies("v2", {"unified": leaf}, {"unified": tmp_path})
    made = cgroups.make_group(places, "x")
    assert (made.controllers, made.names, made.fds, made.paths) == (frozenset(), (), (), ())
    assert made.missing == tuple(
        f"no controllers below {place}: there are processes in it" for place in (leaf, tmp_path)
    )
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["leaf"]

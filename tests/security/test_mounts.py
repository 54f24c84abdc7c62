"""Mounts: private, nodev, on targets that are what they seem.

CVE-2019-16884, 2019-19921, 2023-27561, 2025-52881: something else than the kernel's own at /proc,
/sys or /dev.  CVE-2026-41579, 2026-47766: a /dev that is a link.  Propagation: what is mounted inside
is not seen on the host, and the reverse.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, LaunchError
from containerkit.launch.ops import F_CREATE, MOUNT_ATTR_NODEV, Code, Op
from containerkit.launch.plan import Plan
from tests.integration.exec.look import launcher_of
from tests.security import plans
from tests.support import ocibuild
from tests.support.ocibuild import Entry
from tests.support.registry import RegistryServer

MOUNTINFO = ["cat", "/proc/self/mountinfo"]

KINDS: Mapping[str, ocibuild.Content] = {
    "link": ocibuild.symlink("/tmp"),
    "file": b"",
    "fifo": Entry(b"6"),
}


def push(registry: RegistryServer, name: str, files: Mapping[str, ocibuild.Content]) -> str:
    return registry.push(f"test/mounts-{name}:latest", ocibuild.busybox(files))


# ---- places of the system's own


TARGETS = [
    "/",
    "/proc/",
    "/proc/self/attr",
    "/proc/thread-self/attr/current",
    "/proc/sys/kernel",
    "/sys",
    "//sys/./fs/cgroup/memory",
    "/dev",
    "/dev/pts",
    "/dev/null",
    "/dev/shm/in",
]


def test_nothing_is_mounted_there(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> None:
    for target in TARGETS:
        for mount in (ck.Mount.bind(tmp_path, target), ck.Mount.tmpfs(target)):
            with pytest.raises(ConfigError, match="system's"):
                engine.run(hostile, ["true"], security=security, mounts=[mount])


def test_shared_memory_may_be_given(engine: ck.Engine, hostile: str, tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    mounts = [ck.Mount.bind(tmp_path, "/dev/shm")]
    assert engine.run(hostile, ["test", "-e", "/dev/shm/seen"], mounts=mounts).exit.ok


@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
def test_they_are_real_directories(engine: ck.Engine, registry: RegistryServer, place: str) -> None:
    for kind, content in KINDS.items():
        image = push(registry, f"{place}-{kind}", {place: content})
        with pytest.raises(LaunchError, match=f"/{place}") as caught:
            engine.run(image, ["true"])
        assert caught.value.op in {"mount_fs", "template"}


def test_the_control_of_places(engine: ck.Engine, registry: RegistryServer) -> None:
    """Mounted as the caller's own are, it would be mounted where the link leads."""
    image = push(registry, "proc-link", {"proc": ocibuild.symlink("/tmp")})
    proc = Op(
        Code.MOUNT_FS,
        flags=F_CREATE,
        arena=("tmpfs", "/proc", ("mode=0711",)),
        value=(MOUNT_ATTR_NODEV, 0),
    )

    def followed(plan: Plan) -> Plan:
        hidden = {Code.MASK, Code.READ_ONLY}
        child: list[Op] = []
        for op in plan.child:
            if op.code not in hidden and op.arena[:2] != ("proc", "/proc"):
                child.append(op)
            if op.arena[:2] == ("sysfs", "/sys"):
                child.append(proc)
        return plans.rebuilt(plan, child=child)

    with plans.changed(followed):
        result = engine.run(image, ["stat", "-c", "%a", "/tmp"], text=True)
    assert result.stdout == "711\n"


def test_an_images_dev_is_not_looked_at(
    engine: ck.Engine, registry: RegistryServer, security: ck.Security
) -> None:
    """It is covered as a whole: CVE-2025-31133, 2025-52565."""
    places = ("pts", "shm", "mqueue", "null", "console", "ptmx", "zero")
    script = "stat -c %t:%T /dev/null /dev/zero /dev/pts/ptmx; ls -A /tmp"
    for kind, content in KINDS.items():
        image = push(registry, f"in-dev-{kind}", {f"dev/{place}": content for place in places})
        result = engine.run(image, ["sh", "-c", script], text=True, security=security)
        assert result.stdout.split() == ["1:3", "1:5", "5:2"], kind


@pytest.mark.parametrize("path", ["etc", "etc/hosts"])
def test_links_of_etc(
    engine: ck.Engine, registry: RegistryServer, security: ck.Security, path: str
) -> None:
    """Our files are not mounted over the system's through the image's links."""
    for target in ("/proc/self", "/sys/kernel", "/dev/pts"):
        name = f"{path}{target}".replace("/", "-")
        image = push(registry, name, {path: ocibuild.symlink(target)})
        if target == "/sys/kernel" and path == "etc/hosts" and security.preset == "strict":
            continue  # there is no /sys: see the next test
        with pytest.raises(LaunchError, match="/etc/host"):
            engine.run(image, MOUNTINFO, security=security)


@pytest.mark.parametrize("target", ["/proc/sys", "/proc/self/attr", "/dev/pts", "/dev"])
def test_links_of_an_images_own_to_the_systems(
    engine: ck.Engine, registry: RegistryServer, security: ck.Security, tmp_path: Path, target: str
) -> None:
    """A mount of the caller's is not made over the system's, where nothing else would keep it from there.

    CVE-2019-16884, CVE-2025-52881.  The control is the same link to a directory of the image.
    """
    mounts = [ck.Mount.bind(tmp_path, "/data")]
    name = target.replace("/", "-")
    image = push(registry, f"own{name}", {"data": ocibuild.symlink(target)})
    with pytest.raises(LaunchError, match="/data"):
        engine.run(image, ["true"], security=security, mounts=mounts)
    image = push(registry, f"own{name}-other", {"data": ocibuild.symlink("/home")})
    look = ["grep", "-q", " /home ", "/proc/self/mountinfo"]
    assert engine.run(image, look, security=security, mounts=mounts).exit.ok


@pytest.mark.parametrize("target", ["../run/resolve/stub", "/proc/nowhere", "nowhere"])
def test_links_of_etc_to_nothing(
    engine: ck.Engine, registry: RegistryServer, tmp_path: Path, target: str
) -> None:
    """Ours lies on the link itself: nothing is made where it leads."""
    files = {f"etc/{name}": ocibuild.symlink(target) for name in ("hosts", "resolv.conf")}
    image = push(registry, f"open-{len(target)}", files)
    for network in ("none", "host"):
        command = ["cat", "/etc/hosts", "/etc/resolv.conf"]
        result = engine.run(image, command, network=network, text=True)
        assert "localhost" in result.stdout
        assert result.exit.ok == (network == "host")
    (tmp_path / "given").write_text("given")
    mounts = [ck.Mount.bind(tmp_path / "given", "/etc/resolv.conf")]
    with engine.start(image, ["sleep", "100000"], mounts=mounts) as box:
        assert box.exec(["cat", "/etc/resolv.conf"], text=True).stdout == "given"
        assert box.diff() == ()


def test_files_of_etc_that_are_none(engine: ck.Engine, registry: RegistryServer) -> None:
    for kind in ("fifo", "file"):
        image = push(registry, f"hosts-{kind}", {"etc/hosts": KINDS[kind]})
        assert "localhost" in engine.run(image, ["cat", "/etc/hosts"], text=True).stdout
    image = push(registry, "hosts-directory", {"etc/hosts": None})
    with pytest.raises(LaunchError, match="on /etc/hosts"):
        engine.run(image, ["true"])


# ---- devices


def open_node(engine: ck.Engine, image: str, volume: Path, security: ck.Security) -> bool:
    """Whether a device node of a volume can be used."""
    mounts = [ck.Mount.bind(volume, "/vol")]
    command = ["head", "-c1", "/vol/deeper/zero"]
    return engine.run(image, command, mounts=mounts, security=security).exit.ok


@pytest.mark.needs("device nodes")
def test_devices_of_a_volume(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    os.mknod(tmp_path / "deeper/zero", 0o020666, os.makedev(1, 5))
    assert not open_node(engine, hostile, tmp_path, security)


@pytest.mark.needs("device nodes")
def test_the_control_of_devices(engine: ck.Engine, hostile: str, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    os.mknod(tmp_path / "deeper/zero", 0o020666, os.makedev(1, 5))

    def with_devices(plan: Plan) -> Plan:
        prepare = [
            Op(op.code, flags=op.flags, fd=op.fd) if op.code == Code.CLONE else op
            for op in plan.prepare
        ]
        return plans.rebuilt(plan, prepare=prepare)

    with plans.changed(with_devices):
        assert open_node(engine, hostile, tmp_path, ck.Security.default())


def test_all_but_dev_are_nodev(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> None:
    mounts = [ck.Mount.bind(tmp_path, "/vol"), ck.Mount.tmpfs("/scratch")]
    result = engine.run(
        hostile, MOUNTINFO, text=True, security=security, mounts=mounts, secrets={"k": "v"}
    )
    options = {}
    for line in result.stdout.splitlines():
        before, _, after = line.partition(" - ")
        options[before.split()[4]] = before.split()[5].split(","), after.split()[0]
    assert {"/", "/proc", "/dev", "/vol", "/scratch", "/run/secrets"} <= options.keys()
    for target, (flags, kind) in options.items():
        # A node of the host's own, for who may not make any, is all that is mounted there.
        node = target.startswith("/dev/") and kind == "devtmpfs"
        assert "nodev" in flags or target == "/dev" or kind == "devpts" or node, target
        assert "nosuid" in flags or target in {"/", "/vol"}, target


# ---- sources


@pytest.mark.needs("host root")
def test_what_nobody_writes_to_is_attached_read_only(
    engine: ck.Engine, hostile: str, tmp_path: Path
) -> None:
    """A way to a source past the container's own mount finds nothing to write to.

    The control is one that is written to: where the launcher attaches it, it is writable.
    """
    mounts = []
    for name in ("read", "written"):
        (tmp_path / name).mkdir()
        mounts.append(ck.Mount.bind(tmp_path / name, f"/{name}", read_only=name == "read"))
    with engine.start(hostile, ["sleep", "100000"], mounts=mounts):
        table = Path(f"/proc/{launcher_of(engine).pid}/mountinfo").read_text()
    lines = [line.split() for line in table.splitlines() if f"/{tmp_path.name}/" in line]
    attached = {fields[3].rpartition("/")[2]: fields[4:6] for fields in lines}
    assert {name: place.startswith("/src/") for name, (place, _) in attached.items()} == {
        "read": True,
        "written": True,
    }
    how = {name: options.split(",")[0] for name, (_, options) in attached.items()}
    assert how == {"read": "ro", "written": "rw"}


# ---- propagation

PROPAGATION = """
import subprocess, sys
from pathlib import Path
import containerkit as ck

root, image, top = sys.argv[1:]
table = Path("/proc/self/mountinfo")

def mount(target, *before):
    command = [*before, "mount", "-t", "tmpfs", "tmpfs", f"{top}/source/{target}"]
    subprocess.run(command, check=True)

for name in ("control", "below", "outside", "inside"):
    Path(top, "source", name).mkdir(parents=True)
mount("below")
assert f"{top} " in table.read_text() and "shared:" in table.read_text()
mount("control", "unshare", "--mount", "--propagation", "unchanged")
assert f"{top}/source/control " in table.read_text()
before = table.read_text().splitlines()

def more():  # others may have removed places of theirs meanwhile: that is seen here too
    return set(table.read_text().splitlines()) - set(before)

security = ck.Security(capabilities=["+SYS_ADMIN"], seccomp="unconfined")
mounts = [ck.Mount.bind(f"{top}/source", "/vol")]
with (
    ck.Engine.open(root) as engine,
    engine.start(image, ["sleep", "100000"], security=security, mounts=mounts) as box,
):
    inside = ["cat", "/proc/self/mountinfo"]
    told = box.exec(inside, text=True).stdout
    assert "/vol/below " in told and "shared:" not in told and "master:" not in told, told
    assert not more(), more()
    box.exec(["mount", "-t", "tmpfs", "tmpfs", "/vol/inside"], check=True)
    assert "/vol/inside " in box.exec(inside, text=True).stdout
    assert not more(), more()
    mount("outside")
    assert "/vol/outside " not in box.exec(inside, text=True).stdout
"""
"""Runs in a mount namespace of its own, in which *top* is a mount that is shared."""


@pytest.mark.needs("mounts")
def test_propagation(engine: ck.Engine, hostile: str, tmp_path: Path) -> None:
    top = tmp_path / "shared"
    top.mkdir()
    engine.images._ensure(hostile)
    script = f'mount -t tmpfs tmpfs {top} && mount --make-rshared {top} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", PROPAGATION]
    subprocess.run([*command, str(engine.root), hostile, str(top)], check=True)

"""Ordinary users' containers in a user namespace of their own: strict, "auto", ids as asked for."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import attrs
import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, MissingFeature, PermissionDenied
from containerkit.state import subids, userns
from tests.rootless import user
from tests.rootless.maker import killed
from tests.rootless.test_user import nothing_is_left
from tests.support.patience import until

pytestmark = [pytest.mark.integration, pytest.mark.needs("ordinary user")]

__all__ = ["nothing_is_left"]

WITH_IDS = pytest.mark.needs("ids")
STRICT = ck.Security.strict()
LIFTED = ck.Limits(memory=ck.UNLIMITED, cpus=ck.UNLIMITED, pids=ck.UNLIMITED)
FOREVER = ["sleep", "100000"]
WHOLE = [(0, user.UID, 1), (1, *user.RANGE)]
"""All ids that there are with subordinate ones, as an `IdMap`."""


def all_of_them(**fields: object) -> ck.Security:
    """Return a container's own namespace in which root is the caller, as without one of its own."""
    return ck.Security(
        userns=ck.IdMap(WHOLE if user.has_ids() else WHOLE[:1]),
        **fields,  # type: ignore[arg-type]
    )


def said(one: ck.Container, script: str) -> str:
    return one.exec(["sh", "-c", script], text=True, check=True).stdout


def test_strict_holds_or_raises(engine: ck.Engine, busybox: str) -> None:
    if engine.probe()["cgroup memory"].present:
        pytest.skip("needs a host that hands no control groups down to users")
    with pytest.raises(MissingFeature, match="pids") as caught:
        engine.run(busybox, ["true"], security=STRICT)
    assert "Delegate=yes" in str(caught.value.hint)
    assert "UNLIMITED" in str(caught.value.hint)


def test_strict_with_its_limits_lifted(engine: ck.Engine, busybox: str) -> None:
    script = (
        "id -u; ulimit -n; sed -n 's/^Cap...:.//p' /proc/self/status | sort -u; echo a >/tmp/a;"
        " for d in / /home /etc /var/tmp; do echo x >$d/f; done 2>/dev/null; ls /f /*/f;"
        " cut -d: -sf1 /proc/net/dev"
    )
    result = engine.run(busybox, ["sh", "-c", script], security=STRICT, limits=LIFTED, text=True)
    who = "65534" if user.has_ids() else "0"
    assert result.stdout.split() == [who, "1024", "0" * 16, "lo"]
    assert engine.run(busybox, ["true"], security=STRICT, limits=ck.UNLIMITED).exit.ok


def test_its_processes_can_be_counted_by_its_user_namespace(
    engine: ck.Engine, busybox: str
) -> None:
    """Without control groups: RLIMIT_NPROC is of one user in one such namespace (setrlimit(2))."""
    few = attrs.evolve(LIFTED, ulimits={"nproc": 10})
    script = "for i in $(seq 20); do sleep 100000 & done; echo done"
    with engine.start(busybox, FOREVER, security=STRICT, limits=few) as one:
        assert "done" not in one.exec(["sh", "-c", script], text=True).stdout
        same = {"security": STRICT, "limits": few}
        assert engine.run(busybox, ["sh", "-c", "true & wait"], **same).exit.ok  # type: ignore[call-overload]
    with engine.start(busybox, FOREVER, security=STRICT, limits=LIFTED) as control:
        assert control.exec(["sh", "-c", script], text=True).stdout == "done\n"


def test_its_processes_are_not_the_caller(engine: ck.Engine, busybox: str) -> None:
    """Where there are other ids; and they are not in the caller's own user namespace anyway."""
    plan = engine.plan(busybox, ["true"], security=STRICT, limits=LIFTED).explain()
    assert ("nobody in its user namespace" in plan) == user.has_ids()
    assert ("no others are granted" in plan) != user.has_ids()
    with (
        engine.start(busybox, FOREVER, security=STRICT, limits=LIFTED) as one,
        engine.start(busybox, FOREVER) as control,
    ):
        for box, own in ((one, not user.has_ids()), (control, True)):
            process = box.top()[0].host_pid
            ids = userns.read_map(f"/proc/{process}/uid_map")
            assert (user.UID in {outside for _, outside, _ in ids}) == own
        spaces = [said(box, "readlink /proc/self/ns/user") for box in (one, control)]
        assert spaces[0] != spaces[1]


@WITH_IDS
def test_what_is_the_callers_alone_is_closed_to_it(
    engine: ck.Engine, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "open").write_text("open")
    mounts = [ck.Mount.bind(tmp_path, "/data")]
    tmp_path.chmod(0o755)
    script = ["sh", "-c", "cat /data/open /data/secret; touch /data/new"]
    for security in (STRICT, ck.Security(userns="auto", capabilities=["ALL"])):
        closed = engine.run(
            busybox, script, security=security, limits=LIFTED, mounts=mounts, text=True
        )
        assert closed.stdout == "open"
        assert not (tmp_path / "new").exists()
    control = engine.run(busybox, script, mounts=mounts, text=True, check=True)
    assert control.stdout == "opensecret"


def test_ids_as_asked_for(engine: ck.Engine, busybox: str) -> None:
    script = ["sh", "-c", "cat /proc/self/uid_map; id -u; touch /new; stat -c %u /new /bin/busybox"]
    found = engine.run(busybox, script, security=all_of_them(), text=True, check=True).stdout
    assert found.split()[-3:] == ["0", "0", "0"]
    for other in ([(0, 100000, 10)], [(1, user.UID, 1)], [(0, user.UID, 1), (5, 7, 1)]):
        with pytest.raises(MissingFeature, match="host's root") as caught:
            engine.run(busybox, ["true"], security=ck.Security(userns=ck.IdMap(other)))
        assert str(user.UID) in str(caught.value.hint)


def test_its_root_has_no_rights_over_what_was_made_for_it(engine: ck.Engine, busybox: str) -> None:
    script = ["sh", "-c", "hostname x; mount -t tmpfs none /tmp; umount /proc; chroot / true"]
    everything = {"capabilities": ["ALL"], "seccomp": "unconfined"}
    found = engine.run(busybox, script, security=all_of_them(**everything), text=True)
    assert found.exit.ok, found.stderr
    assert found.stderr.count("ermitted") + found.stderr.count("denied") == 3, found.stderr
    control = engine.run(busybox, script[:2] + ["hostname x"], security=ck.Security(**everything))  # type: ignore[arg-type]
    assert control.exit.ok


def test_a_kept_one(engine: ck.Engine, busybox: str) -> None:
    security = ck.Security.strict(read_only=False)
    script = "echo words; echo kept >/tmp/file; exec sleep 100000"
    with engine.start(
        busybox, ["sh", "-c", script], ready=ck.Ready(log="words"), security=security, limits=LIFTED
    ) as one:
        before = said(one, "cat /proc/self/uid_map; id -u")
        assert said(one, "cat /proc/1/uid_map; id -u") == before
        until(lambda: "/tmp/file" in {change.path for change in one.diff()})
        one.files.write_text("/tmp/given", "text")
        assert said(one, "cat /tmp/given /tmp/file") == "textkept\n"
        archive = io.BytesIO()
        one.export(archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            owners = {name.name: (name.uid, name.gid) for name in tar}
        who = (65534, 65534) if user.has_ids() else (0, 0)
        assert (owners["tmp/file"], owners["bin/busybox"]) == (who, (0, 0))
        assert {task.uid for task in one.top()} == {who[0]}
        one.restart()
        assert said(one, "cat /proc/self/uid_map; id -u") == before
        one.stop(grace=0)
        assert one.files.read_text("/tmp/file") == "kept\n"
        one.start()
        assert said(one, "cat /tmp/given") == "text"
        privileged = one.exec(["sh", "-c", "umount /proc"], privileged=True, text=True)
        assert privileged.returncode != 0


def test_a_diff_tells_what_differs(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        said(one, "chmod 700 /bin/busybox; chmod 755 /bin/busybox; touch /new")
        assert {str(change) for change in one.diff()} == {"A /new"}


AS_STRICT = """
"security": ck.Security.strict(),
"limits": ck.Limits(memory=ck.UNLIMITED, cpus=ck.UNLIMITED, pids=ck.UNLIMITED),
"""


@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_its_maker_is_killed(
    engine: ck.Engine, shared_root: Path, busybox: str, lifetime: str
) -> None:
    identity = killed(shared_root, busybox, lifetime, AS_STRICT)
    engine.recover()
    found = [one.id for one in engine.containers.list()]
    assert found == ([identity] if lifetime == "detached" else [])
    for one in engine.containers.list():
        assert said(one, "id -u") == ("65534\n" if user.has_ids() else "0\n")


ROOT = """
import sys
import containerkit as ck
lifted = ck.Limits(memory=ck.UNLIMITED, cpus=ck.UNLIMITED, pids=ck.UNLIMITED)
how = {"security": ck.Security.strict(), "limits": lifted}
show = ["sh", "-c", "id -u; readlink /proc/self/ns/user"]
with ck.Engine.open(sys.argv[1]) as engine:
    print(engine.run(None, show, text=True, check=True).stdout.split())
    with engine.start(None, ["sleep", "100000"], **how) as one:
        print(one.exec(show, text=True, check=True).stdout.split())
"""


def test_a_caller_that_is_root_of_a_user_namespace(tmp_path: Path) -> None:
    """As ``unshare -rm`` has it, where /run is not its own."""
    words = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ROOT]
    done = subprocess.run(
        [*words, str(tmp_path / "root")], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert [line.split("'")[1] for line in lines] == ["0", "0"]
    assert len(set(lines)) == 2


# ---- the host refuses


def test_as_many_namespaces_as_there_may_be(tmp_path: Path) -> None:
    """The first is for all of a user's containers, the next would be one's own."""
    if user.has_ids():
        pytest.skip("needs a user without subordinate ids: they are not granted further down")
    code = (
        "import sys, containerkit as ck\n"
        "with ck.Engine.open(sys.argv[1]) as engine:\n"
        "    engine.run(None, ['true'], check=True)\n"
        "    try:\n"
        "        engine.run(None, ['true'], security=ck.Security(userns='auto'))\n"
        "    except ck.MissingFeature as error:\n        print(error.feature, error)\n"
    )
    # Who has the rights of a user namespace may limit those in it.
    script = 'echo 1 > /proc/sys/user/max_user_namespaces && exec "$@"'
    words = ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
    words += [
        "--keep-caps",
        "sh",
        "-c",
        script,
        "sh",
        "setpriv",
        "--ambient-caps=-all",
        "--inh-caps=-all",
    ]
    inner = [sys.executable, "-c", code, str(tmp_path / "root")]
    done = subprocess.run([*words, *inner], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("userns "), done.stderr
    assert "sysctl user.max_user_namespaces=15000" in done.stdout


@WITH_IDS
def test_the_program_that_gives_ids_is_gone(
    engine_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ck.Engine.open(engine_root):
        userns.ids_of(engine_root)
    monkeypatch.setattr(subids, "program", lambda _: None)
    monkeypatch.setattr(userns, "_made", {})
    with pytest.raises(PermissionDenied, match="not installed") as caught:
        userns.namespace(engine_root)
    assert "uidmap" in str(caught.value.hint)


# ---- devices, privileged


def test_a_device_that_the_caller_may_open(engine: ck.Engine, busybox: str) -> None:
    security = ck.Security(devices=["/dev/zero:/dev/other"])
    script = ["sh", "-c", "head -c 3 /dev/other | wc -c; ls /dev | grep -c other"]
    found = engine.run(busybox, script, security=security, text=True, check=True)
    assert found.stdout.split() == ["3", "1"]
    control = engine.run(busybox, script, text=True)
    assert control.stdout.split() == ["0", "0"]


def test_a_device_that_the_caller_may_not_open(engine: ck.Engine, busybox: str) -> None:
    names = [f"/dev/{name}" for name in ("kvm", "fuse", "loop0", "loop-control", "vda", "sda")]
    closed = [name for name in names if os.path.exists(name) and not os.access(name, os.R_OK)]
    if not closed:
        pytest.skip("needs a device that is closed to ordinary users")
    with pytest.raises(PermissionDenied, match="may not open it") as caught:
        engine.run(busybox, ["true"], security=ck.Security(devices=[closed[0]]))
    assert "setfacl" in str(caught.value.hint)
    assert isinstance(caught.value, ContainerKitError)


def test_privileged_has_what_its_user_namespace_has(engine: ck.Engine, busybox: str) -> None:
    security = ck.Security.privileged()
    script = (
        "mount -t tmpfs none /tmp && mount -t proc none /tmp && mount -o bind /etc /tmp &&"
        " hostname other && ifconfig lo down && echo mine; mknod /zero c 1 5 2>/dev/null;"
        " head -c 3 /dev/zero | wc -c; ls /zero 2>/dev/null; echo 1 >/proc/sys/kernel/panic"
    )
    result = engine.run(busybox, ["sh", "-c", script], security=security, text=True)
    assert result.stdout.split() == ["mine", "3"]
    assert "denied" in result.stderr
    assert "rights of a user namespace" in engine.plan(busybox, security=security).explain()
    with engine.start(busybox, FOREVER, security=security) as one:
        said(one, "touch /new")
        one.restart()
        assert said(one, "ls /new; ls /dev | grep -x zero") == "/new\nzero\n"
        assert said(one, "umount /dev/shm && echo done") == "done\n"

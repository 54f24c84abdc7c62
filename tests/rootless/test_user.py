"""What an ordinary user has of containers: everything but what only other ids or groups could give.

These run as the user that `make test-rootless` becomes, once with one id, once with a range of others.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, MissingFeature
from containerkit.state import userns
from tests.conftest import missing
from tests.rootless import user
from tests.rootless.maker import killed
from tests.support import ocibuild
from tests.support.patience import until
from tests.support.registry import RegistryServer

pytestmark = [pytest.mark.integration, pytest.mark.needs("ordinary user")]

FOREVER = ["sleep", "100000"]
WITH_IDS = pytest.mark.needs("ids")


@pytest.fixture(autouse=True)
def nothing_is_left(shared_root: Path) -> Iterator[None]:
    yield
    with ck.Engine.open(shared_root) as engine:
        for one in engine.containers.list():
            one.remove(force=True)
        until(lambda: not [n for n in os.listdir(shared_root / "containers") if n[0] != "."])


def test_it_is_root_inside_and_nobody_else(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(
        busybox, ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map; ls /sys/class/net"], text=True
    )
    uid, gid, *lines = result.stdout.splitlines()
    assert (uid, gid) == ("0", "0")
    rows = [[str(os.getuid()), "1"]]
    ids = userns.granted()
    if ids is not None:
        rows.append([str(number) for number in ids.uids[1][1:]])
    assert [line.split()[1:] for line in lines[:-1]] == rows
    assert lines[-1] == "lo"


def test_capabilities_reach_no_further_than_its_namespace(engine: ck.Engine, busybox: str) -> None:
    script = "mknod /tmp/null c 1 3; hostname other; mount -t tmpfs none /mnt"
    result = engine.run(busybox, ["sh", "-c", script], text=True)
    assert len(result.stderr.splitlines()) == 3


def test_what_a_container_writes_and_removes(engine: ck.Engine, busybox: str) -> None:
    script = "rm /etc/passwd && mkdir /etc/passwd && echo new > /etc/passwd/file && ls /etc/passwd"
    assert engine.run(busybox, ["sh", "-c", script], text=True, check=True).stdout == "file\n"


def test_a_bind_mount(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    mounts = [ck.Mount.bind(tmp_path, "/data", read_only=False)]
    engine.run(busybox, ["sh", "-c", "echo mine > /data/file"], mounts=mounts, check=True)
    status = (tmp_path / "file").stat()
    assert (tmp_path / "file").read_text(encoding="ascii") == "mine\n"
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


def test_the_host_image(engine: ck.Engine) -> None:
    assert engine.run(None, ["id", "-u"], text=True, check=True).stdout == "0\n"


def test_the_hosts_network(engine: ck.Engine, busybox: str) -> None:
    there = sorted(os.listdir("/sys/class/net"))
    script = "sed -n 's/^ *\\([^:]*\\):.*/\\1/p' /proc/net/dev"
    assert "no /sys" in engine.plan(busybox, network="host").explain()
    with engine.start(busybox, FOREVER, network="host") as one:
        assert sorted(one.exec(["sh", "-c", script], text=True).stdout.split()) == there


def test_a_kept_container(engine: ck.Engine, busybox: str) -> None:
    script = "echo words; echo kept > /file; rm /bin/vi; exec sleep 100000"
    with engine.start(busybox, ["sh", "-c", script], ready=ck.Ready(log="words")) as one:
        assert one.exec(["cat", "/file"], text=True, check=True).stdout == "kept\n"
        assert one.log_text() == "words\n"
        until(lambda: "/bin/vi" in {change.path for change in one.diff()})
        one.files.write_text("/given", "text")
        assert one.exec(["stat", "-c", "%u", "/given"], text=True).stdout == "0\n"
        archive = io.BytesIO()
        one.export(archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            assert "file" in {name.lstrip("./") for name in tar.getnames()}
        one.stop()
        assert one.files.read_text("/file") == "kept\n"
        one.start()
        assert one.files.read_text("/given") == "text"
        one.restart()
        assert one.exec(["cat", "/given"], text=True).stdout == "text"


def test_a_terminal(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one:
        process = one.popen(["tty"], tty=True)
        assert process.wait().code == 0


@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_its_maker_is_killed(
    engine: ck.Engine, shared_root: Path, busybox: str, lifetime: str
) -> None:
    identity = killed(shared_root, busybox, lifetime)
    engine.recover()
    found = [one.id for one in engine.containers.list()]
    assert found == ([identity] if lifetime == "detached" else [])
    if found:
        one = engine.containers.get(identity)
        assert one.exec(["echo", "here"], text=True).stdout == "here\n"


def test_limits_are_refused_and_the_probe_says_why(engine: ck.Engine, busybox: str) -> None:
    if engine.probe()["cgroup memory"].present:
        pytest.skip("needs a host that hands no control groups down to users")
    with pytest.raises(MissingFeature, match="memory") as caught:
        engine.run(busybox, ["true"], limits=ck.Limits(memory="64m"))
    assert "probe()" in str(caught.value.hint)
    assert "no limit on processes" in engine.plan(busybox, ["true"]).explain()


def test_the_probe_names_a_knob_for_whatever_is_missing(engine: ck.Engine) -> None:
    report = engine.probe()
    for feature in report.features:
        assert feature.present or feature.knob, feature
    assert report["unprivileged user namespaces"].present
    assert not report["administrator"].present
    memory = report["cgroup memory"]
    assert memory.present or "this user" in memory.knob or "systemd-run --user" in memory.knob
    ids = report["subordinate ids"]
    assert ids.present or "usermod" in ids.knob


def test_another_user_without_other_ids(engine: ck.Engine, busybox: str) -> None:
    if user.has_ids():
        pytest.skip("needs a user without subordinate ids")
    with pytest.raises(MissingFeature, match="/etc/subuid"):
        engine.run(busybox, ["true"], user=1000)
    with engine.start(busybox, FOREVER) as one, pytest.raises(MissingFeature, match="/etc/subuid"):
        one.exec(["true"], user="app")
    assert not engine.probe()["subordinate ids"].present


@WITH_IDS
def test_another_user(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(busybox, ["id"], user="app", text=True, check=True)
    assert result.stdout == "uid=1000(app) gid=1000(app) groups=1000(app),1001(extra)\n"
    assert engine.probe()["subordinate ids"].present


@WITH_IDS
def test_files_of_others_are_unpacked_and_removed(
    engine: ck.Engine, engine_root: Path, busybox: str
) -> None:
    script = "mkdir /dir; touch /dir/file; chown -R 7:8 /dir; chmod 700 /dir; echo done; sleep 1000"
    with ck.Engine.open(engine_root) as apart:
        with apart.start(busybox, ["sh", "-c", script], ready=ck.Ready(log="done")) as one:
            owner = one.exec(["stat", "-c", "%u:%g", "/dir/file"], text=True).stdout
            assert owner == "7:8\n"
        assert [name for name in os.listdir(engine_root / "containers") if name[0] != "."] == []
        apart.images.remove(busybox)


FOUND = """
import sys, containerkit as ck
box = ck.Engine.open(sys.argv[1]).containers.get("box")
print(box.exec("echo here", text=True, check=True).stdout + box.status)
"""


def test_a_detached_one_is_reached_wherever_the_session_keeps_its_sockets(
    engine_root: Path, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    without = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    command = [sys.executable, "-c", FOUND, str(engine_root)]
    with ck.Engine.open(engine_root) as engine:
        box = engine.start(busybox, FOREVER, name="box", lifetime="detached")
        try:
            for elsewhere in ({}, {"XDG_RUNTIME_DIR": "/proc/1"}):  # cron, and su(1)
                said = subprocess.run(
                    command, env=without | elsewhere, capture_output=True, text=True, check=False
                )
                assert said.stdout == "here\nrunning\n", said.stderr
        finally:
            box.remove(force=True)
    assert os.listdir(tmp_path) == []


@WITH_IDS
def test_an_owner_beyond_the_granted_ids_is_said(
    engine: ck.Engine, registry: RegistryServer
) -> None:
    far = ocibuild.Entry(data=b"x", uid=200_000)
    name = registry.push("test/far:latest", ocibuild.busybox({"far": far}))
    with pytest.raises(ck.HostError, match=r"\(far\)") as caught:
        engine.images.pull(name)
    assert "/etc/subuid" in str(caught.value.hint)


WITHOUT_RIGHTS = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    print(engine.run(None, ["cat", "/proc/self/uid_map"], text=True).stdout.split()[2:])
    print(engine.probe()["subordinate ids"].found)
"""


def test_who_may_not_use_newuidmap_has_the_one_id(engine_root: Path) -> None:
    """As a service of systemd's with NoNewPrivileges=yes."""
    command = ["setpriv", "--no-new-privs", sys.executable, "-c", WITHOUT_RIGHTS, str(engine_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows, found = done.stdout.splitlines()
    assert rows == "['1']", done.stderr
    assert ("no_new_privs" if user.has_ids() else "none for this user") in found


@WITH_IDS
def test_a_root_with_ids_says_why_they_can_not_be_used(engine_root: Path) -> None:
    with ck.Engine.open(engine_root) as engine:
        engine.run(None, ["true"], check=True)
    command = ["setpriv", "--no-new-privs", sys.executable, "-c", WITHOUT_RIGHTS, str(engine_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionDenied" in done.stderr
    assert "no_new_privs is set" in done.stderr


def test_it_says_of_no_call_that_it_lacks_what_a_namespace_gives(engine: ck.Engine) -> None:
    report = engine.probe()
    assert report["mount API"].present
    assert "root" in report["idmapped mounts"].knob
    kvm = report["kvm"]
    assert kvm.present or ("modprobe" in kvm.knob) != os.path.exists("/dev/kvm")


def test_a_user_namespace_that_can_not_be_had(tmp_path: Path) -> None:
    code = (
        "import sys, containerkit as ck\n"
        "try:\n    ck.Engine.open(sys.argv[1]).run(None, ['true'])\n"
        "except ck.PermissionDenied as error:\n    print(error)\n"
    )
    # Who has the rights of a user namespace may forbid further ones in it.
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    words = ["unshare", "--user", f"--map-user={os.getuid()}", "--keep-caps"]
    words += ["sh", "-c", script, "sh", "setpriv", "--ambient-caps=-all", "--inh-caps=-all"]
    inner = [sys.executable, "-c", code]
    done = subprocess.run(
        [*words, *inner, str(tmp_path / "root")], capture_output=True, text=True, check=False
    )
    assert "sysctl user.max_user_namespaces=15000" in done.stdout, done.stderr


def test_what_is_needed_of_the_tests_is_told_apart() -> None:
    assert missing("host root") is not None
    assert missing("containers") is None
    assert issubclass(MissingFeature, ContainerKitError)

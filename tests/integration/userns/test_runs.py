"""Commands in a user namespace of their own: whose files are whose, and what root there can not do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, MissingFeature

AUTO = ck.Security(userns="auto")


@pytest.fixture
def shared(engine_root: Path) -> Path:
    """A directory of the host's, with a file of user 1000."""
    directory = engine_root.parent / "shared"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "theirs").write_text("theirs")
    os.chown(directory / "theirs", 1000, 1000)
    return directory


def first_of(uid_map: str) -> int:
    inside, outside, count = map(int, uid_map.split())
    assert (inside, count) == (0, 65536)
    return outside


@pytest.mark.needs("host root")
@pytest.mark.parametrize("security", [AUTO, ck.Security.strict()], ids=["auto", "strict"])
def test_its_root_is_nobody_on_the_host(
    engine: ck.Engine, busybox: str, security: ck.Security
) -> None:
    result = engine.run(busybox, ["cat", "/proc/self/uid_map"], security=security, text=True)
    assert first_of(result.stdout) >= 1 << 30


def test_files_belong_to_its_root(engine: ck.Engine, busybox: str) -> None:
    """The image's, those that are made for it, and those that it makes."""
    script = (
        "touch /new; cd /made/by/us && "
        "stat -c %u:%g:%n / /bin/busybox /etc/hosts /new /made /made/by/us /dev/shm /tmpfs"
        " /dev/pts/ptmx"
    )
    found = engine.run(
        busybox,
        script,
        security=AUTO,
        user=0,
        workdir="/made/by/us",
        mounts=[ck.Mount.tmpfs("/tmpfs")],
        text=True,
        check=True,
    ).stdout
    assert {line.rpartition(":")[0] for line in found.splitlines()} == {"0:0"}, found


@pytest.mark.needs("host root")
def test_what_is_written_to_a_bind_mount_keeps_its_owner(
    engine: ck.Engine, busybox: str, shared: Path
) -> None:
    bind = [ck.Mount.bind(shared, "/data")]
    script = "touch /data/root && stat -c %u /data/theirs && echo more >>/data/theirs"
    result = engine.run(busybox, script, security=AUTO, user=0, mounts=bind, text=True, check=True)
    assert result.stdout == "1000\n"
    assert (shared / "root").stat().st_uid == 0
    assert (shared / "theirs").read_text() == "theirsmore\n"
    engine.run(busybox, "touch /data/user", security=AUTO, user=1000, mounts=bind, check=True)
    assert (shared / "user").stat().st_uid == 1000


def test_its_root_has_no_rights_over_the_host(engine: ck.Engine, busybox: str) -> None:
    """With every capability there is: over its own user namespace alone."""
    everything = ck.Security(userns="auto", capabilities=["ALL"])
    script = (
        "hostname changed; mount -t tmpfs none /dev; umount /proc; mknod /null c 1 3;"
        " chroot / true && echo may chroot"
    )
    result = engine.run(busybox, script, security=everything, user=0, text=True)
    assert result.stdout == "may chroot\n"
    assert result.stderr.count("ermitted") + result.stderr.count("denied") == 4, result.stderr
    control = engine.run(
        busybox, "hostname changed", security=ck.Security(capabilities=["+SYS_ADMIN"]), user=0
    )
    assert control.exit.ok


@pytest.mark.needs("host root")
def test_ids_as_asked_for(engine: ck.Engine, busybox: str) -> None:
    ids = ck.IdMap([(0, 200000, 1), (1, 300000, 1000)], gids=[(0, 400000, 100)])
    script = "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox"
    result = engine.run(
        busybox, script, security=ck.Security(userns=ids), user="5:7", text=True, check=True
    )
    numbers = [tuple(map(int, line.split())) for line in result.stdout.splitlines()[:3]]
    assert numbers == [(0, 200000, 1), (1, 300000, 1000), (0, 400000, 100)]
    assert result.stdout.splitlines()[3] == "0:0"


@pytest.mark.needs("host root")  # an ordinary user's range has whom it is started as
def test_a_user_without_a_number_there_is_refused(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ConfigError, match="70000 is outside"):
        engine.run(busybox, "true", security=AUTO, user=70000)


def test_low_ports_are_its_own(engine: ck.Engine, busybox: str) -> None:
    script = (
        "nc -l -p 80 & until grep -q ':0050 .* 0A' /proc/net/tcp*; do kill -0 $! || exit 1; done;"
        " echo bound; kill $!"
    )
    result = engine.run(busybox, script, security=AUTO, user=1000, text=True, timeout=60)
    assert result.stdout == "bound\n"


def test_its_output_can_be_opened_again(engine: ck.Engine, busybox: str) -> None:
    for user in (0, 1000):
        result = engine.run(busybox, "echo a >/dev/stdout", security=AUTO, user=user)
        assert result.stdout == b"a\n"


def test_a_terminal_of_its_own(engine: ck.Engine, busybox: str) -> None:
    script = "stat -c %u:%g:%a /dev/pts/0; echo a >/dev/tty"
    result = engine.run(busybox, script, security=AUTO, user=1000, tty=True, text=True)
    assert result.stdout.split() == ["1000:1000:620", "a"]


def test_secrets_are_its_users(engine: ck.Engine, busybox: str) -> None:
    result = engine.run(
        busybox,
        "cat /run/secrets/token; stat -c %u:%a /run/secrets/token",
        security=AUTO,
        user=1000,
        secrets={"token": b"hidden\n"},
        text=True,
    )
    assert result.stdout.split() == ["hidden", "1000:400"]


def test_strict_writes_to_memory_only(engine: ck.Engine, busybox: str) -> None:
    script = "touch /x /bin/x; echo a >/tmp/a && echo b >/run/b && cat /tmp/a /run/b; df -k /tmp"
    limits = None if os.geteuid() == 0 else ck.UNLIMITED
    result = engine.run(busybox, script, security=ck.Security.strict(), limits=limits, text=True)
    assert result.stdout.startswith("a\nb\n")
    assert result.stderr.count("Read-only file system") == 2
    assert result.stdout.split()[-5] == str(64 << 10)


@pytest.mark.needs("host root")  # to an ordinary user's, bind mounts have the ids they have
def test_what_can_not_have_other_ids_is_refused(engine: ck.Engine, busybox: str) -> None:
    """The kernel's own file systems, among others."""
    mounts = [ck.Mount.bind("/sys/kernel", "/data")]
    with pytest.raises(MissingFeature, match="/sys/kernel") as caught:
        engine.run(busybox, "true", security=AUTO, mounts=mounts)
    assert caught.value.feature == "userns"
    assert "id-mapped" in str(caught.value)
    assert engine.run(busybox, "true", mounts=mounts).exit.ok


@pytest.mark.cgroup2
def test_it_holds(engine: ck.Engine, busybox: str) -> None:
    """On a kernel, or a file system of the store, that has no id-mapped mounts too."""
    assert engine.run(busybox, "id -u", security=AUTO, user=0, text=True).stdout == "0\n"


def test_the_layers_are_as_they_were(engine: ck.Engine, busybox: str) -> None:
    """Nothing is changed in them for a container with other ids."""
    engine.run(busybox, "chown 7 /bin/busybox; touch /bin/new", security=AUTO, user=0, check=True)
    owners = {
        os.lstat(os.path.join(place, name)).st_uid
        for place, _, names in os.walk(engine.root / "layers")
        for name in names
        if not stat.S_ISLNK(os.lstat(os.path.join(place, name)).st_mode)
    }
    assert owners == {os.geteuid()}

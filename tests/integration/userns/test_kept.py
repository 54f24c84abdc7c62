"""Kept containers in a user namespace of their own: execs, probes, files, restarts, their range."""

from __future__ import annotations

import io
import os
import select
import signal
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError, InUse, MissingFeature
from containerkit.runtime import idclaims
from containerkit.runtime.channel import Channel
from containerkit.runtime.launcher import Launcher
from tests.integration.exec.look import launcher_of
from tests.support import claims

AUTO = ck.Security(userns="auto")
UNTIL_TOLD = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def box(engine: ck.Engine, busybox: str) -> Iterator[ck.Container]:
    with engine.start(busybox, UNTIL_TOLD, security=AUTO, user=0) as started:
        yield started


def said(box: ck.Container, script: str, **choices: object) -> list[str]:
    return box.exec(script, text=True, check=True, **choices).stdout.split()  # type: ignore[call-overload, no-any-return]


def claims_of(engine: ck.Engine) -> set[str]:
    return set(claims.of(engine.root).values())


def test_execs_are_in_it(box: ck.Container) -> None:
    assert said(box, "cat /proc/self/uid_map") == said(box, "cat /proc/1/uid_map")
    assert said(box, "readlink /proc/self/ns/user") == said(box, "readlink /proc/1/ns/user")
    assert said(box, "id -u; echo a >/dev/stdout", user="1000:7") == ["1000", "a"]
    assert said(box, "stat -c %u $(tty)", tty=True, user=1000) == ["1000"]
    with pytest.raises((ConfigError, MissingFeature), match=r"outside|other ids"):
        box.exec("true", user=70000)


def test_an_exec_has_no_more_rights(box: ck.Container) -> None:
    for privileged in (False, True):
        result = box.exec("hostname x; mount -t tmpfs none /dev", privileged=privileged, text=True)
        assert result.stderr.count("ermitted") + result.stderr.count("denied") == 2, result.stderr


def test_a_probe_is_in_it(engine: ck.Engine, busybox: str) -> None:
    check = ck.Healthcheck('[ "$(id -u)" = 0 ] && [ -O / ]', interval=0.05)
    with engine.start(busybox, UNTIL_TOLD, security=AUTO, user=0, healthcheck=check) as box:
        box.wait_ready(healthy=True, timeout=60)


def test_what_is_seen_of_it_counts_as_it_does(box: ck.Container) -> None:
    tasks = box.top()
    assert {(task.uid, task.user) for task in tasks} == {(0, "root")}
    assert box.stats().pids


@pytest.mark.needs("owners")
def test_files_have_its_owners(box: ck.Container, tmp_path: Path) -> None:
    files = box.files
    files.write_text("/one", "1")
    files.write_text("/two", "2", owner=(33, 44))
    files.mkdir("/deep/er", parents=True)
    with files.open("/three", "w") as three:
        three.write("3")
    (tmp_path / "put").mkdir()
    (tmp_path / "put" / "f").write_text("f")
    os.chown(tmp_path / "put" / "f", 5, 6)
    files.put(tmp_path / "put", "/root-owned")
    files.put(tmp_path / "put", "/kept", owner="keep")
    files.extract("/deep", files.archive("/kept"))
    names = "/one /two /deep/er /three /root-owned/f /kept/f /deep/kept/f"
    owners = ["0:0", "33:44", "0:0", "0:0", "0:0", "5:6", "5:6"]
    assert said(box, f"stat -c %u:%g {names}") == owners
    for _ in ("running", "stopped"):
        found = [files.stat(name) for name in names.split()]
        assert [f"{one.uid}:{one.gid}" for one in found] == owners
        assert {one.uid for one in files.list("/kept")} == {5}
        with tarfile.open(fileobj=io.BytesIO(files.archive("/kept").read())) as tar:
            assert [(one.uid, one.gid) for one in tar] == [(0, 0), (5, 6)]
        box.stop(grace=0)
    files.get("/kept", tmp_path / "got", owner="keep")
    assert (tmp_path / "got" / "f").stat().st_uid == 5
    with pytest.raises(ConfigError, match="outside"):
        files.write_text("/one", "1", owner=(70000, 0))


def test_a_diff_and_an_export_count_as_it_does(box: ck.Container) -> None:
    box.exec("touch /etc/new; chown 7:8 /etc/new; chmod 700 /bin && chmod 755 /bin", check=True)
    assert "/etc/new" in {change.path for change in box.diff()}
    assert "/bin/busybox" not in {change.path for change in box.diff()}
    exported = io.BytesIO()
    box.export(exported)
    exported.seek(0)
    with tarfile.open(fileobj=exported) as tar:
        owners = {one.name: (one.uid, one.gid) for one in tar}
    assert owners.pop("etc/new") == (7, 8)
    assert max(max(owner) for owner in owners.values()) < 65536


def test_it_keeps_its_range(engine: ck.Engine, box: ck.Container) -> None:
    before = said(box, "touch /mine; cat /proc/self/uid_map")
    assert f"container {box.id}" in claims_of(engine)
    box.restart()
    assert said(box, "cat /proc/self/uid_map") == before
    assert said(box, "stat -c %u /mine") == ["0"]
    box.remove(force=True)
    assert f"container {box.id}" not in claims_of(engine)


def test_a_range_that_another_has_got(engine: ck.Engine, busybox: str) -> None:
    """As after a boot, when the claims are gone."""
    with engine.containers.create(busybox, UNTIL_TOLD, security=AUTO) as box:
        (name,) = (name for name, holder in claims.of(engine.root).items() if box.id in holder)
        path = idclaims.place_of(engine.root) / name
        mine = path.read_bytes()
        path.unlink()
        box.start()
        assert path.read_bytes() == mine
        box.stop(grace=0)
        with engine.containers.create(busybox, UNTIL_TOLD, security=AUTO) as other:
            path.write_text(f"{engine.root}\ncontainer {other.id}\n")
            with pytest.raises(InUse, match="user ids"):
                box.start()
            path.write_bytes(mine)


def test_a_restart_by_policy(engine: ck.Engine, busybox: str) -> None:
    script = "cat /proc/self/uid_map; [ -e /again ] && echo again && exec sleep 1000; touch /again; exit 1"
    with engine.start(
        busybox, script, security=AUTO, user=0, lifetime="detached", restart="always"
    ) as box:
        try:
            box.wait_ready(log="again", timeout=60)
            lines = box.log_text().splitlines()
            maps = lines[: lines.index("again")]
            assert maps == maps[: len(maps) // 2] * 2
        finally:
            box.remove(force=True)


def test_ranges_are_disjoint(engine: ck.Engine, busybox: str) -> None:
    with (
        engine.start(busybox, UNTIL_TOLD, security=AUTO) as one,
        engine.start(busybox, UNTIL_TOLD, security=AUTO) as two,
    ):
        run = engine.run(busybox, "cat /proc/self/uid_map", security=AUTO, text=True).stdout
        again = engine.run(busybox, "cat /proc/self/uid_map", security=AUTO, text=True).stdout
        found = [said(box, "cat /proc/self/uid_map")[1] for box in (one, two)]
        assert len({*found, run.split()[1]}) == 3
        assert run == again


def test_no_container_has_the_range_of_a_launcher_that_died(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that dies when the ids are chosen: its claims are stale, and anybody's."""
    real = Launcher.start
    died: list[str] = []

    def start(launcher: Launcher, plan: bytes, inputs: Sequence[int]) -> Channel:
        if not died:
            died.append(launcher.id)
            signal.pidfd_send_signal(launcher._pidfd, signal.SIGKILL)
            while launcher.alive:
                select.select([launcher._pidfd], [], [])
        return real(launcher, plan, inputs)

    monkeypatch.setattr(Launcher, "start", start)
    engine.run(busybox, "true", security=AUTO, user=0).check()
    assert claims_of(engine) == {f"launcher {launcher_of(engine).id}"}
    assert launcher_of(engine).id not in died

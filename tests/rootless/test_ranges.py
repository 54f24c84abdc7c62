"""Ordinary users' containers with ids that are no other's: auto and strict, with subordinate ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import HostError, MissingFeature
from containerkit.runtime import idclaims, subordinate
from containerkit.runtime.recover import recover
from containerkit.state import userns
from tests.rootless import user
from tests.rootless.maker import killed
from tests.rootless.test_user import nothing_is_left
from tests.support import claims
from tests.support.patience import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.needs("ordinary user"),
    pytest.mark.needs("ids"),
]

__all__ = ["nothing_is_left"]

AUTO = ck.Security(userns="auto")
STRICT = ck.Security.strict()
LIFTED = ck.Limits(memory=ck.UNLIMITED, cpus=ck.UNLIMITED, pids=ck.UNLIMITED)
FOREVER = ["sleep", "100000"]


def said(one: ck.Container, script: str) -> list[str]:
    return one.exec(["sh", "-c", script], text=True, check=True).stdout.split()


def ids_of(one: ck.Container) -> set[int]:
    """The host's numbers of all whom a container's processes can be."""
    lines = userns.read_map(f"/proc/{one.top()[0].host_pid}/uid_map")
    return {number for _, first, count in lines for number in range(first, first + count)}


def copies_in(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root / "containers") if "-copy" in name)


def test_nobody_elses_and_root_inside(engine: ck.Engine, busybox: str) -> None:
    script = (
        "touch /new; chown app:extra /new; stat -c %u:%g /new /bin/busybox /home/app /etc/hosts;"
        " echo a >/home/app/file && id -u"
    )
    with (
        engine.start(busybox, FOREVER, security=AUTO) as one,
        engine.start(busybox, FOREVER, security=AUTO, user="app") as two,
        engine.start(busybox, FOREVER, security=STRICT, limits=LIFTED) as three,
        engine.start(busybox, FOREVER, security=STRICT, limits=LIFTED) as four,
    ):
        assert said(one, script) == ["1000:1001", "0:0", "1000:1000", "0:0", "0"]
        assert said(two, "id -u; touch /home/app/file; [ -O /home/app ] && echo own") == [
            "1000",
            "own",
        ]
        assert two.exec(["touch", "/new"], user=0).exit.ok
        assert said(three, "id -u; stat -c %u /bin/busybox") == ["65534", "65534"]
        everybody = [ids_of(box) for box in (one, two, three, four)]
        assert [len(ids) for ids in everybody] == [1025, 1025, 1, 1]
        assert len(set.union(*everybody)) == 2052
        granted = range(user.RANGE[0], sum(user.RANGE))
        assert all(number in granted for ids in everybody for number in ids)
        assert {task.uid for task in one.top()} == {0}
    assert "container" not in " ".join(claims.of(engine.root).values())


def test_strict_as_root_of_the_image(engine: ck.Engine, busybox: str) -> None:
    script = "id -u; stat -c %u /bin/busybox; touch /new /bin/new; cd /root && echo in"
    found = engine.run(
        busybox, ["sh", "-c", script], security=STRICT, limits=LIFTED, user=0, text=True
    )
    assert found.stdout.split() == ["0", "0", "in"]
    with engine.start(busybox, FOREVER, security=STRICT, limits=LIFTED) as alone:
        with pytest.raises(MissingFeature, match="cannot run as user 1000") as caught:
            alone.exec(["true"], user=1000)
        assert "another user" in str(caught.value.hint)


def test_runs_share_a_range_and_its_copy(engine_root: Path, busybox: str) -> None:
    script = ["sh", "-c", "sed 1q /proc/self/uid_map"]
    with ck.Engine.open(engine_root) as engine:
        found = {engine.run(busybox, script, security=AUTO, text=True).stdout for _ in range(3)}
        assert len(found) == 1
        assert len(copies_in(engine_root)) == 1
        assert engine.prune().size > 1 << 20
        assert copies_in(engine_root) == []
        strict = engine.run(busybox, ["true"], security=STRICT, limits=LIFTED)
        assert strict.exit.ok
        assert copies_in(engine_root) == []
    assert claims.of(engine_root) == {}


def test_a_range_is_kept(engine: ck.Engine, busybox: str) -> None:
    show = "cat /proc/self/uid_map; stat -c %u /mine"
    with engine.start(busybox, FOREVER, security=AUTO) as one:
        before = said(one, f"touch /mine; {show}")
        (name,) = (name for name, holder in claims.of(engine.root).items() if one.id in holder)
        one.stop(grace=0)
        (idclaims.place_of(engine.root) / name).unlink()  # as after a boot
        with engine.start(busybox, FOREVER, security=AUTO) as other:
            with pytest.raises(ck.InUse, match="user ids"):
                one.start()
            assert ids_of(other)
        one.start()
        assert said(one, show) == before


def test_when_the_grant_is_used_up(
    engine_root: Path, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subordinate, "pool_of", lambda _: (10_000, 12_000))
    with ck.Engine.open(engine_root) as engine:
        engine.run(busybox, ["true"], security=AUTO, check=True)
        with engine.start(busybox, FOREVER, security=AUTO) as one:
            with pytest.raises(HostError, match="needs 1025 in a row") as caught:
                engine.run(busybox, ["true"], security=AUTO)
            assert "of the 65536 that are granted" in str(caught.value)
            assert "2000, 1025 of which are taken" in str(caught.value)
            assert "/etc/subuid" in str(caught.value.hint)
            assert engine.run(busybox, ["true"], security=STRICT, limits=LIFTED).exit.ok
            assert said(one, "id -u") == ["0"]
        engine.run(busybox, ["true"], security=AUTO, check=True)
        monkeypatch.setattr(subordinate, "pool_of", lambda _: (500, 1000))
        with pytest.raises(MissingFeature, match="can have 500"):
            engine.start(busybox, FOREVER, security=AUTO, user=70000)


@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_its_maker_is_killed(
    engine: ck.Engine, shared_root: Path, busybox: str, lifetime: str
) -> None:
    identity = killed(shared_root, busybox, lifetime, '"security": ck.Security(userns="auto"),')
    engine.recover()
    found = [one.id for one in engine.containers.list()]
    assert found == ([identity] if lifetime == "detached" else [])
    for one in engine.containers.list():
        assert f"container {identity}" in claims.of(shared_root).values()
        assert said(one, "id -u; stat -c %u /bin/busybox") == ["0", "0"]
        one.remove(force=True)
    assert not any("container" in holder for holder in claims.of(shared_root).values())


HALF = f"""
import sys
sys.path.append({str(user.REPOSITORY)!r})
import containerkit as ck
from containerkit.snapshots import copy
from containerkit.state import inside

class Stopped(inside.Inside):
    def __init__(self, root, function, arguments, *, fds=()):
        super().__init__(root, "tests.rootless.test_ranges:half", arguments, fds=fds)

    def result(self):
        print(self._process.stdout.readline().decode().strip() or "ended", flush=True)
        sys.stdin.read()

inside.Inside = Stopped
with ck.Engine.open(sys.argv[1]) as engine:
    getattr(engine, sys.argv[2])(sys.argv[3], "true", security=ck.Security(userns="auto"))
"""


def half(stacks: list[tuple[list[str], str]], **_: object) -> None:
    """Copy a part of the layers as another, and wait to be ended."""
    copy = stacks[0][1]
    for name in ("file", "other"):
        Path(copy, name).write_text("half")
        os.chown(Path(copy, name), 30_000, 30_000)
    os.chown(copy, 30_000, 30_000)
    os.chmod(copy, 0o700)
    sys.stdout.write("half\n")
    sys.stdout.flush()
    signal.pause()


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_process_killed_while_it_copies(engine_root: Path, busybox: str, verb: str) -> None:
    """Who copies for it ends as well; nothing of it is seen, and its ids are free."""
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    words = [sys.executable, "-c", HALF, str(engine_root), verb, busybox]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        assert claims.of(engine_root)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def gone() -> bool:
        recover(engine_root)
        return not os.listdir(engine_root / "containers") and not claims.of(engine_root)

    assert until(gone)
    with ck.Engine.open(engine_root) as engine:
        assert engine.containers.list() == ()
        assert engine.run(busybox, ["true"], security=AUTO).exit.ok


def test_a_root_that_has_run_the_host_image_alone(engine_root: Path) -> None:
    """It has no catalog yet, and copies with ids of the range to remove."""
    with ck.Engine.open(engine_root) as engine:
        number = engine.run(None, ["id", "-u"], text=True, security=AUTO).stdout
    assert number == "0\n"
    assert not list((engine_root / "containers").iterdir())

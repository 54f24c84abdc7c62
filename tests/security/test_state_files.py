"""State that somebody edited is data: it is an error or is not believed, never code, and no stranger is
killed, removed or written to for it.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, HostError
from containerkit.runtime import recover
from containerkit.state import events, record
from tests.integration.exec.look import launcher_of

DEAD = "0123456789abcdef01234567"


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any container."""
    with subprocess.Popen(["sleep", "100000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Directories that look like a launcher's groups, elsewhere."""
    (tmp_path / "containerkit-stranger" / "inner").mkdir(parents=True)
    (tmp_path / f"containerkit-{DEAD}" / "inner").mkdir(parents=True)
    return tmp_path


def use(engine: ck.Engine, name: str) -> None:
    """Do everything with a container that exists; only errors of ours may come."""

    def attempt(done: object) -> None:
        try:
            done()  # type: ignore[operator]
        except ContainerKitError:
            pass

    attempt(engine.containers.list)
    try:
        box = engine.containers.get(name)
    except ContainerKitError:
        return
    attempt(lambda: (box.status, box.exit, box.health, box.pid, box.started))
    for done in (
        box.inspect,
        box.stats,
        box.top,
        box.log_text,
        box.pause,
        box.unpause,
        lambda: box.exec(["true"]),
        lambda: box.kill("TERM"),
        box.kill,
        lambda: box.stop(grace=0),
        lambda: box.wait(timeout=0),
    ):
        attempt(done)


def records(victim: int) -> list[bytes]:
    """Records of containers that say they run, where and as whom they do not."""
    base = record.State(status=record.RUNNING, launcher=DEAD, pid=victim, group=1)
    found = [
        record.encode(base._replace(launcher=launcher, status=status))
        for launcher in (DEAD, "", "../../owners/x", "..", "/", "a/b", "x" * 32)
        for status in (record.RUNNING, record.RESTARTING, record.PAUSED)
    ]
    found.append(record.encode(base._replace(cause=4000000000, signal=-7, code=-(2**31))))
    found.append(record.encode(base._replace(signal=2**31 - 1, cause=1, status=record.STOPPED)))
    found.append(record.encode(base._replace(started_ns=2**64 - 1, finished_ns=2**64 - 1)))
    found.append(record.encode(base._replace(pid=2**32 - 1, group=2**32 - 1)))
    found += [b"", b"x", b"\0" * 128, os.urandom(128), pickle.dumps(victim).ljust(128, b"\0")]
    return found


def test_records(engine: ck.Engine, hostile: str, victim: subprocess.Popen[bytes]) -> None:
    """Also one that says that a living launcher runs it, as a process that is not the container's."""
    with engine.containers.create(hostile, ["true"]) as box:
        lock = Path(engine.root, "containers", box.id, record.NAME)
        alive = record.State(record.RUNNING, launcher_of(engine).id, pid=victim.pid, group=1)
        for data in (*records(victim.pid), record.encode(alive)):
            lock.write_bytes(data)
            use(engine, box.id)
            recover.recover(engine.root)
        assert victim.poll() is None
        assert engine.run(hostile, ["true"]).exit.ok
        lock.write_bytes(b"")


def test_records_of_launchers(
    engine: ck.Engine, hostile: str, victim: subprocess.Popen[bytes], foreign: Path
) -> None:
    """What a dead one's says that it had is removed only where a launcher of that name has it."""
    stranger, own_name = foreign / "containerkit-stranger", foreign / f"containerkit-{DEAD}"
    lines = [
        f"{stranger}",
        f"{foreign}/containerkit-stranger/../containerkit-stranger",
        "/",
        "",
        "x",
    ]
    for first in ("owner x y z", "owner 1 2", f"owner {victim.pid} 0 0", "\0\0", "alone"):
        path = Path(engine.root, "owners", DEAD)
        path.write_text("\n".join([first, *lines, ""]))
        recover.recover(engine.root)
        assert not path.exists()
    assert (stranger / "inner").is_dir()
    assert (own_name / "inner").is_dir()
    assert victim.poll() is None


def test_a_living_launchers_record(engine: ck.Engine, hostile: str) -> None:
    """Its first line says whom it belongs to: nonsense is nobody, and an error of ours at most."""
    engine.run(hostile, ["true"])
    path = Path(engine.root, "owners", launcher_of(engine).id)
    before = path.read_bytes()
    for line in (b"owner x y z", b"owner -1 0 0", b"\xff" * 80):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino).encode()
        path.write_bytes(line.rpartition(b" ")[0] + b" " + namespace + b"\n")
        recover.recover(engine.root)
        assert engine.run(hostile, ["true"]).exit.ok
    path.write_bytes(before)


def test_marks(engine: ck.Engine, hostile: str, foreign: Path) -> None:
    place = Path(engine.root, "containers", "f" * 64)
    for mark in (
        f"owner:../../../../..{foreign}",
        "owner:",
        "owner:/",
        "owner:" + "x" * 2000,
        "detached:../..",
        str(foreign),
        "..",
    ):
        place.mkdir(exist_ok=True)
        (place / "lock").touch()
        (place / "kept").symlink_to(mark)
        (place / "upper").symlink_to(foreign)
        recover.recover(engine.root)
        use(engine, "f" * 64)
        for name in ("kept", "upper", "lock"):
            (place / name).unlink(missing_ok=True)
    if place.exists():
        place.rmdir()
    assert (foreign / "containerkit-stranger" / "inner").is_dir()


CONFIGS = (
    "",
    "null",
    "[]",
    "{",
    '"x"',
    '{"options": 7}',
    '{"$": "os.system", "v": "touch {marker}"}',
    '{"$": "builtins.eval", "v": {"args": "open({marker}, \'w\')"}}',
    '{"$": "containerkit.model.security.__builtins__", "v": {}}',
    '{"$": "containerkit.model..os.system", "v": {"command": "touch {marker}"}}',
    '{"$": "containerkit.model.check.attrs", "v": {"x": "touch {marker}"}}',
    '{"$": "containerkit.model.image_config.ImageConfig", "v": {"nothing": 1}}',
    '{"$": 1, "v": []}',
    "[" * 2000 + "]" * 2000,
)


def test_configs(engine: ck.Engine, hostile: str, tmp_path: Path) -> None:
    """Of the catalog's rows: a value is made of the model's kinds only, and of those by their fields."""
    marker = tmp_path / "executed"
    with engine.containers.create(hostile, ["true"], name="edited") as box:
        catalog = sqlite3.connect(engine.root / "catalog.sqlite")
        kept = catalog.execute("SELECT config FROM containers WHERE id = ?", (box.id,)).fetchone()[
            0
        ]
        broken = [text.replace("{marker}", str(marker)) for text in CONFIGS]
        nested = [kept.replace("null", text, 1) for text in broken[6:13]]
        for text in (*broken, *nested):
            with catalog:
                catalog.execute("UPDATE containers SET config = ? WHERE id = ?", (text, box.id))
            use(engine, box.id)
            try:
                engine.containers.get("edited").start()
            except ContainerKitError:
                pass
            assert not marker.exists()
        with catalog:
            catalog.execute("UPDATE containers SET config = ? WHERE id = ?", (kept, box.id))
        catalog.close()


# ---- something else than a file --------------------------------------------------------------------


def put(path: Path, kind: str) -> None:
    """Replace what is there by something that is no file."""
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"x")  # the control: a file, with nonsense in it


KINDS = ["fifo", "directory", "link", "file"]


@pytest.mark.parametrize("kind", KINDS)
def test_events_that_are_no_file(kind: str, engine: ck.Engine, hostile: str) -> None:
    """Nobody waits for who would read or write a pipe, and nothing fails for want of an event."""
    engine.run(hostile, ["true"])
    events.append(engine.root, "pull", "x")
    put(engine.root / events.NAME, kind)
    written = events.append(engine.root, "pull", "y")
    assert written == (kind == "file")
    with engine.containers.create(hostile, ["true"]) as box:
        box.start()
        box.wait()
    if kind == "file":
        assert list(events.read(engine.root))
    else:
        with pytest.raises(HostError):
            list(events.read(engine.root))
        path = engine.root / events.NAME
        path.rmdir() if kind == "directory" else path.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_is_no_file(kind: str, engine: ck.Engine, hostile: str) -> None:
    """An engine opens whatever one container's record is; the container never ran, as it seems."""
    with engine.containers.create(hostile, ["true"]) as box:
        lock = Path(engine.root, "containers", box.id, record.NAME)
        lock.write_bytes(b"")
        put(lock, kind)
        assert record.read(lock.parent) is None
        recover.recover(engine.root)
        use(engine, box.id)
        assert engine.run(hostile, ["true"]).exit.ok
        lock.rmdir() if kind == "directory" else lock.unlink()
        lock.touch(0o600)


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_no_file(kind: str, engine: ck.Engine, hostile: str) -> None:
    with engine.containers.create(hostile, ["echo", "told"]) as box:
        box.start()
        box.wait()
        assert box.log_text() == "told\n"
        log = Path(engine.root, "containers", box.id, "log")
        put(log, kind)
        if kind == "file":
            assert "told" not in box.log_text()
        else:
            with pytest.raises(HostError):
                box.log_text()

"""Logs when a disk is full or a launcher was killed: what is there is readable, nothing waits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containerkit.engine import Engine
from containerkit.state import record
from containerkit.stdio.logs import Logs
from containerkit.stdio.records import Record, encode
from tests.integration.logs.kept import kept
from tests.support.patience import unmount

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def small_disk(engine_root: Path) -> Iterator[Path]:
    engine_root.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "none", engine_root], check=True
    )
    yield engine_root
    unmount(engine_root)


def fill(disk: Path) -> Path:
    """Leave no free byte."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


@pytest.mark.needs("mounts")
def test_a_full_disk_drops_and_counts(small_disk: Path, busybox: str) -> None:
    """The container goes on; what was logged before and after is whole."""
    script = "echo one; read x; seq 1 100000; exit 3"
    with Engine.open(small_disk) as engine:
        engine.images.pull(busybox)
        with engine.start(busybox, script, stdin_open=True) as container:
            with container.logs(follow=True) as logs:
                next(logs)
            filler = fill(small_disk)
            with container.attach() as process:
                result = process.communicate(b"\n", timeout=120)
            assert result.exit.code == 3
            state = record.read(container._directory)
            assert state is not None
            written = sum(len(b"%d\n" % number) for number in range(1, 100001))
            assert state.dropped == written - len(result.stdout)
            assert state.dropped > 0
            filler.unlink()
            container.start()
            with container.attach() as process:
                assert process.communicate(b"\n", timeout=120).exit.code == 3
            lines = [entry.data for entry in container.logs()]
            assert lines[0] == b"one\n"
            assert lines.count(b"one\n") == 2
            assert lines[-1] == b"100000\n"


def left_by(status: int, cause: int, log: bytes) -> Callable[[Path], None]:
    """Make a container's directory as one that ran before has left it."""

    def make(directory: Path) -> None:
        state = record.State(status=status, launcher="0" * 24, cause=cause)
        (directory / record.NAME).write_bytes(record.encode(state))
        (directory / "log").write_bytes(log)

    return make


WHOLE = encode(Record(1_000, 1, b"before\n"))


@pytest.mark.parametrize("state", [(record.RUNNING, 0), (record.STOPPED, 7)])
def test_after_a_crash_the_next_run_has_a_file_of_its_own(
    engine: Engine, busybox: str, state: tuple[int, int]
) -> None:
    """Half a record may be the last of the old one; what follows must not be read as its rest."""
    torn = WHOLE + encode(Record(2_000, 1, b"x" * 1000))[:500]
    with kept(engine, busybox, "echo after", left_by(*state, torn)) as container:
        container.wait()
        assert [e.data for e in Logs(container.directory)] == [b"before\n", b"after\n"]
        assert [e.data for e in Logs(container.directory, tail=2)] == [b"before\n", b"after\n"]
        assert (container.directory / "log.1").exists()


def test_after_an_orderly_end_the_log_goes_on(engine: Engine, busybox: str) -> None:
    before = left_by(record.STOPPED, 0, WHOLE)
    with kept(engine, busybox, "echo after", before) as container:
        container.wait()
        assert [e.data for e in Logs(container.directory)] == [b"before\n", b"after\n"]
        assert not (container.directory / "log.1").exists()

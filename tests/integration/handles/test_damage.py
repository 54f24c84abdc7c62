"""Records and catalogs that were damaged: told, and what they were of can still be ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import containerkit as ck
from containerkit.model.digest import Digest
from containerkit.state import record
from containerkit.state.pin import Pin
from tests.integration.handles.support import FOREVER, ends


@pytest.fixture
def own(engine_root: Path) -> Iterator[ck.Engine]:
    """An engine on a root of its own: it is checked whole."""
    with ck.Engine.open(engine_root) as engine:
        yield engine


def damage(path: Path, how: str) -> None:
    """Damage a file in place: its lock stays."""
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 4
    with open(path, "r+b") as file:
        file.truncate(0 if how == "emptied" else 50 if how == "cut" else None)
        file.write(b"" if how in ("emptied", "cut") else data)


def record_of(container: ck.Container) -> Path:
    return container._keeper.root / "containers" / container.id / record.NAME


@pytest.mark.parametrize(("lifetime", "how"), [("owner", "flipped"), ("detached", "cut")])
def test_the_record_of_one_that_runs(
    own: ck.Engine, busybox: str, lifetime: Literal["owner", "detached"], how: str
) -> None:
    """Who holds its lock runs it: all goes on, and its end is written down as ever."""
    engine = own
    container = engine.start(busybox, FOREVER, lifetime=lifetime)
    try:
        damage(record_of(container), how)
        assert container.status == "running"
        assert [found[:3] for found in engine.check().problems] == [
            ("damaged record", container.id, "how it ended last is not known")
        ]
        assert container.exec(["true"]).exit.ok
        container.stop(grace=0)
        assert (container.status, container.exit) == ("stopped", ck.Exit.by_signal(9))
        assert engine.check().ok
    finally:
        container.remove(force=True)


def test_the_record_of_one_that_runs_was_emptied(engine: ck.Engine, busybox: str) -> None:
    container = engine.start(busybox, FOREVER, lifetime="detached")
    assert container.pid is not None
    pidfd = os.pidfd_open(container.pid)
    damage(record_of(container), "emptied")
    container.remove(force=True)
    assert container.status == "removed"
    assert ends(pidfd)


def test_the_record_of_one_that_has_ended(own: ck.Engine, busybox: str) -> None:
    engine = own
    container = engine.start(busybox, ["sh", "-c", "exit 3"], lifetime="detached")
    try:
        container.wait(timeout=120)
        damage(record_of(container), "flipped")
        assert container.exit is not None
        assert container.exit.cause == "lost"
        (problem,) = engine.check(repair=True).problems
        assert problem[0] == "damaged record"
        assert problem.repaired
        assert engine.check().problems == ()
        container.start()
        assert container.wait(timeout=120).code == 3
    finally:
        container.remove(force=True)


def test_something_else_in_the_place_of_a_record(engine: ck.Engine, busybox: str) -> None:
    container = engine.containers.create(busybox, ["true"])
    record_of(container).unlink()
    record_of(container).mkdir()
    container.remove()
    assert container.status == "removed"


def test_one_that_runs_and_has_no_row(engine_root: Path, busybox: str) -> None:
    """It is told, and left alone."""
    with ck.Engine.open(engine_root) as engine, engine.start(busybox, FOREVER) as container:
        row = container._read_row()
        engine._keeper.records.forget([container.id])
        (problem,) = engine.check(repair=True).problems
        assert problem[:2] == ("unknown container", container.id)
        assert not problem.repaired
        assert container.status == "running"
        engine._keeper.records.insert(row, (), durable=False)


def test_a_catalog_that_was_emptied(engine_root: Path, busybox: str) -> None:
    """Not taken for that of a new root, with all images and containers forgotten."""
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    kept = (engine_root / "catalog.sqlite").read_bytes()
    os.truncate(engine_root / "catalog.sqlite", 0)
    with ck.Engine.open(engine_root) as engine:
        with pytest.raises(ck.CorruptContent, match=r"catalog\.sqlite: it is empty") as caught:
            engine.images.list()
        assert "copy" in str(caught.value)
    (engine_root / "catalog.sqlite").write_bytes(kept)
    with ck.Engine.open(engine_root) as engine:
        assert len(engine.images.list()) == 1


def test_a_root_that_is_gone_while_it_is_open(engine_root: Path, busybox: str) -> None:
    """Told by every call in our own words."""
    away = engine_root.with_name("away")
    with ck.Engine.open(engine_root) as engine:
        container = engine.containers.create(busybox, ["true"])
        os.rename(engine_root, away)
        calls = (
            lambda: engine.run(busybox, ["true"]),
            lambda: engine.start(busybox, ["true"], lifetime="detached"),
            lambda: engine.images.pull(busybox),
            engine.recover,
            engine.gc,
            engine.check,
            engine.prune,
            engine.containers.list,
            container.start,
            container.files.list,
        )
        for call in calls:
            with contextlib.suppress(ck.ContainerKitError):
                call()
        with pytest.raises(ck.HostError, match="gone"):
            engine.recover()


def test_the_pins_of_a_killed_pull_go_with_the_next_opening(
    engine_root: Path, busybox: str
) -> None:
    """Those of living ones stay; what was downloaded stays for the next pull."""
    with ck.Engine.open(engine_root) as engine:
        digest = Digest.parse(engine.images.pull(busybox).digest)
        root, catalog = engine.images._root, engine.images._catalog
        killed, living = Pin(root, catalog), Pin(root, catalog)
        with living:
            living.add([digest])
            killed.__enter__()
            killed.add([digest])
            killed._lock.release()
            assert catalog.row("SELECT count(DISTINCT lease) FROM leases") == (2,)
            engine.recover()
            assert catalog.row("SELECT count(DISTINCT lease) FROM leases") == (1,)
            assert len(os.listdir(root.ingest)) == 1


def test_a_fifo_among_its_files_is_not_waited_for(own: ck.Engine, busybox: str) -> None:
    """Its launcher goes on: it runs other containers, too."""
    with own.containers.create(busybox, FOREVER) as container:
        files = record_of(container).parent / "files"
        files.mkdir()
        for number in range(4):
            os.mkfifo(files / str(number))
        with pytest.raises(ck.LaunchError):
            container.start()
        assert own.run(busybox, ["true"]).exit.ok

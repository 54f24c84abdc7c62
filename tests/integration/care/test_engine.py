"""The care of an engine with containers: pruned, measured, checked."""

from __future__ import annotations

from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import marks
from tests.support import ocibuild
from tests.support.registry import RegistryServer


def test_prune_removes_what_nothing_uses(
    engine_root: Path, busybox: str, registry: RegistryServer
) -> None:
    with ck.Engine.open(engine_root) as engine:
        stopped = engine.start(busybox, ["sh", "-c", "head -c 1000000 /dev/zero > /file"])
        stopped.wait(timeout=120)
        labelled = engine.start(busybox, ["true"], labels={"keep": "me"})
        labelled.wait(timeout=120)
        running = engine.start(busybox, ["sleep", "1000"])
        created = engine.containers.create(busybox, ["true"])
        nameless = engine.images.pull(
            registry.push("prune/a", ocibuild.image([{"file": "x" * 1_000_000}]))
        )
        nameless.untag(nameless.references[0])
        only = engine.prune(label="keep")
        assert only.containers == (labelled.id,)
        assert only.images == (nameless.digest,)
        assert only.size > 1_000_000
        rest = engine.prune()
        assert rest.containers == (stopped.id,)
        assert rest.images == ()
        assert rest.size > 900_000
        assert {one.id for one in engine.containers.list()} == {running.id, created.id}
        assert "1 containers and 0 images removed" in str(rest)
        assert engine.prune().containers == ()


def test_disk_usage_counts_what_containers_write(engine_root: Path, busybox: str) -> None:
    with ck.Engine.open(engine_root) as engine:
        script = "head -c 3000000 /dev/zero | tr '\\0' x > /file; head -c 1000000 /file"
        with engine.start(busybox, ["sh", "-c", script]) as container:
            container.wait(timeout=120)
            usage = engine.disk_usage()
            assert usage.containers.count >= 1
            assert usage.containers.size >= 4_000_000, "the upper directory and the log"
        assert engine.disk_usage().containers.size < 1_000_000


def test_check_of_a_root_in_use(engine_root: Path, busybox: str) -> None:
    with ck.Engine.open(engine_root) as engine, engine.start(busybox, ["sleep", "1000"]):
        report = engine.check()
        assert report.problems == ()
        assert report.containers == 1
        assert report.images == 1


def test_a_directory_without_a_row(engine_root: Path, busybox: str) -> None:
    """Whatever lost the row, what hangs on the mark can be found, and removed."""
    with ck.Engine.open(engine_root) as engine:
        container = engine.containers.create(busybox, ["true"])
        engine._keeper.records.forget([container.id])
        (problem,) = engine.check().problems
        assert problem[:2] == ("unknown container", container.id)
        assert engine.check(repair=True).ok
        assert not (engine_root / "containers" / container.id).exists()
        assert engine.check().problems == ()


def test_gc_drops_rows_without_a_container(engine_root: Path, busybox: str) -> None:
    """What a crash between two steps of a removal leaves: a row, and no mark."""
    with ck.Engine.open(engine_root) as engine:
        container = engine.containers.create(busybox, ["true"], name="gone")
        marks.drop(engine_root / "containers" / container.id)
        assert engine.check().problems == ()
        engine.gc()
        assert engine._keeper.records.all() == []
        with pytest.raises(ck.ContainerNotFound):
            engine.containers.get("gone")
        engine.recover()


def test_probe_is_reached_from_the_engine(engine: ck.Engine) -> None:
    report = engine.probe()
    assert report["overlay"].present, "the other tests could not have run"
    assert "overlay" in str(report)

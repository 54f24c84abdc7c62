"""A handle of a closed engine: it looks, and refuses everything else before it does anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import containerkit as ck
import containerkit.aio

ACTIONS: dict[str, Callable[[ck.Container], object]] = {
    "start": lambda box: box.start(),
    "stop": lambda box: box.stop(grace=0),
    "kill": lambda box: box.kill(),
    "restart": lambda box: box.restart(grace=0),
    "pause": lambda box: box.pause(),
    "unpause": lambda box: box.unpause(),
    "rename": lambda box: box.rename("another"),
    "update": lambda box: box.update(limits=ck.Limits(pids=99)),
    "remove": lambda box: box.remove(force=True),
    "exec": lambda box: box.exec(["true"]),
    "popen": lambda box: box.popen(["true"]),
    "attach": lambda box: box.attach(),
    "commit": lambda box: box.commit(),
    "write": lambda box: box.files.write_text("/tmp/x", "x"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done(shared_root: Path, busybox: str, action: str) -> None:
    """The container outlives the engine, so that it could be done."""
    with ck.Engine.open(shared_root) as other:
        closed = ck.Engine.open(shared_root)
        box = closed.start(busybox, ["sleep", "1000"], lifetime="detached", name="kept")
        try:
            closed.close()
            with pytest.raises(ck.EngineClosed, match="closed"):
                ACTIONS[action](box)
            assert box.status == "running"
            assert other.containers.get(box.id).name == "kept"
            assert other.containers.get(box.id).exec(["true"]).exit.ok  # the control
        finally:
            other.containers.get(box.id).remove(force=True)


def test_leaving_a_block_after_the_engine_is_closed(shared_root: Path, busybox: str) -> None:
    engine = ck.Engine.open(shared_root)
    with engine.start(busybox, ["sleep", "1000"]) as box:
        engine.close()
    assert box.status == "removed"


def test_in_asyncio(shared_root: Path, busybox: str) -> None:
    async def main() -> None:
        engine = await containerkit.aio.Engine.open(shared_root)
        box = await engine.start(busybox, ["sleep", "1000"])
        await engine.close()
        with pytest.raises(ck.EngineClosed):
            await box.exec(["true"])
        with pytest.raises(ck.EngineClosed):
            await box.stop()

    asyncio.run(main())

"""The asyncio face on real containers: many at a time, and cancelled at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.registry import transport
from tests.support import ocibuild
from tests.support.faultproxy import Fault, FaultProxy
from tests.support.patience import TIMEOUTS
from tests.support.registry import RegistryServer


@asynccontextmanager
async def opened(root: Path, image: str) -> AsyncIterator[aio.Engine]:
    async with aio.Engine.open(root) as engine:
        await engine.images._ensure(image)
        yield engine


def with_engine(root: Path, image: str, main: Callable[[aio.Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(root, image) as engine:
            await main(engine)

    asyncio.run(run())


def nothing_is_left(root: Path) -> None:
    assert [name for name in os.listdir(root / "containers") if name[0] != "."] == []


def test_run_as_in_the_blocking_face(shared_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        lines: list[bytes] = []
        result = await engine.run(
            busybox,
            ["sh", "-c", "cat; echo err >&2; exit 3"],
            input="in\n",
            text=True,
            on_output=lambda entry: lines.append(entry.data),
        )
        assert (result.stdout, result.stderr, result.returncode) == ("in\n", "err\n", 3)
        assert sorted(lines) == [b"err\n", b"in\n"]
        with pytest.raises(ck.ProcessFailed):
            await engine.run(busybox, ["false"], check=True)
        with pytest.raises(ck.CommandNotFound):
            await engine.run(busybox, ["/no/such"])
        came: Any = None
        for seconds in TIMEOUTS:
            with pytest.raises(ck.Timeout) as caught:
                await engine.run(busybox, ["sh", "-c", "echo begun; sleep 1000"], timeout=seconds)
            came = caught.value.result
            if came.stdout:
                break
        assert came.stdout == b"begun\n"
        assert came.exit.cause == "timeout"

    with_engine(shared_root, busybox, main)


def test_many_at_a_time_on_one_loop(shared_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        results = await asyncio.gather(
            *(engine.run(busybox, ["sh", "-c", f"sleep 0.2; echo {n}"]) for n in range(16))
        )
        assert [int(result.stdout) for result in results] == list(range(16))

    with_engine(shared_root, busybox, main)


def test_the_loop_goes_on_meanwhile(shared_root: Path, busybox: str, tmp_path: Path) -> None:
    """Nothing of a run holds up the loop: it ends because a task beside it has turned so often."""

    async def main(engine: aio.Engine) -> None:
        begun = asyncio.Event()

        async def turn() -> None:
            await begun.wait()
            for _ in range(20):
                await asyncio.sleep(0.01)
            (tmp_path / "turned").touch()

        script = "yes | head -c 3000000; until test -e /there/turned; do sleep 0.01; done"
        turning = asyncio.ensure_future(turn())
        await engine.run(
            busybox,
            ["sh", "-c", script],
            on_output=lambda _: begun.set(),
            mounts=[ck.Mount.bind(tmp_path, "/there")],
        )
        await turning

    with_engine(shared_root, busybox, main)


def test_a_cancelled_run_kills_what_it_started(shared_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        begun = asyncio.Event()
        run = asyncio.ensure_future(
            engine.run(
                busybox,
                ["sh", "-c", "sleep 1000 & echo begun; sleep 1000"],
                on_output=lambda _: begun.set(),
            )
        )
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        nothing_is_left(engine.root)

    with_engine(shared_root, busybox, main)


@pytest.mark.slow
def test_runs_cancelled_at_any_moment(shared_root: Path, busybox: str) -> None:
    """From before the first step to after the last: nothing is left, and the next one works."""
    noise = random.Random(1)

    async def main(engine: aio.Engine) -> None:
        await engine.run(busybox, ["true"])
        for _ in range(60):
            command = noise.choice([["true"], ["sh", "-c", "sleep 1000 & sleep 1000"]])
            run = asyncio.ensure_future(engine.run(busybox, command))
            await asyncio.sleep(noise.random() ** 3 * 0.03)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            nothing_is_left(engine.root)
        assert (await engine.run(busybox, ["echo", "fine"])).stdout == b"fine\n"

    with_engine(shared_root, busybox, main)


def test_a_timeout_of_asyncio_ends_a_run(shared_root: Path, busybox: str) -> None:
    async def main(engine: aio.Engine) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await engine.run(busybox, ["sleep", "1000"])
        nothing_is_left(engine.root)

    with_engine(shared_root, busybox, main)


def test_a_program_that_ends_its_loop_leaves_nothing(shared_root: Path, busybox: str) -> None:
    """`asyncio.run` cancels what its main function left running."""

    async def main() -> None:
        engine = await aio.Engine.open(shared_root)
        task = asyncio.ensure_future(engine.run(busybox, ["sleep", "1000"]))
        await asyncio.sleep(0.05)
        task.set_name("left running")

    asyncio.run(main())


def test_an_error_of_a_callback_ends_the_run(shared_root: Path, busybox: str) -> None:
    def refuse(_: ck.LogEntry) -> None:
        raise LookupError("not this one")

    async def main(engine: aio.Engine) -> None:
        with pytest.raises(LookupError, match="not this one"):
            await engine.run(busybox, ["sh", "-c", "echo; sleep 1000"], on_output=refuse)
        nothing_is_left(engine.root)

    with_engine(shared_root, busybox, main)


# ---- images ------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry may be silent for an hour, until its client gives it up."""
    times = dict.fromkeys(("idle_timeout", "answer_timeout"), 3600.0)
    monkeypatch.setattr(transport.Transport.__init__, "__kwdefaults__", times)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("stage", ["/manifests/", "/blobs/"])
def test_a_pull_is_cancelled_while_the_registry_stalls(
    engine_root: Path, registry: RegistryServer, stage: str
) -> None:
    """It ends at once, leaves no image, and the next one succeeds."""
    reference = registry.push("silent/a", ocibuild.image([{"f": "x" * 100_000}, {"g": "y"}]))
    name = reference.partition("/")[2]

    async def main(proxy: FaultProxy) -> None:
        async with aio.Engine.open(engine_root) as engine:
            pull = asyncio.ensure_future(engine.images.pull(f"{proxy.host}/{name}"))
            assert await asyncio.to_thread(proxy.stalled.wait, 120)
            await cancelled(pull)
            assert await engine.images.list() == ()
            await engine.images.pull(reference)

    with FaultProxy(registry.host, Fault(on=f"GET .*{stage}", after=0, then="stall")) as proxy:
        asyncio.run(main(proxy))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("call", ["pull", "resolve"])
def test_a_registry_that_takes_the_request_and_says_nothing(engine_root: Path, call: str) -> None:
    async def main(server: socket.socket) -> None:
        reference = f"127.0.0.1:{server.getsockname()[1]}/silent"
        async with aio.Engine.open(engine_root) as engine:
            asking = asyncio.ensure_future(getattr(engine.images, call)(reference))
            connection, _ = await asyncio.get_running_loop().sock_accept(server)
            with connection:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_recv(connection, 4096)
                await cancelled(asking)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        asyncio.run(main(server))


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel; the registry's own time, an hour, does not have to run out."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_progress_comes_on_the_loop(engine_root: Path, registry: RegistryServer) -> None:
    reference = registry.push("progress/a", ocibuild.image([{"f": "x"}]))

    async def main() -> None:
        here = asyncio.get_running_loop()
        events: list[str] = []

        def tell(event: ck.Progress) -> None:
            assert asyncio.get_running_loop() is here
            events.append(event.action)

        async with aio.Engine.open(engine_root) as engine:
            image = await engine.images.pull(reference, progress=tell)
            assert (events[0], events[-1]) == ("resolve", "done")
            assert image in await engine.images.list()
            assert await engine.images.get(image.id) == image

    asyncio.run(main())


def test_an_error_of_the_progress_callback_ends_the_pull(
    engine_root: Path, registry: RegistryServer
) -> None:
    reference = registry.push("progress/b", ocibuild.image([{"f": "x" * 1000}]))

    def refuse(event: ck.Progress) -> None:
        raise LookupError(event.action)

    async def main() -> None:
        async with aio.Engine.open(engine_root) as engine:
            with pytest.raises(LookupError, match="resolve"):
                await engine.images.pull(reference, progress=refuse)
            await engine.images.gc()

    asyncio.run(main())


@pytest.mark.slow
def test_pulls_cancelled_at_any_moment(engine_root: Path, registry: RegistryServer) -> None:
    """Each time there is the whole image or none, and in the end the pull succeeds."""
    noise = random.Random(2)
    layers = [{f"{n}-{m}": os.urandom(20_000) for m in range(20)} for n in range(4)]
    reference = registry.push("cancelled/a", ocibuild.image(layers))

    async def main() -> None:
        async with aio.Engine.open(engine_root) as engine:
            for _ in range(25):
                pull = asyncio.ensure_future(engine.images.pull(reference))
                await asyncio.sleep(noise.random() * 0.15)
                pull.cancel()
                await asyncio.gather(pull, return_exceptions=True)
                for image in await engine.images.list():
                    assert image.config.diff_ids
                    await image.remove()
                assert await engine.images.list() == ()
            image = await engine.images.pull(reference)
            assert len(image.layers) == 4

    asyncio.run(main())

"""A kept container in a launcher of its own, below the handles."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from containerkit.launch.compile import compile_plan
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from containerkit.launch.request import LaunchRequest
from containerkit.model.options import Command, ContainerOptions
from containerkit.runtime import facts, packets
from containerkit.runtime.channel import Channel, ask
from containerkit.runtime.inputs import open_input
from containerkit.runtime.launcher import Launcher
from containerkit.state import record
from containerkit.state.record import State
from tests.support.patience import DEADLINE, until

if TYPE_CHECKING:
    from containerkit.engine import Engine


def receive(channel: Channel) -> tuple[packets.Event | None, list[int]]:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "no answer"
    return channel.receive()


def end_of(channel: Channel) -> packets.Event:
    """Return the last event of a watched container; each start before it is told with a pidfd."""
    event, fds = receive(channel)
    while event is not None and event.kind == packets.STARTED:
        for fd in fds:
            os.close(fd)
        event, fds = receive(channel)
    assert event is not None
    assert not fds
    return event


def group_of(launcher: Launcher) -> Path:
    """Return the control group, with the controller "pids", of a launcher's only container."""
    (found,) = (
        file.parent for path in launcher.group.paths for file in path.glob("[0-9]*/pids.max")
    )
    return found


class Kept:
    """A kept container as any process of the root sees it."""

    def __init__(self, root: Path, identity: str, launcher_id: str) -> None:
        self.root = root
        self.id = identity
        self.launcher_id = launcher_id
        self.directory = root / "containers" / identity

    def ask(
        self, kind: int, *, values: Sequence[int] = (), body: bytes = b""
    ) -> tuple[packets.Event, list[int]]:
        """Send a request; return the answer."""
        channel = self.connect(kind, values=values, body=body)
        try:
            event, fds = receive(channel)
        finally:
            channel.close()
        assert event is not None
        return event, fds

    def connect(self, kind: int, *, values: Sequence[int] = (), body: bytes = b"") -> Channel:
        data = packets.request(kind, self.id, values=values, body=body)
        return ask(self.root, self.launcher_id, data)

    def done(self, kind: int, *, values: Sequence[int] = (), body: bytes = b"") -> None:
        event, _fds = self.ask(kind, values=values, body=body)
        assert event.kind == packets.DONE, os.strerror(event.errnum)

    def refused(self, kind: int, *, values: Sequence[int] = (), body: bytes = b"") -> packets.Event:
        event, _fds = self.ask(kind, values=values, body=body)
        assert event.kind == packets.FAILED
        return event

    def kill(self, number: int = signal.SIGKILL, *, cause: int = 0, flags: int = 0) -> None:
        self.done(packets.SIGNAL, values=(number, cause, flags))

    def stop(self) -> None:
        self.kill(flags=packets.STOP_ASKED)

    @contextmanager
    def watch(self) -> Iterator[Channel]:
        channel = self.connect(packets.WATCH)
        try:
            yield channel
        finally:
            channel.close()

    def wait(self) -> State:
        """Wait until its record says that it has ended for good."""
        state: State = until(lambda: (now := self.state()) and not now.is_live and now)
        return state

    def state(self) -> State | None:
        return record.read(self.directory)

    def until(self, found: Callable[[State], Any]) -> State:
        state: State = until(lambda: (now := self.state()) and found(now) and now)
        return state

    def events(self) -> list[dict[str, Any]]:
        lines = (self.root / "events").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if self.id in line]
        return [event for event in found if event["id"] == self.id]

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events()]

    def text(self, name: str) -> str:
        """Return a file that it wrote in its root."""
        return (self.directory / "upper" / "0" / name).read_text(encoding="utf-8")


def plan_of(
    request: LaunchRequest, launcher: Launcher, *ops: Op, probe: Command | None, timing: Any
) -> Plan:
    host = facts.gather(launcher)
    plan = compile_plan(request, host)
    more = list(ops)
    if probe is not None:
        base = ExecBase(request.id, request.image, options=request.options, facts=host)
        inner = exec_plan(base, ExecRequest(probe, streams=("stdout", "stderr")))
        interval, limit, period, first, retries = timing
        more.append(
            Op(
                Code.HEALTH,
                flags=retries,
                arena=(inner.encode(), None, None),
                value=(interval << 32 | limit, period << 32 | first),
            )
        )
    return Plan(
        inputs=plan.inputs,
        prepare=(*plan.prepare, *more),
        child=plan.child,
        namespaces=plan.namespaces,
        kind="kept",
    )


def begin(
    engine: Engine,
    image: str,
    command: Command,
    launcher: Launcher,
    *ops: Op,
    probe: Command | None = None,
    timing: tuple[int, int, int, int, int] = (50, 120_000, 0, 0, 3),
    **options: Unpack[ContainerOptions],
) -> Kept:
    """Start a container and let go of it; timing: interval, timeout, period, first interval, retries."""
    with engine._startable(image, options, None) as what:
        request = LaunchRequest(
            os.urandom(32).hex(),
            what.config,
            what._rootfs,
            command,
            options=options,
            ephemeral=False,
            kept=True,
        )
        plan = plan_of(request, launcher, *ops, probe=probe, timing=timing)
        opened: list[int] = []
        try:
            inputs = [open_input(launcher.root, item, options, opened) for item in plan.inputs]
            channel = launcher.start(plan.encode(), inputs)
        finally:
            for fd in opened:
                os.close(fd)
        event, fds = receive(channel)
        for fd in fds:
            os.close(fd)
        assert event is not None
        assert event.kind == packets.STARTED, (os.strerror(event.errnum), event)
        channel.close()
    return Kept(engine.root, request.id, launcher.id)


def restart(policy: int, retries: int = 0) -> Op:
    return Op(Code.RESTART, value=(policy, retries))

"""Kept containers as the launcher knows them: for tests below the handles."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from containerkit.launch.compile import compile_plan
from containerkit.launch.request import LaunchRequest
from containerkit.model.options import Command, ContainerOptions
from containerkit.runtime import packets
from containerkit.runtime.channel import Channel, ask
from containerkit.state.atomic import remove_tree
from containerkit.stdio.logs import Logs

if TYPE_CHECKING:
    from containerkit.engine import Engine

SECONDS = 120.0


class Kept:
    """A started kept container; also the `Life` that a follower asks.

    Attributes:
        directory: its own.
        pidfd: of its first process.
        end: the EXITED event, once it has come.
    """

    def __init__(self, root: Path, identity: str, launcher_id: str, channel: Channel) -> None:
        self.root = root
        self.id = identity
        self.directory = root / "containers" / identity
        self.launcher_id = launcher_id
        self.channel = channel
        self.end: packets.Event | None = None
        self._taking = threading.Lock()  # several followers may ask
        event, fds = channel.receive()
        assert event is not None
        assert event.kind == packets.STARTED, os.strerror(event.errnum)
        (self.pidfd,) = fds

    def fileno(self) -> int:
        return self.channel.fileno()

    def over(self) -> bool:
        return self._take(0)

    def _take(self, seconds: float) -> bool:
        """Take what the launcher says until it has ended, or has said nothing for so long."""
        with self._taking:
            return self._taken(seconds)

    def _taken(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while self.end is None and poll.poll(seconds * 1000):
            event, fds = self.channel.receive()
            for fd in fds:  # it was started again
                os.close(fd)
            assert event is not None
            if event.kind != packets.STARTED:
                self.end = event
        return self.end is not None

    def close(self) -> None:
        """A follower ends: nothing to let go of."""

    def wait(self) -> packets.Event:
        """Wait for its end."""
        assert self._take(SECONDS), "it still runs"
        assert self.end is not None
        return self.end

    def kill(self, number: int = 9) -> None:
        self.channel.kill(number)

    def pid(self) -> int:
        info = Path(f"/proc/self/fdinfo/{self.pidfd}").read_text(encoding="ascii")
        return int(info.partition("\nPid:")[2].split()[0])

    def ask(self, kind: int) -> tuple[packets.Event, list[int]]:
        """Send a request about it; return the answer."""
        channel = ask(self.root, self.launcher_id, packets.request(kind, self.id))
        try:
            event, fds = channel.receive()
        finally:
            channel.close()
        assert event is not None
        return event, fds

    def attach(self) -> int:
        """Return a descriptor of its input."""
        event, fds = self.ask(packets.ATTACH)
        assert event.kind == packets.DONE, os.strerror(event.errnum)
        (fd,) = fds
        return fd

    def logs(self, **arguments: Any) -> Logs:
        return Logs(self.directory, **arguments)

    def follow(self, **arguments: Any) -> Logs:
        return Logs(self.directory, follow=self, **arguments)

    def text(self) -> str:
        with self.logs() as logs:
            return b"".join(entry.data for entry in logs).decode()


@contextmanager
def kept(
    engine: Engine,
    image: str,
    command: Command,
    before: Callable[[Path], object] | None = None,
    **options: Unpack[ContainerOptions],
) -> Iterator[Kept]:
    """A kept container that runs `command`; killed and removed at the end.

    `before`: given its directory before the start, as if it had run already.
    """
    with engine._startable(image, options, None) as what:
        launcher, facts = engine._runner.launcher()
        request = LaunchRequest(
            os.urandom(32).hex(),
            what.config,
            what._rootfs,
            command,
            options=options,
            ephemeral=False,
            kept=True,
            create=before is None,
            volatile=options.get("lifetime") != "detached",
        )
        if before is not None:
            directory = engine.root / "containers" / request.id
            directory.mkdir(mode=0o700)
            before(directory)
        channel = launcher.start(compile_plan(request, facts).encode(), ())
        container = Kept(engine.root, request.id, launcher.id, channel)
        try:
            yield container
        finally:
            container.kill()
            container.wait()
            channel.close()
            os.close(container.pidfd)
            remove_tree(container.directory)

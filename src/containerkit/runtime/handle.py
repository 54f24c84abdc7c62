"""What every handle of a container is: its identity, its live properties, its ``with`` block.

Owns: reading mark, record and row, and the way to the launcher that runs it.  Must not: change
anything (`verbs` does).  Neighbours: `container` puts verbs and the rest on top.

A handle holds no descriptor and no state of the container but what it has last seen of it; so it is
safe to use from several threads and, pickled as (root, id), from other processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from containerkit.errors import ContainerNotFound, InvalidStatus
from containerkit.runtime import codec, direct, marks, packets
from containerkit.runtime import status as words
from containerkit.runtime.alive import pid_of
from containerkit.state import record

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from containerkit.launch.execute import ExecBase
    from containerkit.model.exit import Exit
    from containerkit.model.info import ContainerConfig, ContainerInfo
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.records import Row
    from containerkit.runtime.status import Health, Status
    from containerkit.state.record import State


class Look(NamedTuple):
    """What a container is at one moment; ``alive`` is False when its launcher died under it."""

    status: Status
    state: State | None
    alive: bool

    @property
    def is_live(self) -> bool:
        """Whether something supervises it."""
        return self.status in words.LIVE


_GONE = Look("removed", None, alive=False)
_ENDED = (FileNotFoundError, ConnectionRefusedError, BrokenPipeError, ConnectionResetError)
"""How a launcher that has ended answers."""


class Handle:
    """The part of `Container` that looks.

    Args:
        keeper: of the engine.
        identity: of the container; it need not be there (any more).
        row: what is known of it.
        undo: what leaving a ``with`` block does; None: nothing.
    """

    __slots__ = ("__weakref__", "_execs", "_exit", "_keeper", "_row", "_undo", "id")

    id: str

    def __init__(
        self,
        keeper: Keeper,
        identity: str,
        *,
        row: Row | None = None,
        undo: Callable[[], object] | None = None,
    ) -> None:
        self.id = identity
        self._keeper = keeper
        self._row = row
        self._exit: Exit | None = None
        self._execs: tuple[int, ExecBase, str] | None = None  # see `Inside._inherited`
        self._undo = undo

    # ---- what it is

    @property
    def status(self) -> Status:
        """As it is now: created, running, paused, restarting, stopped or removed."""
        return self._look().status

    @property
    def name(self) -> str:
        """Its name; unique in the root, `rename` changes it."""
        return self._read_row().name

    @property
    def image(self) -> str:
        """What its image was called when it was created; "host" for the host's own programs."""
        return self._read_row().reference

    @property
    def image_digest(self) -> str:
        """Digest of the manifest of its image."""
        return self._read_row().image

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels: those of the image and its own."""
        found: Mapping[str, str] = codec.load(self._read_row().labels)
        return found

    @property
    def config(self) -> ContainerConfig:
        """What it was created with: command and options; `update` changes limits."""
        from containerkit.model.info import ContainerConfig

        row = self._read_row()
        if not row.config:  # seen in a list only
            raise ContainerNotFound(f"cannot find container {self.id[:12]}: it was removed")
        kept = codec.load_config(row.config)
        return ContainerConfig(
            image=row.reference, command=kept["command"], options=kept["options"]
        )

    @property
    def pid(self) -> int | None:
        """Its first process's id, as this process sees it; None when it does not run."""
        return self._read_pid()

    def _read_pid(self, deadline: float | None = None) -> int | None:
        pidfd = self._open_pidfd(deadline)
        if pidfd < 0:
            return None
        try:
            number = pid_of(pidfd)
        finally:
            os.close(pidfd)
        return number if number > 0 else None

    @property
    def exit(self) -> Exit | None:
        """How it ended last; None while it runs, and when it never did.

        Of one that was removed: as this handle saw it last; it is not read again.
        """
        look = self._look()
        if look.status != "removed" or look.state is not None:
            self._exit = words.exit_of(look.state, alive=look.alive)
        return self._exit

    @property
    def health(self) -> Health | None:
        """What its health check says: starting, healthy, unhealthy; None without one."""
        look = self._look()
        return words.health_of(look.state, alive=look.alive)

    @property
    def created(self) -> datetime:
        """When it was created."""
        found = words.time_of(self._read_row().created_ns)
        assert found is not None
        return found

    @property
    def started(self) -> datetime | None:
        """When it was started last; None for one that never was, or was removed."""
        state = self._look().state
        return None if state is None else words.time_of(state.started_ns)

    @property
    def finished(self) -> datetime | None:
        """When it ended last; None while it runs, when it never did, or was removed."""
        state = self._look().state
        return None if state is None else words.time_of(state.finished_ns)

    @property
    def restarts(self) -> int:
        """How often its restart policy has started it again since it was started."""
        state = self._look().state
        return 0 if state is None else state.restarts

    @property
    def ports(self) -> Mapping[str, tuple[str, int]]:
        """Where its published ports are: ("127.0.0.1", 8080) by "80/tcp"; empty without networks."""
        return {}

    @property
    def addresses(self) -> Mapping[str, str]:
        """Its own addresses by network; empty without networks."""
        return {}

    def inspect(self) -> ContainerInfo:
        """Return all of it as it is at one moment.

        Raises:
            ContainerNotFound: it was removed.
        """
        from containerkit.runtime.inspection import inspect

        return inspect(self)

    # ---- within

    def _called(self) -> str:
        """Return what messages call it: its name, where anybody knows it."""
        with contextlib.suppress(ContainerNotFound):
            return self._read_row().name
        return self.id[:12]

    def _read_state(self) -> State | None:
        """Return its record, which may be of a launcher that has died."""
        return record.read(f"{self._keeper.root}/containers/{self.id}")

    @property
    def _directory(self) -> Path:
        return self._keeper.directory(self.id)

    def _look(
        self,
        is_alive: Callable[[str], bool] | None = None,
        has_owner: Callable[[str], bool] | None = None,
    ) -> Look:
        """Look at record, launcher and mark; the mark last, for it goes first.

        What belonged to a launcher or a process that has died is removed, though its files wait for a
        recovery; if it still runs, that is about to be ended and told.

        Args:
            is_alive: says whether a launcher lives; who looks at many asks for each once.
            has_owner: says whether a launcher lives, and so does the process that it ends with.
        """
        is_alive = is_alive or self._keeper.is_alive
        has_owner = has_owner or self._keeper.has_owner
        directory = f"{self._keeper.root}/containers/{self.id}"

        def damaged() -> State | None:
            return direct.supervised(self._keeper.root, self._directory)

        state = record.read(directory, damaged=damaged)
        alive = True
        if state is not None and state.is_live and not is_alive(state.launcher):
            # One that ends by itself has written the end before.
            state = record.read(directory, damaged=damaged)
            alive = state is None or not state.is_live
        mark = marks.read(directory)
        if mark is None:
            return _GONE
        runs = alive and state is not None and state.is_live
        if not runs and marks.is_orphaned(directory, mark, state, has_owner):
            return Look("removed", state, alive=False)
        return Look(words.status_of(state, alive=alive), state, alive)

    def _read_row(self) -> Row:
        """Return its row, or the last one seen when it is gone.

        Raises:
            ContainerNotFound: it was removed before this handle saw any of it.
        """
        found = None if self._keeper.closed else self._keeper.records.get(self.id)
        if found is not None:
            self._row = found
        if self._row is None:
            raise ContainerNotFound(f"cannot find container {self.id[:12]}: it was removed")
        return self._row

    def _require(self, attempt: str, *allowed: Status) -> Look:
        """Look, and refuse what its status does not allow.

        Raises:
            InvalidStatus: it is in none of the allowed ones.
        """
        look = self._look()
        if look.status not in allowed:
            raise self._refusal(attempt, look.status, *allowed)
        return look

    def _refusal(self, attempt: str, status: Status, *allowed: Status) -> InvalidStatus:
        hint = None
        if attempt == "remove" and status in words.LIVE:
            hint = "remove(force=True) kills it first"
        elif status == "paused" and attempt != "pause":
            hint = "unpause it first"
        elif status in ("created", "stopped") and "running" in allowed:
            hint = "start it first"
        return InvalidStatus(
            f"cannot {attempt} container {self._called()}: it is {status}",
            hint=hint,
            status=status,
            allowed=allowed,
        )

    # ---- its launcher

    def _connect(
        self,
        kind: int,
        *,
        values: Sequence[int] = (),
        body: bytes = b"",
        fds: Sequence[int] = (),
        state: State | None = None,
    ) -> Channel:
        """Send a request to the launcher that runs it; return the channel, the caller's to close.

        Args:
            kind: a number of `packets`.
            values: up to four numbers, see `packets.request`.
            body: what follows the request.
            fds: descriptors that travel with it; they stay the caller's.
            state: its record, if it was read just now.

        Raises:
            InvalidStatus: nothing runs it.
            Timeout: its launcher takes no more connections.
        """
        from containerkit.runtime.channel import ask

        data = packets.request(kind, self.id, values=values, body=body)
        state = state or self._read_state()
        if state is not None and state.is_live:  # whether it really is, the launcher says
            with contextlib.suppress(*_ENDED):
                return ask(self._keeper.root, state.launcher, data, fds)
        look = self._require("reach", *words.LIVE)
        assert look.state is not None
        try:
            return ask(self._keeper.root, look.state.launcher, data, fds)
        except _ENDED:
            raise self._refusal("reach", "stopped", *words.LIVE) from None

    def _ask(
        self,
        kind: int,
        *,
        values: Sequence[int] = (),
        body: bytes = b"",
        fds: Sequence[int] = (),
        deadline: float | None = None,
    ) -> tuple[packets.Event | None, list[int]]:
        """Send a request as `_connect` does; return the answer and the descriptors with it.

        None: the launcher has ended, and the container with it.

        Raises:
            Timeout: it does not answer.

        Blocking: until the launcher has done what was asked; at most until *deadline*.
        """
        channel = self._connect(kind, values=values, body=body, fds=fds)
        try:
            return channel.answer(deadline)
        finally:
            channel.close()

    def _open_pidfd(self, deadline: float | None = None) -> int:
        """Return a pidfd of its first process, -1 when none runs; the caller's to close.

        The launcher is asked only where the kernel does not tell.
        """
        look = self._look()
        if not look.is_live or look.state is None:
            return -1
        pidfd = direct.open_first(self._keeper.root, look.state, self._directory)
        if pidfd >= 0 or direct.is_stopped(self._directory):
            return pidfd
        with contextlib.suppress(InvalidStatus):
            event, fds = self._ask(packets.WATCH, deadline=deadline)
            if event is not None and event.kind == packets.STARTED and fds:
                return fds[0]
            for fd in fds:
                os.close(fd)
        return -1

    # ---- identity

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Handle):
            return NotImplemented
        return (self._keeper.root, self.id) == (other._keeper.root, other.id)

    def __hash__(self) -> int:
        return hash((self._keeper.root, self.id))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._keeper.reopen, (str(self._keeper.root), self.id)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def __repr__(self) -> str:
        name = "" if self._row is None else f" {self._row.name}"
        return f"<Container{name} {self.id[:12]} {self.status}>"

    def _row_of_table(self) -> dict[str, object]:
        row = self._row
        if row is None:
            try:
                row = self._read_row()
            except ContainerNotFound:
                row = None
        return {
            "name": None if row is None else row.name,
            "id": self.id[:12],
            "image": None if row is None else row.reference,
            "status": self.status,
            "created": None if row is None else words.time_of(row.created_ns),
        }

    def _repr_html_(self) -> str:
        from containerkit.model import html

        return html.facts(self._row_of_table().items(), title="Container")

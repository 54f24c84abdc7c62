"""Start containers: a resolved image and options in, a running plan out.

Owns: the launcher of one engine in this process, and the descriptors of a start until they are
handed over.  Must not: look up images (`engine` does) or decide what a container gets (`launch`).
Flow: `engine` → here → `launch.compile` → `Launcher.start` → a channel, which `run` collects from
or a `Container` keeps.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from containerkit.errors import ConfigError, HostError
from containerkit.launch.compile import compile_plan
from containerkit.launch.request import HostFacts, LaunchRequest
from containerkit.model.exit import Exit
from containerkit.model.result import Result, Usage
from containerkit.runtime import facts, packets
from containerkit.runtime.failure import launch_error
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.recover import recover
from containerkit.runtime.rootfiles import accounts
from containerkit.stdio.collect import collect
from containerkit.stdio.waiting import drive

if TYPE_CHECKING:
    from containerkit.launch.plan import Input, Plan
    from containerkit.model.image_config import ImageConfig
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.rootfs import Rootfs
    from containerkit.stdio.entry import LogEntry

_TIMEOUT: Final = packets.CAUSES.index("timeout")

_living: weakref.WeakSet[Runner] = weakref.WeakSet()


class Startable(Protocol):
    """What can be started: an image with its files in place."""

    @property
    def digest(self) -> str:
        """What names it for ever."""

    @property
    def config(self) -> ImageConfig:
        """What it says of the process to start."""

    @property
    def rootfs(self) -> Rootfs:
        """Its files, as mounts."""


class Started(NamedTuple):
    """A start that the launcher has taken.

    Attributes:
        id: of the container.
        plan: what is being done.
        channel: where the launcher tells how it went; the caller's to close, which kills.
    """

    id: str
    plan: Plan
    channel: int


class Runner:
    """Starts containers of one root, from any thread.

    Args:
        root: the engine's root directory.
        netns_pool: network namespaces that the launcher keeps ready.
    """

    __slots__ = ("__weakref__", "_facts", "_guard", "_launcher", "_netns_pool", "_root")

    def __init__(self, root: Path, *, netns_pool: int) -> None:
        self._root = root
        self._netns_pool = netns_pool
        self._own_nothing()
        _living.add(self)

    def _own_nothing(self) -> None:
        """Begin without a launcher: at first, and in a forked child."""
        self._guard = threading.Lock()
        self._launcher: Launcher | None = None
        self._facts = HostFacts()

    def launcher(self) -> tuple[Launcher, HostFacts]:
        """Return this process's launcher, started when there is none or it has died."""
        with self._guard:
            if self._launcher is not None and not self._launcher.alive:
                self._bury(self._launcher)
            if self._launcher is None:
                self._launcher = Launcher(self._root, netns_pool=self._netns_pool)
                self._facts = facts.gather(self._launcher)
            return self._launcher, self._facts

    def _bury(self, dead: Launcher) -> None:
        """Forget a launcher that has died, and clear away what it could not; holds the guard."""
        if self._launcher is dead:
            self._launcher = None
            dead.close()
            recover(self._root)

    def close(self) -> None:
        """End the launcher and everything it runs; a later start begins with a new one."""
        with self._guard:
            launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.close()

    # ---- start

    def compile(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: tuple[str, ...],
        ephemeral: bool,
        container_id: str | None = None,
    ) -> tuple[str, Plan]:
        """Return the id and the plan of a container, without starting it."""
        _launcher, host = self.launcher()
        identity = container_id or os.urandom(32).hex()
        rootfs = image.rootfs
        files = accounts(self._root, rootfs)
        host_network = options.get("network") == "host"
        request = LaunchRequest(
            id=identity,
            image=image.config,
            rootfs=rootfs,
            command=command,
            options=options,
            passwd=files.passwd,
            group=files.group,
            file_sources=_files_among(options.get("mounts") or ()),
            streams=streams,
            ephemeral=ephemeral,
            hosts=_host_file("/etc/hosts") if host_network else None,
            resolv_conf=_host_file("/etc/resolv.conf") if host_network else None,
        )
        return identity, compile_plan(request, host)

    def start(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: Mapping[str, int],
        ephemeral: bool,
    ) -> Started:
        """Compile and start; the launcher takes copies of all descriptors.

        Args:
            image: what to start; its layers are leased by the caller.
            command: as `Engine.run` takes it.
            options: as the caller gave them.
            streams: descriptors for "stdin", "stdout", "stderr"; they stay the caller's to close.
            ephemeral: everything of it goes when it ends.

        Raises:
            ConfigError, MissingFeature, HostError: see `compile_plan`.
        """
        identity, plan = self.compile(
            image, command, options, streams=tuple(streams), ephemeral=ephemeral
        )
        data = plan.encode()
        opened: list[int] = []
        try:
            inputs = [
                streams[item.kind] if item.kind in streams else _open_input(item, options, opened)
                for item in plan.inputs
            ]
            launcher = self.launcher()[0]
            try:
                channel = launcher.start(data, inputs)
            except (BrokenPipeError, ConnectionResetError):  # it died since: once more, with a new
                with self._guard:  # its socket has closed, though its end may take a moment yet
                    self._bury(launcher)
                channel = self.launcher()[0].start(data, inputs)
        finally:
            for fd in opened:
                os.close(fd)
        return Started(identity, plan, channel)

    # ---- run

    def run(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        data: bytes | None,
        timeout: float | None,
        max_output: int | None,
        on_output: Callable[[LogEntry], object] | None,
    ) -> tuple[Result[bytes], bool]:
        """Start a container, wait until it and its directory are gone.

        Returns:
            What came of it, and whether *timeout* passed.
        """
        ours, theirs = _make_pipes(with_input=data is not None)
        try:
            started = self.start(image, command, options, streams=theirs, ephemeral=True)
        except BaseException:
            _close_all(ours.values())
            raise
        finally:
            _close_all(theirs.values())
        channel = started.channel
        try:
            collected = drive(
                collect(
                    exit_channel=channel,
                    stdin=ours.get("stdin"),
                    stdout=ours["stdout"],
                    stderr=ours["stderr"],
                    data=data or b"",
                    max_output=max_output,
                    on_output=on_output,
                    deadline=None if timeout is None else time.monotonic() + timeout,
                    kill=lambda: send_kill(channel, signal.SIGKILL, _TIMEOUT),
                )
            )
        finally:
            os.close(channel)  # whatever is still running is killed and removed
        event = packets.parse_event(collected.exit_packet or b"")
        if event is not None and event.kind == packets.FAILED:
            raise launch_error(started.plan, event)
        result = Result(
            stdout=collected.stdout,
            stderr=collected.stderr,
            exit=exit_of(event),
            truncated=collected.truncated,
            duration=duration_of(event),
            usage=usage_of(event),
            image_digest=image.digest,
            command=_shown(started.plan),
        )
        return result, collected.timed_out


# ---- events as values


def exit_of(event: packets.Event | None) -> Exit:
    """Return how a process ended; "lost" when its launcher died before telling."""
    if event is None or event.kind != packets.EXITED:
        return Exit(code=None, cause="lost")
    cause: Any = packets.CAUSES[min(event.cause, len(packets.CAUSES) - 1)]
    if event.signal:
        return Exit.by_signal(event.signal, cause=cause)
    return Exit(code=event.exit_code, cause=cause)


def duration_of(event: packets.Event | None) -> float:
    """Return the seconds from start to end."""
    return 0.0 if event is None else max(0, event.finished_ns - event.started_ns) / 1e9


def usage_of(event: packets.Event | None) -> Usage:
    """Return what it used."""
    if event is None:
        return Usage()
    return Usage(event.user_us / 1e6, event.system_us / 1e6, event.max_rss_kib * 1024)


def send_kill(channel: int, number: int, cause: int = 0) -> None:
    """Send a signal to the first process of the container behind *channel*."""
    try:
        os.write(channel, packets.packet(packets.KILL, value=cause << 16 | number))
    except (BrokenPipeError, ConnectionResetError):
        return  # it has ended, and its launcher has closed the channel


# ---- descriptors


def _make_pipes(*, with_input: bool) -> tuple[dict[str, int], dict[str, int]]:
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        if with_input:
            theirs["stdin"], ours["stdin"] = os.pipe()
        ours["stdout"], theirs["stdout"] = os.pipe()
        ours["stderr"], theirs["stderr"] = os.pipe()
    except OSError as error:
        _close_all((*ours.values(), *theirs.values()))
        raise HostError(
            f"cannot make pipes: {error.strerror}",
            errno=error.errno,
            hint="raise the limit of open files (ulimit -n)",
        ) from error
    return ours, theirs


def _close_all(fds: Any) -> None:
    for fd in fds:
        os.close(fd)


def _open_input(item: Input, options: ContainerOptions, opened: list[int]) -> int:
    """Open what a plan's slot wants of the host, and note it for closing."""
    if item.kind == "source":
        fd = _open_source(item.name, recursive=item.recursive)
    elif item.kind == "secret":
        fd = _open_secret(item.name, (options.get("secrets") or {})[item.name])
    else:
        raise ConfigError(f"cannot give the container its {item.kind}: it has none")
    opened.append(fd)
    return fd


def _open_source(path: str, *, recursive: bool) -> int:
    from containerkit import _native

    try:
        return _native.open_source(path, recursive=recursive)
    except HostError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ConfigError(
                f"cannot mount {path}: it does not exist",
                hint="make it first; containerkit does not make sources of mounts",
            ) from error
        raise


def _open_secret(name: str, value: bytes | str | Path) -> int:
    """A secret's content in memory: in no file, no plan and no environment."""
    if isinstance(value, Path):
        try:
            content = value.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read the secret {name} from {value}: {error.strerror}"
            ) from error
    else:
        content = value.encode() if isinstance(value, str) else bytes(value)
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    return fd


def _files_among(mounts: Sequence[Any]) -> frozenset[str]:
    return frozenset(
        mount.source for mount in mounts if mount.kind == "bind" and not os.path.isdir(mount.source)
    )


def _host_file(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _shown(plan: Plan) -> str:
    """The command of a plan, for messages."""
    import shlex

    argv = plan.child[-1].arena[1]
    return shlex.join(argv) if isinstance(argv, tuple) else ""


def _forked() -> None:
    for runner in _living:
        runner._own_nothing()


os.register_at_fork(after_in_child=_forked)

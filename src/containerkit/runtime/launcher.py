"""The launcher of this process and root: started on first use, spoken to by packets.

Owns: the launcher's life (spawn, set-up, end), its control socket, what a forked child does with
its copies.  Must not: know what a plan means.  Neighbours: `cgroups` makes the groups it works in,
`begin` and `running` send it plans and read its events.

Thread safety: a START is one packet of a SOCK_SEQPACKET socket and carries a channel of its own,
so any number of threads start and wait at the same time without a lock or a dispatcher.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import threading
import weakref
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from containerkit.errors import HostError, refusals
from containerkit.launch.reuse import UNCOMMON
from containerkit.runtime import cgroups, facts, home, packets
from containerkit.runtime.channel import Channel, is_untaken
from containerkit.runtime.recover import recover, write_record
from containerkit.state import forbidden, userns

PROGRAM: Final = Path(__file__).resolve().parent.parent / "ck-launcher"

_SETUP_STEPS: Final = (
    "read what it was told",
    "make its mounts private",
    "open the store",
    "make its root",
    "fill its templates",
    "enter its root",
    "mount its /proc",
    "open the store again",
    "claim its id",
)
_SILENT: Final = "cannot set up the launcher: it ended without a word"
_SETUP_SECONDS: Final = 30.0
_END_SECONDS: Final = 20.0
_F_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_F_SEAL_EXEC: Final = 0x20
_MFD_EXEC: Final = 0x10

_living: weakref.WeakSet[Launcher] = weakref.WeakSet()
_program_lock = threading.Lock()
_program_fd = -1
_program_made = 0


class Launcher:
    """A running launcher.

    Args:
        root: the engine's root directory.
        netns_pool: network namespaces it keeps ready.
        spares: 1 to keep a child parked for the next start, 0 not to.
        idle_ms: pause after which it prepares for the next start while containers still run.
        classic_overlay: mount as on kernels before 6.5, wherever it runs.
        detached: it is to outlive this process, after `leave`: its groups are outside of this
            process's own, where the host allows that.
        lone: it is for one container only.
        uncommon: those of `UNCOMMON` that its containers may have a group of.
        owner: what it ends with instead of this process: a descriptor that becomes readable or
            hangs up, such as the reading end of a FIFO; it stays the caller's to close.
        wait: whether to `await_ready` at once.

    Raises:
        PermissionDenied: the caller may not make namespaces.
        HostError: it could not be started or set up.

    Blocking: until it is set up, some milliseconds.
    """

    __slots__ = (
        "__weakref__",
        "_control",
        "_home",
        "_pidfd",
        "_ready",
        "_record",
        "bare",
        "features",
        "group",
        "id",
        "pid",
        "root",
        "version",
    )

    def __init__(
        self,
        root: Path,
        *,
        netns_pool: int = 16,
        spares: int = 1,
        idle_ms: int = 20,
        classic_overlay: bool = False,
        detached: bool = False,
        lone: bool = False,
        uncommon: Collection[str] = UNCOMMON,
        owner: int | None = None,
        wait: bool = True,
    ) -> None:
        self.id = os.urandom(12).hex()
        self._pidfd = self.pid = -1
        self._ready = False
        self.group = cgroups.NO_GROUP
        hierarchies = cgroups.find()
        self.version = hierarchies.version
        self.bare = userns.is_bare()
        planned = (
            () if self.bare else cgroups.planned_paths(hierarchies, self.id, detached=detached)
        )
        flags = packets.CLASSIC_OVERLAY if classic_overlay else 0
        flags |= packets.OUTSIDE if detached else 0
        flags |= packets.LONE if lone else 0
        flags |= packets.USER_MARKS if userns.marks() == "user" else 0
        if self.bare:
            flags, netns_pool, spares = flags | packets.BARE, 0, 0
        flags |= packets.SPARES if spares else 0
        self.root = root
        self._home = home.run_directory(root)
        self._control, theirs = _pair()
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as given:
            given.enter_context(theirs)
            undo.enter_context(self._control)
            self._record = write_record(root, self.id, planned, owned=owner is None)
            undo.callback(self._record.release, unlink=True)
            for path in planned:
                undo.callback(cgroups.remove_tree, path)
            undo.callback(self.close)
            listener, run = home.listen(root, self.id)
            given.enter_context(listener)
            given.callback(os.close, run)
            if not self.bare:
                self.group = cgroups.make_group(
                    hierarchies, self.id, detached=detached, uncommon=uncommon
                )
            for fd in self.group.fds:
                given.callback(os.close, fd)
            self._spawn(theirs.fileno())
            fds = (listener.fileno(), run)
            try:
                self._say_hello(owner, fds, netns_pool, idle_ms, flags)
            except ConnectionError as error:
                raise HostError(_SILENT) from error
            given.close()  # so that its end is seen
            _living.add(self)
            if wait:
                self.await_ready()
            undo.pop_all()

    def _spawn(self, control: int) -> None:
        from containerkit import _native

        within = _native.NO_NAMESPACES if self.bare else userns.namespace(self.root)
        program = _program()
        try:
            self.pid, self._pidfd = _native.spawn_launcher(program, control, within)
        except OSError as error:
            # before Linux 5.11 close_range(2) does not know the flag
            if error.errno == errno.ENOSYS or (
                error.errno == errno.EINVAL and facts.kernel() < (5, 11)
            ):
                raise forbidden.too_old("cannot start the launcher", error.errno) from error
            if error.errno != errno.EPERM:
                raise
            raise forbidden.refused(errno.EPERM) from error
        finally:
            os.close(program)

    @refusals("set up the launcher")
    def _say_hello(
        self,
        owner: int | None,
        home_fds: tuple[int, int],
        netns_pool: int,
        idle_ms: int,
        flags: int,
    ) -> None:
        status = os.stat(self.root)
        hello = packets.hello(
            launcher_id=self.id,
            controllers=self.group.names,
            n_common=sum(name not in (*UNCOMMON, cgroups.SHOWN) for name in self.group.names),
            root=os.fsencode(self.root),
            root_key=(status.st_dev, status.st_ino),
            netns_pool=netns_pool,
            idle_ms=idle_ms,
            flags=flags,
        )
        pidfd = os.pidfd_open(os.getpid())
        try:
            first = pidfd if owner is None else owner
            self._send(hello, (first, *home_fds, *self.group.fds))
        finally:
            os.close(pidfd)

    def await_ready(self) -> None:
        """Wait until it is set up, before it is asked for anything.

        Raises:
            HostError: it could not be set up; it is the caller's to close.
        """
        if self._ready:
            return
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._control.recv(4096) if poll.poll(_SETUP_SECONDS * 1000) else b""
        event = packets.parse_event(data)
        if event is None or event.kind != packets.READY:
            raise HostError(_SILENT)
        if event.errnum:
            step = _SETUP_STEPS[min(event.aux, len(_SETUP_STEPS) - 1)]
            raise forbidden.not_set_up(step, event.errnum)
        self._record.release()  # the launcher holds it by now
        self._ready = True

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        self._control.sendmsg(
            [data],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))],
            socket.MSG_NOSIGNAL,
        )

    @refusals("ask the launcher for a start")
    def start(self, plan: bytes, inputs: Sequence[int]) -> Channel:
        """Send a plan and its inputs; return the channel on which the launcher answers.

        Args:
            plan: encoded.
            inputs: descriptors for the plan's input slots; they stay the caller's to close.

        Raises:
            BrokenPipeError, ConnectionResetError: the launcher has died.
        """
        ours, theirs = _pair()
        try:
            with theirs:
                if len(plan) <= packets.PLAN_INLINE:
                    head = packets.packet(packets.START, size=len(plan))
                    self._send(head + plan, (theirs.fileno(), *inputs))
                else:
                    self._send_large(plan, (theirs.fileno(), *inputs))
        except BaseException:
            ours.close()
            raise
        return Channel(ours)

    def is_unheard(self) -> bool:
        """Whether it has not taken a request that this process sent: it may be stopped."""
        return is_untaken(self._control.fileno())

    @refusals("hand over a large plan")
    def _send_large(self, plan: bytes, fds: Sequence[int]) -> None:
        memfd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(memfd, "wb", closefd=False) as file:
                file.write(plan)
            fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _F_SEALS)
            self._send(packets.packet(packets.START, value=1), (*fds, memfd))
        finally:
            os.close(memfd)

    @refusals("let the launcher live on")
    def leave(self, *, owned: bool = False) -> None:
        """Let it live on without this process, until its last container has ended for good.

        Args:
            owned: it still ends with the *owner* that it was made with.

        Raises:
            BrokenPipeError, ConnectionResetError: it has died.
        """
        self._control.send(packets.packet(packets.LEAVE, value=int(owned)), socket.MSG_NOSIGNAL)
        _living.discard(self)
        self._abandon()

    @property
    def alive(self) -> bool:
        """Whether it runs, as the kernel says it; one that is about to be dead has hung up before."""
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._control, 0)
        return not poll.poll(0)

    def close(self) -> None:
        """End its containers and itself, and wait for that.

        Blocking: until every process of its containers is dead and its groups are removed; past
        20 s it is killed, and the kernel ends what is left of its containers with it.
        """
        _living.discard(self)
        pidfd, self._pidfd = self._pidfd, -1
        with self._control, contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # a forked child may have a copy
        if pidfd < 0:
            home.forget(self._home, self.id)
            return
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_END_SECONDS * 1000):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll.poll()
        if self.bare:  # it is the child of the first process here, which may be this one
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)
        for path in self.group.paths:  # what a container made in its own group
            cgroups.remove_tree(path)
        home.forget(self._home, self.id)
        self._record.release()
        if os.path.exists(f"{self.root}/owners/{self.id}"):  # it could not clear up after itself
            recover(self.root)

    def _abandon(self) -> None:
        """Forget the parent's launcher in a forked child: it is not this process's child."""
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


@refusals("make a socket for the launcher")
def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _abandon_all() -> None:
    global _program_lock
    _program_lock = threading.Lock()
    for launcher in list(_living):
        launcher._abandon()
    _living.clear()


os.register_at_fork(after_in_child=_abandon_all)


def _program() -> int:
    """Return a descriptor to execute the launcher from, the caller's to close: of a sealed copy in
    memory where possible, else of its file, on a read-only mount.

    So nothing that runs in a container can ever write to it (CVE-2019-5736).  A container whose root
    is the caller can change the mode of a copy that it was once executed from, where the kernel has
    no seal for that, and its owner: there is another one then.
    """
    global _program_fd, _program_made
    with _program_lock:
        if _program_fd >= 0 and os.fstat(_program_fd).st_ctime_ns != _program_made:
            os.close(_program_fd)
            _program_fd = -1
        if _program_fd < 0:
            _program_fd = _sealed_copy()
            _program_made = os.fstat(_program_fd).st_ctime_ns
        return os.dup(_program_fd)


@refusals("copy the launcher into memory")
def _sealed_copy() -> int:
    try:
        content = PROGRAM.read_bytes()
    except FileNotFoundError as error:
        raise HostError(
            f"cannot read the launcher {PROGRAM}: {error.strerror}",
            errno=error.errno,
            hint="the package was not built: pip install it, or run make dev in a checkout",
        ) from error
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    for extra in (_MFD_EXEC, 0):  # kernels before 6.3 do not know it and allow exec anyway
        try:
            fd = os.memfd_create("ck-launcher", flags | extra)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue
            break  # vm.memfd_noexec=2: what is made in spite of it is not executed
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(content)
            with contextlib.suppress(OSError):  # kernels before 6.3 do not know it
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _F_SEAL_EXEC)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _F_SEALS)
        except BaseException:
            os.close(fd)
            raise
        return fd
    from containerkit import _native

    with contextlib.suppress(HostError):
        return _native.open_source(str(PROGRAM), recursive=False, read_only=True)
    return os.open(PROGRAM, os.O_RDONLY | os.O_CLOEXEC)

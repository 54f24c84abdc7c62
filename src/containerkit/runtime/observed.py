"""What is seen of a container from outside: figures, processes, readiness, files, ports.

Owns the signatures and their text; each method is one call of the module that does it: `stats`,
`top`, `ready`, `files`, `changes`, `commit`, `export`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from containerkit.errors import InvalidStatus, NotPublished
from containerkit.runtime import nested, packets
from containerkit.runtime.inside import Inside
from containerkit.stdio.waiting import Waiting, drive

if TYPE_CHECKING:
    from os import PathLike
    from re import Pattern

    from containerkit.images.image import Image
    from containerkit.launch.plan import Plan
    from containerkit.model.options import Command
    from containerkit.model.reference import Reference
    from containerkit.model.stats import Stats, Task
    from containerkit.runtime.changes import Change
    from containerkit.runtime.files import Files
    from containerkit.runtime.stats import Watch
    from containerkit.runtime.watching import Watching

T = TypeVar("T")


class Observed(Inside):
    """The part of `Container` that is looked at."""

    __slots__ = ()

    def stats(self) -> Stats:
        """Return what it uses at this moment.

        Its ``cpus`` is None: that takes two readings, see `watch_stats` and `Stats.since`.

        Raises:
            InvalidStatus: it has no process.
        """
        from containerkit.runtime.stats import read_stats

        return self._look_at("read the statistics of", read_stats)

    def watch_stats(self, interval: float = 1.0) -> Watch:
        """Iterate over what it uses, one value an interval, until it ends; also a context manager.

        Args:
            interval: seconds between two; the first comes at once.  All but the first say how many
                processors were used since the one before.

        Raises:
            InvalidStatus: it does not run.
            ConfigError: the interval is none.
        """
        from containerkit.runtime.stats import Watch, read_stats

        nested.refuse(
            f"watch container {self.id[:12]}", "without control groups nothing is counted"
        )
        watching = self._watch("read the statistics of")
        return Watch(
            lambda: watching.look(read_stats), watching.until_ended, watching.close, interval
        )

    def top(self) -> tuple[Task, ...]:
        """Return its processes, the first one first; those that execs started are among them.

        Raises:
            InvalidStatus: it has no process.
        """
        from containerkit.runtime.top import read_tasks

        return self._look_at("list the processes of", read_tasks)

    def wait_ready(
        self,
        *,
        port: int | str | None = None,
        log: str | Pattern[str] | None = None,
        times: int = 1,
        http: str | None = None,
        command: Command | None = None,
        healthy: bool = False,
        timeout: float = 60,
        interval: float = 0.05,
    ) -> Self:
        """Wait until all that is given holds, and return itself.

        Args:
            port: somebody listens on it inside: 6379, "53/udp".
            log: a regular expression that is found in a line of its log since it started.
            times: in so many lines.
            http: an address inside that answers with a status below 400: an URL, ":8080/health",
                or "/health" beside ``port``.
            command: ends with code 0 when run inside; words, or one text for the shell.
            healthy: its health check says so.
            timeout: seconds for all of them; past them nothing is killed.
            interval: seconds between two looks, where the kernel does not tell.

        Raises:
            NotReady: it does not run, or ended meanwhile; told at once, with its last log lines.
            Timeout: one of them did not hold in time; the message says which, and why.
            ConfigError: nothing is given, or something without meaning.
            InvalidStatus: it was never started, or was removed.
        """
        return drive(
            self._waiting_ready(
                port=port, log=log, times=times, http=http, command=command, healthy=healthy,
                timeout=timeout, interval=interval,
            )
        )  # fmt: skip

    def _waiting_ready(self, **conditions: Any) -> Waiting[Self]:
        """Do `wait_ready`, in whichever face."""
        from containerkit.model.ready import Ready
        from containerkit.runtime.subject import ContainerSubject

        yield from ContainerSubject(self).ready(Ready(**conditions))
        return self

    def _watch(self, attempt: str) -> Watching:
        from containerkit.runtime.watching import Watching

        try:
            return Watching(self._connect(packets.WATCH))
        except InvalidStatus:
            raise self._refusal(attempt, self._look().status, "running", "paused") from None

    def _look_at(self, attempt: str, read: Callable[[int], T]) -> T:
        """Return what *read* tells of its first process."""
        from containerkit.runtime.watching import read_by

        nested.refuse(
            f"{attempt} container {self.id[:12]}", "without namespaces they are not told apart"
        )
        pidfd = self._open_pidfd()
        if pidfd >= 0:
            try:
                return read_by(pidfd, read)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
        raise self._refusal(attempt, self._look().status, "running", "paused")

    @property
    def files(self) -> Files:
        """Its files: read, written, copied, archived; whether it runs or not."""
        from containerkit.runtime.contents import ids_of, reach
        from containerkit.runtime.files import Files

        return Files(lambda: reach(self), lambda: ids_of(self))

    def diff(self) -> tuple[Change, ...]:
        """Return what it changed in its image's files, in the order of paths.

        It is frozen meanwhile, if it runs.  What is mounted over its root is not looked at.

        Raises:
            InvalidStatus: it was removed.
            FileError: something can not be read.
        """
        from containerkit.runtime.contents import diff

        return diff(self)

    def commit(
        self,
        reference: str | Reference | None = None,
        *,
        message: str = "",
        author: str = "",
        changes: str | Sequence[str] = (),
    ) -> Image:
        """Make an image of it: its image's layers, and one more of what it changed in its files.

        Of its options the image has environment, command, entrypoint, workdir, user, labels, stop signal
        and health check, as `docker commit` has them: so all of ``env`` is in it, for everybody who gets
        the image.  What must not be goes into ``secrets``, which are in no image.  What is mounted over
        its root is not in it: volumes, binds, /proc, /sys, /dev, /etc/hosts and the like.  Owners are
        as it sees them.  Sockets are left out.  If nothing changed, there is no new layer.

        It is frozen while its files are read, if it runs.

        Args:
            reference: the image's name, taken from whatever has it; None: it has none.
            message: what it is, for its history.
            author: whose it is.
            changes: instructions of a Dockerfile that change what the image says of the process, one
                each, or a text with one a line: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR,
                VOLUME, STOPSIGNAL, HEALTHCHECK.

        Raises:
            InvalidStatus: it was removed.
            InvalidReference: the name is none, or pinned.
            ConfigError: an instruction is none; or its image is the host's own files, which are in no
                layer.
            FileError: something can not be read, or be in a layer, as a file called ".wh.x".
            ArchiveError: it is more than `ImageLimits` let an image be.
            HostError: the disk is full or broken.

        Atomicity: the image is there whole or not at all; a killed process leaves nothing that ``gc``
        does not remove.
        """
        from containerkit.runtime.commit import commit

        return commit(self, reference, message=message, author=author, changes=changes)

    def export(
        self, file: str | PathLike[str] | IO[bytes], *, max_size: int | str | None = None
    ) -> None:
        """Write all its files as one tar, without what is mounted over its root.

        What is mounted there (/proc, /sys, /dev, mounts, single files) shows as the empty directory or
        file below.  The directories of the host image are its own: with them it is as large as they
        are.

        It is frozen meanwhile, if it runs, to the last byte: the tar is made while it is written, and
        holds its files as they were at one moment.  So a slow *file*, such as a pipe, holds it up.
        Without that, ``files.archive("/")`` gives them as they are when each is read.

        Args:
            file: open for writing bytes, or a path, which appears whole or not at all; of a killed
                process nothing stays, unless the file system can not make files without a name.
            max_size: bytes of content in all, holes included, or a size as "10GiB"; None: any.

        Raises:
            InvalidStatus: it was removed.
            FileError: something can not be read, or *file* not be written.
            FileTooLarge: it is more than *max_size*.
        """
        from containerkit.runtime.contents import export

        export(self, file, max_size)

    def address(self, port: int | str, *, network: str | None = None) -> tuple[str, int]:
        """Return where this process can connect to one of its ports: (host, port).

        Args:
            port: inside, as 6379 or "53/udp".
            network: whose address is wanted, of those it is in.

        Raises:
            NotPublished: it can not be reached from here.
            ConfigError: there is no such port.
        """
        from containerkit.model.ready import parse_port

        wanted = parse_port(port)
        if network in (None, "host") and self.config.options.get("network") == "host":
            return "127.0.0.1", wanted.number
        raise NotPublished(
            f"cannot reach port {wanted} of container {self._called()}: it has no network",
            hint='network="host" shares this host\'s',
        )

    def plan(self) -> Plan:
        """Return the plan that starting it follows; ``print(container.plan().explain())``."""
        return self._planned()

    def _planned(self, *, copied: bool = True) -> Plan:
        """Return its plan; *copied* False: from the image's own layers in any case."""
        from containerkit.runtime.birth import Kept

        kept = Kept.of(self._read_row())
        return self._keeper.runner.compile(
            kept,
            kept.command,
            kept.options,
            streams=(),
            ephemeral=False,
            container_id=self.id,
            copy="" if copied else None,
        )[1]

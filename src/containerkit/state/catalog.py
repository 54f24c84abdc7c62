"""The catalog: what Python changes about images, names, layers and leases, in one SQLite file.

Owns: connections, transactions, migrations, the check of on-disk formats.  Must not: hold queries
(the collections do) or keep a transaction open over a kernel call or a wait.
Neighbours: `images`, `snapshots`, later containers and networks, write their rows through it.

One connection a thread, opened on first use, so opening a root costs no SQLite.  After a fork the
child never touches the parent's connections, not even to close them: closing would undo, in shared
memory, what another thread of the parent may have been writing.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from containerkit.errors import ConfigError, CorruptContent, HostError, Timeout, refusals
from containerkit.state.forking import no_fork
from containerkit.state.headroom import Headroom
from containerkit.state.lock import FileLock
from containerkit.state.schema import MIGRATIONS, VERSION, statements
from containerkit.state.userns import marks

if TYPE_CHECKING:
    import sqlite3
    from types import TracebackType

Row = tuple[Any, ...]

# Readers and writers of other processes are waited for this long, in seconds: transactions hold no
# kernel call and no wait, so a second is already a sign of a stopped (SIGSTOP) writer.
BUSY_SECONDS: Final = 30.0
# Pages (of 4 KiB) that the write-ahead log may hold before a checkpoint folds them in.
_CHECKPOINT_PAGES = 1000


def own_formats() -> dict[str, str]:
    """Return the on-disk formats that depend on the kind of user.

    Root marks removed files as overlayfs does for root (trusted.* and device 0:0), others with
    user.* attributes; neither can use, or even see, the other's.
    """
    return {"whiteouts": marks()}


class _Connection:
    """One thread's connection and what it remembers."""

    __slots__ = ("__weakref__", "depth", "durable", "memo", "pid", "raw", "stamp")

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.pid = os.getpid()
        self.durable = False
        self.depth = 0
        self.memo: dict[Any, Any] = {}
        self.stamp: tuple[int, int] = (-1, -1)

    def __del__(self) -> None:
        # The thread ended.  A forked child's copy is not its own to close.
        if self.pid == os.getpid():
            with no_fork:
                self.raw.close()


_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
_abandoned: list[sqlite3.Connection] = []


class Catalog:
    """The catalog of one root; usable from every thread.

    Args:
        path: of the SQLite file; created on first use.
        formats: what this process writes beside it, kept when the file is made and compared ever
            after; None: those of this kind of user (``own_formats``).
    """

    __slots__ = ("_closed", "_formats", "_headroom", "_local", "_own", "_path", "_writes")

    def __init__(self, path: Path, *, formats: dict[str, str] | None = None) -> None:
        self._path = path
        self._headroom = Headroom(path.parent)
        self._formats = own_formats() if formats is None else dict(formats)
        self._local = threading.local()
        self._own: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._writes = 0
        self._closed = False

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one SELECT: one atomic look."""
        with self._translated("read"):
            return self._connection().raw.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Sequence[object] = ()) -> Row | None:
        """Return the first row, None when there is none."""
        with self._translated("read"):
            found: Row | None = self._connection().raw.execute(query, parameters).fetchone()
        return found

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read several times from one state of the catalog."""
        connection = self._connection()
        assert connection.depth == 0, "transactions do not nest"
        with self._translated("read"):
            try:  # around BEGIN too: an interrupt may come right after it
                connection.raw.execute("BEGIN")
                connection.depth = 1
                yield connection.raw
            finally:
                connection.depth = 0
                if connection.raw.in_transaction:
                    connection.raw.execute("ROLLBACK")

    @contextmanager
    def transaction(
        self, *, durable: bool = True, frees: bool = False
    ) -> Iterator[sqlite3.Connection]:
        """Write: everything inside happens, or nothing.

        Args:
            durable: whether leaving the block waits for the disk (acknowledged changes), or the
                change may be lost, whole, by a power cut.
            frees: it removes something, so it may use the headroom when the disk is full.

        Blocking: for other writers, at most ``BUSY_SECONDS``.

        Raises:
            Timeout: another process kept writing.
            HostError: the disk is full or broken.
        """
        connection = self._connection()
        assert connection.depth == 0, "transactions do not nest"
        if frees and self._headroom.is_wanted():
            self._headroom.give_all()
        with self._translated("write"):
            if connection.durable != durable:
                # Not allowed inside a transaction.
                connection.raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                connection.durable = durable
            try:  # around BEGIN too: an interrupt may come right after it
                connection.raw.execute("BEGIN IMMEDIATE")
                connection.depth = 1
                yield connection.raw
                connection.raw.execute("COMMIT")
            except BaseException:
                if connection.raw.in_transaction:
                    connection.raw.execute("ROLLBACK")
                raise
            finally:
                connection.depth = 0
        self._writes += 1

    def memo(self) -> dict[Any, Any]:
        """Return this thread's cache of things read from the catalog; empty after any change.

        ``PRAGMA data_version`` sees the commits of other connections, a counter those of ours.
        """
        with self._translated("read"):
            connection = self._connection()
            version = connection.raw.execute("PRAGMA data_version").fetchone()[0]
        stamp = (version, self._writes)
        if connection.stamp != stamp:
            connection.memo = {}
            connection.stamp = stamp
        return connection.memo

    def tidy(self) -> None:
        """Fold a long write-ahead log into the file, and set headroom aside again.

        Neither waits for others; both are left for another time when the disk is full.
        """
        with contextlib.suppress(HostError, FileNotFoundError), self._translated("checkpoint"):
            if Path(f"{self._path}-wal").stat().st_size > _CHECKPOINT_PAGES * 4096:
                self._connection().raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._headroom.keep()

    def close(self) -> None:
        """Close the connections of all threads; using the catalog afterwards raises."""
        self._closed = True
        for connection in list(self._own):
            if connection.pid == os.getpid():
                with no_fork:
                    connection.raw.close()
        self._local = threading.local()

    def _connection(self) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.pid == os.getpid():
            return connection
        if self._closed:
            raise ConfigError("cannot use the catalog: its engine is closed")
        connection = _Connection(self._open_with_room())
        self._local.connection = connection
        self._own.add(connection)
        _connections.add(connection)
        return connection

    def _open_with_room(self) -> sqlite3.Connection:
        """Open it, on a full disk with the room that is set aside for that."""
        while True:
            try:
                raw = self._open()
                self._headroom.keep()
                return raw
            except HostError:
                with refusals("give up what is set aside in the root"):
                    if not (self._headroom.is_wanted() and self._headroom.give()):
                        raise

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        with self._translated("open"):
            raw = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                raw.execute("PRAGMA foreign_keys=ON")
                version = raw.execute("PRAGMA user_version").fetchone()[0]
                if version < VERSION:
                    self._migrate(raw)
                elif version > VERSION:
                    raise ConfigError(
                        f"cannot open {self._path.name}: schema {version}, this is {VERSION}",
                        hint="a newer containerkit made it; upgrade this one",
                    )
                # Checkpoints are ours to place: an automatic one would hit a container's start.
                raw.execute("PRAGMA wal_autocheckpoint=0")
                raw.execute("PRAGMA synchronous=NORMAL")
                self._check_formats(raw)
            except BaseException:
                raw.close()
                raise
        return raw

    def _migrate(self, raw: sqlite3.Connection) -> None:
        # SQLite does not wait for others while it switches to WAL (it says "locked" at once), so
        # the first openers of a root queue here.
        lock = FileLock(self._path.with_name(".migrate"))
        with lock.holding(deadline=time.monotonic() + BUSY_SECONDS):
            self._headroom.keep()
            raw.execute("PRAGMA journal_mode=WAL").fetchone()
            raw.execute("PRAGMA synchronous=FULL")
            raw.execute("BEGIN IMMEDIATE")
            try:
                version = raw.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    self._refuse_an_emptied_one()
                for script in MIGRATIONS[version:]:
                    for statement in statements(script):
                        raw.execute(statement)
                if version == 0:
                    raw.executemany("INSERT INTO format VALUES (?, ?)", self._formats.items())
                raw.execute(f"PRAGMA user_version={VERSION}")
                raw.execute("COMMIT")
            except BaseException:
                raw.execute("ROLLBACK")
                raise

    def _refuse_an_emptied_one(self) -> None:
        """Layers are unpacked only once the catalog is there."""
        layers = self._path.with_name("layers")
        if layers.is_dir() and any(name[0] != "." for name in os.listdir(layers)):
            raise CorruptContent(
                f"cannot open {self._path}: it is empty or new, and the root has layers",
                hint="put back a copy of it, or move the root away",
            )

    def _check_formats(self, raw: sqlite3.Connection) -> None:
        kept = dict(raw.execute("SELECT key, value FROM format").fetchall())
        for key, value in self._formats.items():
            if kept.get(key) != value:
                raise ConfigError(
                    f"cannot open {self._path.parent}: its {key} are {kept.get(key)!r},"
                    f" this process writes {value!r}",
                    hint="root and ordinary users need roots of their own",
                )

    def _translated(self, attempt: str) -> _Translated:
        return _Translated(f"cannot {attempt} {self._path}")


class _Translated:
    """A block in which no fork happens and SQLite's errors become ours; only this knows them."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        no_fork.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        no_fork.__exit__(kind, error, trace)
        if error is None:
            return False
        import sqlite3

        ours = self._ours(error) if isinstance(error, sqlite3.Error) else None
        try:
            if ours is not None:
                raise ours from error
        finally:
            del ours  # it holds this frame alive, and its cause the connection
        return False

    def _ours(self, error: sqlite3.Error) -> Exception | None:
        name = getattr(error, "sqlite_errorname", "") or ""
        what = f"{self._attempt}: {error}"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Timeout(what, hint="another process holds it; is one stopped?")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return CorruptContent(what)
        if name == "SQLITE_FULL":
            return HostError(what, errno=errno.ENOSPC, hint="free some space")
        if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            return HostError(what, errno=errno.EIO, hint="is the disk full, broken or read-only?")
        return None


def _abandon_connections() -> None:
    for connection in list(_connections):
        _abandoned.append(connection.raw)
    _connections.clear()


def _leak_abandoned() -> None:
    """Keep the parent's connections from being closed while a forked child shuts down."""
    if _abandoned:
        import ctypes

        for raw in _abandoned:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))


os.register_at_fork(after_in_child=_abandon_connections)
atexit.register(_leak_abandoned)

"""The root directory of an engine: where it is, who may use it, what lies where.

Owns: making and checking the directory, the names of its parts.
Must not: open the catalog or read content.  Neighbours: `engine` opens it first and hands it to
the catalog, `content` and `snapshots`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from functools import cache
from pathlib import Path
from typing import Final

from containerkit.errors import ConfigError, HostError, MissingFeature, PermissionDenied, refusals
from containerkit.state.atomic import make_directories
from containerkit.state.lock import FileLock
from containerkit.state.procstatus import status_of

# flock, rename and SQLite's shared memory hold between processes of one host only; on these file
# systems several hosts see the files, and the locks of some do not reach the others.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "coda", "fuse.sshfs"}
)
_PARTS: Final = (
    "blobs",
    "blobs/sha256",
    "ingest",
    "layers",
    "host",
    "containers",
    "volumes",
    "owners",
)
_TELLING: Final = frozenset({"blobs", "layers", "containers"})
"""Parts of every root there ever was."""
_OF_A_MOUNT: Final = frozenset({"lost+found"})
_MODE: Final = 0o700
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


class StoreRoot:
    """An opened root directory.

    Attributes:
        path: absolute, symbolic links resolved.
    """

    __slots__ = ("path",)

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> StoreRoot:
        """Open the root directory, creating it with mode 0700 where it is missing.

        Args:
            path: None: ``default_root()``.

        Raises:
            PermissionDenied: it or a part of it belongs to another user, other users may have written
                there, or it can not be made.
            MissingFeature: it is on a network file system.
            ConfigError: the path names something else than a directory, or one that others use; or this
                process has a umask that keeps itself out.
        """
        if path is not None and not os.fspath(path):
            raise ConfigError("cannot open root '': the path is empty", hint="name a directory")
        wanted = default_root() if path is None else Path(os.path.abspath(os.fspath(path)))
        _check_umask()
        try:
            make_directories(wanted.parent, 0o755)
            _make_directory(wanted)
            fd = os.open(wanted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError) as e:
            raise ConfigError(f"cannot open root {wanted}: it is not a directory") from e
        except OSError as e:
            kind = PermissionDenied if isinstance(e, PermissionError) else HostError
            raise kind(
                f"cannot open root {wanted}: {e.strerror}",
                errno=e.errno,
                hint="name another directory, or set CONTAINERKIT_ROOT",
            ) from e
        try:
            _close_to_others(fd, wanted)
            check_file_system(file_system_of(fd), wanted)
            with refusals(f"open root {wanted}"):
                for part in _PARTS:
                    _make_part(part, fd, wanted)
        finally:
            os.close(fd)
        return cls(wanted.resolve())

    @property
    def catalog(self) -> Path:
        """The SQLite file; nothing but sqlite3 may ever open it."""
        return self.path / "catalog.sqlite"

    @property
    def ingest(self) -> Path:
        """Partial downloads, and the liveness files of running pulls."""
        return self.path / "ingest"

    @property
    def layers(self) -> Path:
        """Unpacked trees by ChainID."""
        return self.path / "layers"

    def sweep_lock(self, *, shared: bool) -> FileLock:
        """Return the lock that keeps marking roots apart from removing what has none.

        Shared: about to name new roots.  Exclusive: the garbage collector, while it decides and
        renames.  Held for milliseconds, never while downloading, unpacking or deleting.
        """
        return FileLock(self.path / ".sweep", shared=shared)


def default_root() -> Path:
    """Return where the store is when nobody says: ``$CONTAINERKIT_ROOT``, else by user.

    Raises:
        ConfigError: this user has no home directory.
    """
    if named := os.environ.get("CONTAINERKIT_ROOT"):
        return Path(os.path.abspath(named))
    if os.geteuid() == 0:
        return Path("/var/lib/containerkit")
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # to be ignored (XDG Base Directory Specification)
        data = f"{_home()}/.local/share"
    return Path(os.path.abspath(data)) / "containerkit"


def _home() -> str:
    import pwd

    home = os.environ.get("HOME", "")
    with contextlib.suppress(KeyError):
        home = home if os.path.isabs(home) else pwd.getpwuid(os.getuid()).pw_dir
    if not os.path.isabs(home):
        raise ConfigError(
            f"cannot find the root directory of user {os.getuid()}: it has no home directory",
            hint="set CONTAINERKIT_ROOT, or name a directory",
        )
    return home


@cache
@refusals("tell this boot of the host from others")
def boot_id() -> str:
    """Return what tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def file_system_of(fd: int) -> str | None:
    """Return the type of the file system that an open file is on, None when /proc hides it.

    By mount id: device numbers do not name the mount on btrfs, and statfs(2) has no Python face.
    """
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="utf-8")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return file_system_type(fields.get("mnt_id", "").strip(), mounts)


def file_system_type(mount_id: str, mountinfo: str) -> str | None:
    """Return the type of mount *mount_id* in the text of a mountinfo file.

    Spec: proc_pid_mountinfo(5): the type follows the field that is a single hyphen.
    """
    for line in mountinfo.split("\n"):
        head, separator, tail = line.partition(" - ")
        if separator and head.split(" ", 1)[0] == mount_id:
            return tail.split(" ", 1)[0]
    return None


def check_file_system(kind: str | None, path: Path) -> None:
    """Refuse file systems whose locks other hosts do not see.

    Raises:
        MissingFeature: *kind* is a network file system.
    """
    if kind in NETWORK_FILE_SYSTEMS:
        raise MissingFeature(
            f"cannot open root {path}: {kind} is a network file system, its locks do not hold",
            feature="local file system",
            hint="put the root on a local disk",
        )


def _check_umask() -> None:
    """Refuse to make what this process could not open again.  Root can open anything."""
    if os.geteuid() == 0:
        return
    # umask(2) would change it, for all threads, to tell it.
    with contextlib.suppress(OSError):
        umask = int(status_of().get("Umask", "0"), 8)
        if umask & stat.S_IRWXU:
            raise ConfigError(
                f"cannot open a root with the umask {umask:04o}: it takes from new files what their"
                " owner may do",
                hint="os.umask(0o077) first",
            )


def _make_directory(path: Path) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise


def _make_part(part: str, root: int, path: Path) -> None:
    try:
        os.mkdir(part, 0o700, dir_fd=root)
    except FileExistsError:
        status = os.stat(part, dir_fd=root, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(
                f"cannot open root {path}: {part} in it is not a directory",
                hint="what is to lie elsewhere can be mounted there, not linked",
            ) from None
        # What lies there is removed, executed and believed: nobody else may have put it there.
        _check_owner(status, path / part)
        if status.st_mode & _WRITABLE:
            raise _writable(path / part) from None


def _close_to_others(fd: int, path: Path) -> None:
    """See that nobody else reaches what is in a root: layers hold set-user-id files.

    Raises:
        PermissionDenied: it belongs to somebody else, or others may have written there already.
        ConfigError: it is open to others, and holds something else than a root.
    """
    status = os.fstat(fd)
    _check_owner(status, path)
    if stat.S_IMODE(status.st_mode) == _MODE:
        return
    there = set(os.listdir(fd)) - _OF_A_MOUNT
    if there and status.st_mode & _WRITABLE:
        raise _writable(path)
    if there and not there >= _TELLING:
        raise ConfigError(
            f"cannot open root {path}: it holds something else, and would be closed to others",
            hint="name a directory that is empty or not there",
        )
    os.fchmod(fd, _MODE)
    if not there and set(os.listdir(fd)) - _OF_A_MOUNT:  # somebody was quicker
        raise _writable(path)


def _check_owner(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionDenied(
            f"cannot open {path}: it belongs to user {status.st_uid}, this is {os.geteuid()}",
            hint="each user has a root directory of its own",
        )


def _writable(path: Path) -> PermissionDenied:
    return PermissionDenied(
        f"cannot open {path}: other users may write there, and it is not empty",
        hint="if what is in it is to be trusted: chmod 700",
    )

"""The files of a container, in the asyncio face: `Container.files`.

Owns nothing: every call is the blocking one, in a thread of the engine.  A cancelled copy ends after
the file that it is at, and leaves a part, as one that fails.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO, overload

from containerkit.aio.face import face_of
from containerkit.runtime import files as blocking
from containerkit.runtime.whole import ROOT_OWNER, WHOLE

if TYPE_CHECKING:
    from containerkit.runtime.archive import TarStream
    from containerkit.runtime.copies import Copied, Owner
    from containerkit.runtime.extract import Tar
    from containerkit.runtime.fileinfo import FileInfo
    from containerkit.runtime.files import StrPath, _Binary, _Text
    from containerkit.stdio.threads import Workers


@face_of(blocking.Files)
class Files:
    """Reads and writes the files of one container."""

    __slots__ = ("_core", "_workers")

    def __init__(self, core: blocking.Files, workers: Workers) -> None:
        self._core = core
        self._workers = workers

    # ---- content

    async def read_bytes(self, path: StrPath, *, max_size: int | str | None = WHOLE) -> bytes:
        """Return the content of a file."""
        return await self._workers.call(lambda: self._core.read_bytes(path, max_size=max_size))

    async def read_text(
        self,
        path: StrPath,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        max_size: int | str | None = WHOLE,
    ) -> str:
        """Return the content of a file as text; arguments as `read_bytes` and `bytes.decode`."""
        return await self._workers.call(
            lambda: self._core.read_text(path, encoding=encoding, errors=errors, max_size=max_size)
        )

    async def write_bytes(
        self,
        path: StrPath,
        data: bytes | bytearray | memoryview,
        *,
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write a file, new or replaced as a whole."""
        await self._workers.call(lambda: self._core.write_bytes(path, data, mode=mode, owner=owner))

    async def write_text(
        self,
        path: StrPath,
        text: str,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write text to a file; arguments as `write_bytes` and `str.encode`."""
        await self._workers.call(
            lambda: self._core.write_text(
                path, text, encoding=encoding, errors=errors, mode=mode, owner=owner
            )
        )

    @overload
    async def open(self, path: StrPath, mode: _Binary, *, buffering: int = -1) -> BinaryIO: ...

    @overload
    async def open(
        self,
        path: StrPath,
        mode: _Text = "r",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIO: ...

    async def open(
        self,
        path: StrPath,
        mode: _Binary | _Text = "r",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the builtin `open` does; text is UTF-8 unless said otherwise."""
        opened: Any = self._core.open

        def work() -> IO[Any]:
            file: IO[Any] = opened(
                path,
                mode,
                buffering=buffering,
                encoding=encoding,
                errors=errors,
                newline=newline,
            )
            return file

        return await self._workers.call(work, undo=lambda file: file.close())

    # ---- names

    async def list(self, path: StrPath = "/") -> tuple[FileInfo, ...]:
        """Return what is in a directory, by name; links as links."""
        return await self._workers.call(lambda: self._core.list(path))

    async def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> FileInfo:
        """Return what is known of a file."""
        return await self._workers.call(
            lambda: self._core.stat(path, follow_symlinks=follow_symlinks)
        )

    async def exists(self, path: StrPath) -> bool:
        """Return whether there is something, at the end of all links."""
        return await self._workers.call(lambda: self._core.exists(path))

    async def mkdir(
        self,
        path: StrPath,
        *,
        mode: int = 0o755,
        parents: bool = False,
        exist_ok: bool = False,
        owner: tuple[int, int] = ROOT_OWNER,
    ) -> None:
        """Make a directory."""
        await self._workers.call(
            lambda: self._core.mkdir(
                path, mode=mode, parents=parents, exist_ok=exist_ok, owner=owner
            )
        )

    async def remove(
        self, path: StrPath, *, recursive: bool = False, missing_ok: bool = False
    ) -> None:
        """Remove a file, link or empty directory."""
        await self._workers.call(
            lambda: self._core.remove(path, recursive=recursive, missing_ok=missing_ok)
        )

    async def rename(self, old: StrPath, new: StrPath) -> None:
        """Rename a file or directory, replacing a file, or an empty directory, of the new name."""
        await self._workers.call(lambda: self._core.rename(old, new))

    # ---- copies

    async def get(
        self,
        remote: StrPath,
        local: StrPath,
        *,
        owner: Owner = None,
        max_size: int | str | None = None,
    ) -> Copied:
        """Copy a file or tree out of the container, as ``docker cp`` does."""
        return await self._workers.call(
            lambda: self._core.get(remote, local, owner=owner, max_size=max_size)
        )

    async def put(
        self,
        local: StrPath,
        remote: StrPath,
        *,
        owner: Owner = ROOT_OWNER,
        max_size: int | str | None = None,
    ) -> Copied:
        """Copy a file or tree into the container, as ``docker cp`` does; see `get`."""
        return await self._workers.call(
            lambda: self._core.put(local, remote, owner=owner, max_size=max_size)
        )

    # ---- tars

    async def archive(self, path: StrPath, *, max_size: int | str | None = None) -> TarStream:
        """Return a tar of a file or tree, made while it is read."""
        return await self._workers.call(
            lambda: self._core.archive(path, max_size=max_size), undo=lambda stream: stream.close()
        )

    async def extract(
        self,
        path: StrPath,
        tar: Tar,
        *,
        owner: Owner = "keep",
        max_size: int | str | None = None,
    ) -> Copied:
        """Extract a tar into a directory of the container."""
        return await self._workers.call(
            lambda: self._core.extract(path, tar, owner=owner, max_size=max_size)
        )

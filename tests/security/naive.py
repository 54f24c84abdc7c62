"""A tar extractor with every mistake in the book: the control of the tests of hostile layers.

An attack that does not hurt this one would prove nothing about ours.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def extract(data: bytes, destination: Path) -> None:
    """Trust every path: join strings, follow links, remove what a whiteout names."""
    times: list[tuple[str, float]] = []
    with tarfile.open(fileobj=io.BytesIO(data), format=tarfile.PAX_FORMAT) as archive:
        for member in archive:
            path = os.path.normpath(os.path.join(destination, member.name))
            if "/.wh" in member.name or member.name.startswith(WHITEOUT):
                path = os.path.join(destination, member.name)
            with suppress(OSError):
                _one(archive, member, path, destination)
            if member.isdir():
                times.append((path, member.mtime))
    for path, mtime in times:
        with suppress(OSError):
            os.utime(path, (mtime, mtime))


def _one(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, destination: Path) -> None:
    name = os.path.basename(path)
    if name == OPAQUE:
        for inside in os.listdir(os.path.dirname(path)):
            _remove(os.path.join(os.path.dirname(path), inside))
    elif name.startswith(WHITEOUT):
        _remove(os.path.join(os.path.dirname(path), name.removeprefix(WHITEOUT)))
    elif member.isdir():
        os.makedirs(path, exist_ok=True)
        os.chmod(path, member.mode)
    elif member.issym():
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        os.symlink(member.linkname, path)
    elif member.islnk():
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        os.link(os.path.join(destination, member.linkname), path, follow_symlinks=False)
    else:
        content = archive.extractfile(member)
        assert content is not None
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.read())


def _remove(path: str) -> None:
    path = os.path.realpath(path) if os.path.basename(path) in {".", ".."} else path
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)

"""All files of a container as one tar: `Container.export`.

Owns: what of the root belongs to it.  What is mounted over it (/proc, /sys, /dev, volumes, single
files) shows as the empty directory or file it is mounted on, as in Docker's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from containerkit.runtime.archive import tar_pieces
from containerkit.runtime.beneath import DIRECTORY, attempt, closing

if TYPE_CHECKING:
    from containerkit.runtime.rootplan import RootPlan

Sink = str | os.PathLike[str] | IO[bytes]


def export_to(file: Sink, root: int, plan: RootPlan) -> None:
    """Write the tar of a root file system.

    Args:
        file: open for writing bytes, or a path: it appears whole or not at all.
        root: a descriptor of the root.
        plan: of the container.

    Raises:
        FileError: something can not be read, or *file* not written.
    """
    mounted = frozenset(path.strip("/") for path in plan.mounted)
    pieces = tar_pieces(root, "", skip=mounted.__contains__, empty=mounted.__contains__)
    with contextlib.closing(pieces):
        _write(file, pieces)


def _write(file: Sink, pieces: Iterable[bytes]) -> None:
    if not isinstance(file, str | os.PathLike):
        with attempt("export", "/"):
            for piece in pieces:
                file.write(piece)
        return
    path = os.path.abspath(os.fspath(file))
    aside = f"{path}.{os.getpid()}.part"
    with attempt("export to", path), closing(os.open(os.path.dirname(path), DIRECTORY)):
        try:
            with open(aside, "wb") as out:
                for piece in pieces:
                    out.write(piece)
            os.rename(aside, path)
        except BaseException:
            if os.path.exists(aside):
                os.unlink(aside)
            raise

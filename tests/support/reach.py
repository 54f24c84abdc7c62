"""A plain directory as if it were the root of a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from containerkit.runtime.files import Files


def files_in(directory: Path) -> Files:
    """Treat a directory as the root of a container."""

    @contextmanager
    def reach() -> Iterator[int]:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    return Files(reach)

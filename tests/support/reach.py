"""Ways to a `Files`: of a running container, of a plain directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import containerkit as ck
from containerkit.runtime.contents import root_of
from containerkit.runtime.files import Files


def ended() -> AbstractContextManager[int]:
    raise AssertionError("the container has ended")


def files_of(container: ck.Container) -> Files:
    return Files(lambda: root_of(lambda: container.pid, ended))


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

"""Where a Python lives: what a host image must hold for it to run.

Owns: the facts, and the names of directories that follow from them.  Must not: decide how they get
into an image (`host_layout` does).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple


class PythonFacts(NamedTuple):
    """Where a Python lives.  All paths are absolute and may go through links."""

    prefix: str
    base_prefix: str
    exec_prefix: str
    base_exec_prefix: str
    stdlib: str
    executables: tuple[str, ...]
    """The interpreter, and that of the base of a virtual environment."""

    @classmethod
    def running(cls) -> PythonFacts:
        """Return the facts of the interpreter that runs this."""
        base_executable: str = getattr(sys, "_base_executable", "") or ""
        names = (sys.executable or "", base_executable)
        return cls(
            sys.prefix,
            sys.base_prefix,
            sys.exec_prefix,
            sys.base_exec_prefix,
            os.path.dirname(os.__file__),
            tuple(dict.fromkeys(name for name in names if os.path.isabs(name))),
        )

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every prefix once: a virtual environment's before its base's."""
        return tuple(
            dict.fromkeys((self.prefix, self.exec_prefix, self.base_prefix, self.base_exec_prefix))
        )

    @property
    def programs(self) -> tuple[str, ...]:
        """The directories of the interpreter's commands, for PATH."""
        directories = [os.path.dirname(executable) for executable in self.executables]
        directories += [os.path.join(prefix, "bin") for prefix in self.prefixes]
        return tuple(dict.fromkeys(d for d in directories if os.path.isdir(d)))

    def site_packages(self) -> Iterator[str]:
        """Yield every directory that `site` may add for this Python, whether it exists or not.

        Debian names them dist-packages, and its own Python has one more under /usr/local.
        """
        version = os.path.basename(self.stdlib)  # "python3.13", or "python3.13t"
        prefixes = (*self.prefixes, "/usr/local") if "/usr" in self.prefixes else self.prefixes
        for prefix in prefixes:
            for library in ("lib", "lib64"):
                for name in ("site-packages", "dist-packages"):
                    yield os.path.join(prefix, library, version, name)
                    yield os.path.join(prefix, library, "python3", name)

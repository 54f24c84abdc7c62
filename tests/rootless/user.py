"""An ordinary user for tests: `python -m tests.rootless.user [--ids] PROGRAM ...`, run by root.

Owns: a private mount namespace in which a user of no rights may reach the interpreter and this
repository, wherever they are (a 0700 home, say), has a home of its own, and, with ``--ids``, ranges
of subordinate ids; then the program, as that user.  Nothing of the host is changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

UID: Final = 61234
NAME: Final = "ck-test-user"
RANGE: Final = (2_000_000_000, 65536)
"""The subordinate ids that are granted: first, how many."""

REPOSITORY: Final = Path(__file__).resolve().parents[2]


ASKED: Final = "CONTAINERKIT_TEST_ORDINARY"
"""Set in the environment of an ordinary user who runs `make test-rootless`."""


def is_ours() -> bool:
    """Return whether this process is the user, or another one that is to be tested as."""
    return os.geteuid() == UID or bool(os.geteuid() and os.environ.get(ASKED))


def has_ids() -> bool:
    """Return whether this process is such a user, with subordinate ids."""
    from containerkit.state import userns

    return is_ours() and userns.granted() is not None


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def wanted() -> set[Path]:
    """Return the directories that the user must be able to enter."""
    found = {REPOSITORY, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    executable = Path(sys.executable)
    while executable.is_symlink():
        executable = executable.parent / os.readlink(executable)
        found.add(executable.parent)
    return found


def closed(path: Path) -> Path | None:
    """Return the topmost directory on the way to a path that other users may not enter."""
    for directory in (*reversed(path.parents), path):
        if directory.stat().st_mode & 0o005 != 0o005:
            return directory
    return None


def open_ways(paths: Iterable[Path], scratch: Path) -> None:
    """Cover what others may not enter by directories with nothing but the ways to *paths*."""
    covers: dict[Path, list[Path]] = {}
    for path in sorted(paths):
        cover = closed(path)
        if cover is not None:
            covers.setdefault(cover, []).append(path)
    for cover, below in covers.items():
        aside: list[tuple[Path, Path]] = []
        for number, path in enumerate(below):
            place = scratch / f"{number}-{cover.name}"
            place.mkdir()
            mount("--rbind", str(path), str(place))
            aside.append((path, place))
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(cover))
        for path, place in aside:
            if not path.is_dir():
                path.mkdir(parents=True)
                mount("--rbind", str(place), str(path))


def give_account(scratch: Path, home: Path, *, ids: bool) -> None:
    """Have the user in passwd and group, and in subuid and subgid if it has ids."""
    lines = {
        "passwd": f"{NAME}:x:{UID}:{UID}::{home}:/bin/sh\n",
        "group": f"{NAME}:x:{UID}:\n",
    }
    for kind in ("subuid", "subgid"):
        lines[kind] = f"{NAME}:{RANGE[0]}:{RANGE[1]}\n" if ids else ""
    for name, line in lines.items():
        there = Path("/etc", name)
        copy = scratch / name
        before = there.read_text(encoding="utf-8") if name in {"passwd", "group"} else ""
        copy.write_text(before + line, encoding="utf-8")
        copy.chmod(0o644)
        there.touch()  # a host where nobody has ids may lack the file to cover
        mount("--bind", str(copy), str(there))


def become(home: Path, program: list[str]) -> None:
    """Go on as the user; does not return."""
    home.mkdir(parents=True, exist_ok=True)
    os.chown(home, UID, UID)
    environment = {
        "HOME": str(home),
        "USER": NAME,
        "LOGNAME": NAME,
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "CONTAINERKIT_TEST_DIR": str(home / "tests"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": f"-o cache_dir={home}/cache",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
    }
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.execvpe(program[0], program, environment)


def main(arguments: list[str]) -> None:
    ids = arguments[:1] == ["--ids"]
    program = arguments[1:] if ids else arguments
    if os.environ.pop("CK_TEST_APART", None) is None:
        os.environ["CK_TEST_APART"] = "1"
        words = [sys.executable, "-m", "tests.rootless.user", *arguments]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *words])
    base = Path(os.environ.get("CONTAINERKIT_TEST_DIR", "/var/tmp"))
    home = base / f"ck-user-{'ids' if ids else 'plain'}"
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="ck-user-"))
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(scratch))
    give_account(scratch, home, ids=ids)
    open_ways({*wanted()}, scratch)
    become(home, program)


if __name__ == "__main__":
    main(sys.argv[1:])

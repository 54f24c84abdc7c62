"""Races for a path: a directory of a shared volume is swapped for links while an engine uses it.

Owns: the place and what must stay as it is there; the rounds, of starts that mount on the path and
of calls on files below it; the control, which looks first and then trusts the text.  Neighbours:
tests/security/test_races.py runs a few rounds, tests/faults/bars.py (`make bars T=races`) thousands.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import containerkit as ck
from containerkit.errors import ContainerKitError, LaunchError
from containerkit.runtime.fileinfo import FileInfo
from containerkit.runtime.files import Files
from tests.support import ocibuild, tars

Swapper = Literal["sibling", "host"]

SECRET: Final = "outside"
SYSTEM: Final = ("/proc", "/proc/self", "/sys/fs", "/dev", "/dev/pts")
"""Where in a container nothing of the caller's may be mounted."""
OUTSIDE: Final = (
    "/store",
    "/../store",
    "../../../../../../store",
    "/src",
    "/tmpl/dev",
    "/groups",
    "/own",
)
"""What is at the root while a container's mounts are made, and is the launcher's."""

CALLS: Final = 18
"""Of a round of them; as many as `Calls` makes."""


class Place:
    """A volume, with a directory ``x`` that is swapped; and what nothing may read or change.

    Args:
        top: an empty directory.
        control: there are no links but to the canary, so that whoever is led out harms nothing else.
    """

    def __init__(self, top: Path, *, control: bool = False) -> None:
        self.canary = top / "canary"
        self.volume = top / "volume"
        self.bait = top / "bait"
        self.scratch = top / "scratch"
        for directory in (self.canary, self.volume / "x"):
            (directory / "sub").mkdir(parents=True)
            text = SECRET if directory == self.canary else "inside"
            (directory / "secret").write_text(text)
            (directory / "sub/secret").write_text(text)
        (self.canary / "only").write_text(SECRET)
        (self.bait / "attr").mkdir(parents=True)
        self.scratch.mkdir()
        (self.volume / "out").symlink_to(self.canary)
        self.links = ["out"] if control else []
        for number, target in enumerate(() if control else (*SYSTEM, *OUTSIDE)):
            self.links += ("out", f"l{number}")
            (self.volume / f"l{number}").symlink_to(target)
        self._before = tars.describe(self.canary, times=False)

    def escaped(self) -> bool:
        """Whether anything outside was changed."""
        return tars.describe(self.canary, times=False) != self._before

    @contextmanager
    def swapped(self, who: Swapper, engine: ck.Engine, image: str, attacks: Path) -> Iterator[None]:
        """Swap for the time of the block, from a container that has the volume, or from this host.

        Args:
            who: of the two.
            engine, image: of that container.
            attacks: the directory with the program ``swap``.
        """
        if who == "sibling":
            command = ["/attacks/swap", "/mine", "x", *self.links]
            mounts = [ck.Mount.bind(self.volume, "/mine"), ck.Mount.bind(attacks, "/attacks")]
            with engine.start(image, command, mounts=mounts) as box:
                box.wait_ready(log="swapping", timeout=120)
                yield
                assert box.status == "running", list(box.logs())
            return
        command = [str(attacks / "swap"), str(self.volume), "x", *self.links]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"swapping\n"
                yield
                assert process.poll() is None
            finally:
                process.kill()


class Mounts:
    """Starts, each of which mounts, makes and enters directories below the path.

    Attributes:
        escapes: what was found where it must not be.
        started, refused: starts.
    """

    def __init__(self, engine: ck.Engine, image: str, place: Place) -> None:
        self.escapes: list[str] = []
        self.started = self.refused = 0
        self._engine, self._image, self._place = engine, image, place
        # The directory itself, whatever its name is by now.
        self._made = os.open(place.volume / "x", os.O_RDONLY | os.O_DIRECTORY)
        self._root = set(os.listdir(engine.root))

    def close(self) -> None:
        os.close(self._made)

    def run(self, number: int) -> None:
        mounts = [
            ck.Mount.bind(self._place.volume, "/vol"),
            ck.Mount.bind(self._place.bait, "/vol/x"),
            ck.Mount.bind(self._place.bait, "/vol/x/made/in"),
            ck.Mount.tmpfs("/vol/x/tmp"),
        ]
        del mounts[1 if number % 2 else 2]
        command = ["cat", "/proc/self/mountinfo"]
        try:
            result = self._engine.run(
                self._image, command, text=True, mounts=mounts, workdir="/vol/x/work"
            )
        except LaunchError:
            self.refused += 1
        else:
            self.started += 1
            self._look(result.stdout)
        if self._place.escaped():
            self.escapes.append(f"round {number}: outside was changed")
        new = set(os.listdir(self._engine.root)) - self._root
        if new & {"made", "tmp", "work"}:
            self.escapes.append(f"round {number}: {new} in the engine's root")
        for name in ("made", "tmp", "work"):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(name, dir_fd=self._made)

    def _look(self, mountinfo: str) -> None:
        """Nothing of the caller's lies on the system's own (proc_pid_mountinfo(5))."""
        for line in mountinfo.splitlines():
            source, target = line.split()[3:5]
            system = target.startswith(("/proc", "/sys", "/dev"))
            if system and (source.endswith("/bait") or target.endswith("/tmp")):
                self.escapes.append(line)


class Calls:
    """Calls on files below the path; each is refused, or done within."""

    def __init__(self, files: Files, scratch: Path, path: str) -> None:
        self.done = 0
        self.refused = 0
        self._files = files
        self._scratch = scratch
        self._path = path
        self._put = scratch / "put"
        (self._put / "sub").mkdir(parents=True)
        (self._put / "sub/secret").write_text("put")
        (self._put / "secret").write_text("put")
        self._tar = ocibuild.tar(
            [("secret", "tar"), ("sub/secret", "tar"), ("deep/er/file", "tar")]
        )

    def run(self, number: int) -> None:
        got = self._scratch / f"got{number}", self._scratch / f"file{number}"
        for attempt in self._attempts(*got):
            try:
                attempt()
            except ContainerKitError:
                self.refused += 1
            else:
                self.done += 1
        for local in got:
            self._clean(local)

    def _attempts(self, tree: Path, file: Path) -> tuple[Callable[[], object], ...]:
        files, path = self._files, self._path
        return (
            lambda: self._same(files.read_text(f"{path}/secret")),
            lambda: self._same(files.read_text(f"{path}/sub/secret")),
            lambda: files.write_text(f"{path}/secret", "written"),
            lambda: files.write_text(f"{path}/sub/new", "written", owner=(7, 7)),
            lambda: files.open(f"{path}/sub/secret", "w").close(),
            lambda: files.write_text(f"{path}/sub/secret", "written", mode=0o777),
            lambda: files.put(self._put / "secret", f"{path}/", owner=(7, 7)),
            lambda: files.put(f"{self._put}/.", path),
            lambda: files.get(f"{path}/", tree),
            lambda: files.get(f"{path}/sub/secret", file),
            lambda: files.extract(path, self._tar, owner=(7, 7)),
            lambda: files.mkdir(f"{path}/made/in", parents=True, exist_ok=True, owner=(7, 7)),
            lambda: files.rename(f"{path}/sub/new", f"{path}/moved"),
            lambda: files.remove(f"{path}/moved"),
            lambda: files.remove(f"{path}/made", recursive=True),
            lambda: self._names(files.list(path)),
            lambda: self._not(files.exists(f"{path}/only")),
            lambda: self._archive(path),
        )

    def _same(self, text: str) -> None:
        assert SECRET not in text

    def _not(self, there: bool) -> None:
        assert not there

    def _names(self, found: tuple[FileInfo, ...]) -> None:
        assert not {"control", "only"} & {info.name for info in found}

    def _archive(self, path: str) -> None:
        with self._files.archive(f"{path}/.") as tar:
            assert SECRET.encode() not in tar.read()

    def _clean(self, local: Path) -> None:
        """What was copied out holds nothing of the host, and is gone for the next round."""
        if local.is_dir() and not local.is_symlink():
            for path in local.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    self._same(path.read_text())
            shutil.rmtree(local)
        elif local.exists():
            self._same(local.read_text())
            local.unlink()


def trusting(path: Path, canary: Path, number: int) -> bool:
    """Do one round as whoever resolves by text: look that it is no link, then use it.

    Returns:
        Whether that led out: something was made there, which is removed again.
    """
    name = f"control{number}"
    for _ in range(CALLS):
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                (path / name).mkdir()
                path.joinpath(name).rmdir()
        with contextlib.suppress(FileNotFoundError):
            (canary / name).rmdir()
            return True
    return False

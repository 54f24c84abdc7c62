"""Nothing leads out of a container while execve(2) resolves paths.

The program, the interpreter of its "#!" line and its ELF interpreter are opened while the descriptors
that execve closes are still open.  "/proc/self/fd/N/.." leads out through a directory among them
(CVE-2024-21626, CVE-2019-5736).  So in each kind of child: which are open, and whether one of these
three leads to a program outside.  The control is a launcher that only marks them, as it once was.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest

import containerkit as ck
from containerkit.errors import CommandNotFound, LaunchError, NotExecutable
from tests.support import launchers, ocibuild
from tests.support.patience import until
from tests.support.registry import RegistryServer

MARKED_ONLY: Sequence[launchers.Change] = (
    (
        "ck_child.c",
        "error = ck_child_close(child);",
        "error = ck_close_range(3, ~0U, 1);",
    ),
    (
        "ck_launcher_prepare.c",
        "CK_CLEANUP_FD int tree = start->slots[op->fd[0]];",
        "const int tree = start->slots[op->fd[0]];",
    ),
    ("ck_launcher_prepare.c", "    start->slots[op->fd[0]] = -1;\n", ""),
    (
        "ck_launcher_agent.c",
        (
            "        if (grouped && l->unified >= 0) /* it is in the group: its directory leads to the host's */\n"
            "            ck_close_at(&fds[1]);\n        run(l->packet, (size_t)got, fds, n, fds[1], AGENT_USER);"
        ),
        (
            "        run(l->packet, (size_t)got, fds, n, grouped && l->unified >= 0 ? -1 : fds[1],"
            " AGENT_USER);"
        ),
    ),
)

REPORT = 3
"""The one descriptor that is open beside the streams: a socket, which execve closes."""

NUMBERS = range(3, 12)
"""What a child holds has the lowest numbers that are free."""

UP = "../" * 12


# ---- what is outside, and the ways there


class Outside(NamedTuple):
    """A directory of the host with the program `reached`, and where the launcher sees it."""

    directory: Path
    ways: tuple[str, ...]  # behind a descriptor


@pytest.fixture(scope="session")
def reached(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A static program that says that it runs."""
    source = Path(__file__).parent / "freestanding" / "reached.c"
    output = tmp_path_factory.mktemp("reached") / "reached"
    flags = ["-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-Os", "-s"]
    subprocess.run(["cc", *flags, "-Wl,--build-id=none", "-o", output, source], check=True)
    return output.read_bytes()


@pytest.fixture
def outside(engine_root: Path, reached: bytes) -> Outside:
    """In the engine's root, which the launcher has at /store and the host where it lies."""
    for path in (engine_root.parent, engine_root, directory := engine_root / "outside"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755 if path != engine_root else 0o700)
    (directory / "reached").write_bytes(reached)
    (directory / "reached").chmod(0o755)
    host = UP + str(directory).lstrip("/")
    return Outside(directory, (f"{UP}store/outside/reached", f"{host}/reached"))


# ---- the three names that execve resolves, and a link to the first


def elf(interpreter: str) -> bytes:
    """Return a program that asks for this ELF interpreter (elf(5))."""
    machine = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    name = interpreter.encode() + b"\0"
    base, headers = 0x10000000, 64 + 2 * 56
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, machine, 1, base, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    size = headers + len(name)
    at = base + headers
    asks = struct.pack("<IIQQQQQQ", 3, 4, headers, at, at, len(name), len(name), 1)
    loads = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
    return header + asks + loads + name


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o755)


def _link(file: Path, path: str) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(path)


FORMS: dict[str, Callable[[Path, str], None]] = {
    "script": lambda file, path: _write(file, f"#!{path}\n".encode()),
    "elf": lambda file, path: _write(file, elf(path)),
    "link": _link,
}


# ---- in which containers


PRESETS = {
    "default": ck.Security.default,
    "auto": lambda: ck.Security(userns="auto"),
    "strict": ck.Security.strict,
}

MOUNTS = ("image", "bind", "host")
"""Where the programs lie, as /x: in the image, or in a directory bound read-only, also in the host image."""


@attrs.define
class Setting:
    """What is started: an engine, the programs that lie in it as /x, and how it is confined."""

    engine: ck.Engine
    outside: Outside
    folder: Path
    options: dict[str, Any]
    registry: RegistryServer
    mounts: str

    def programs(self, numbers: Sequence[int]) -> dict[str, list[str]]:
        """Make a program of each form for each path outside; return their names by form."""
        ways = [f"/proc/self/fd/{n}/{way}" for n in numbers for way in self.outside.ways]
        found = {"path": ways}
        for form, make in FORMS.items():
            for i, path in enumerate(ways):
                make(self.folder / f"{form}{i}", path)
            found[form] = [f"/x/{form}{i}" for i in range(len(ways))]
        return found

    def image(self, **config: Any) -> str | None:
        """Return the image to start, with the programs that there are by now."""
        if self.mounts == "host":
            return None
        files: dict[str, ocibuild.Content] = {"w/x": ocibuild.program("#!/bin/sh\nsleep 100000\n")}
        for file in self.folder.iterdir() if self.mounts == "image" else ():
            linked = file.is_symlink()
            made = ocibuild.symlink(os.readlink(file)) if linked else None
            files[f"x/{file.name}"] = made or ocibuild.program(file.read_bytes())
        return self.registry.push("test/execve:latest", ocibuild.busybox(files, config=config))


@contextmanager
def settings(
    root: Path, outside: Outside, registry: RegistryServer, preset: str, mounts: str
) -> Iterator[Setting]:
    folder = root.parent / "x"
    folder.mkdir()
    folder.chmod(0o755)
    options: dict[str, Any] = {"security": PRESETS[preset](), "pull": "always"}
    if os.geteuid() and preset == "strict":
        options["limits"] = ck.UNLIMITED
    if mounts == "host":
        del options["pull"]
    if mounts != "image":
        options["mounts"] = [ck.Mount.bind(folder, "/x", read_only=True)]
    with ck.Engine.open(root) as engine:
        yield Setting(engine, outside, folder, options, registry, mounts)


# ---- the kinds of child: each starts one name, and returns what it said


Start = Callable[[str], str]
"""Raises what the library says of a name that cannot be started."""


@contextmanager
def in_run(setting: Setting) -> Iterator[Start]:
    image = setting.image()

    def start(name: str) -> str:
        return str(setting.engine.run(image, [name], text=True, **setting.options).stdout)

    yield start


@contextmanager
def in_entrypoint(setting: Setting) -> Iterator[Start]:
    image = setting.image()

    def start(name: str) -> str:
        result = setting.engine.run(image, entrypoint=[name], text=True, **setting.options)
        return str(result.stdout)

    yield start


@contextmanager
def in_shell(setting: Setting) -> Iterator[Start]:
    """The shell that an image names, for commands that are a text."""
    image = setting.image(Shell=["/x/shell"])
    shell = setting.folder / "shell"

    def start(name: str) -> str:
        shell.unlink(missing_ok=True)
        shell.symlink_to(name)
        return str(setting.engine.run(image, "true", text=True, **setting.options).stdout)

    yield start


@contextmanager
def in_kept(setting: Setting, **options: Any) -> Iterator[Start]:
    image = setting.image()

    def start(name: str) -> str:
        with setting.engine.start(image, [name], **options, **setting.options) as box:
            box.wait(timeout=60)
            return box.log_text()

    yield start


@contextmanager
def in_init(setting: Setting) -> Iterator[Start]:
    with in_kept(setting, init=True) as start:
        yield start


@contextmanager
def in_terminal(setting: Setting) -> Iterator[Start]:
    with in_kept(setting, tty=True) as start:
        yield start


@contextmanager
def in_exec(setting: Setting, **options: Any) -> Iterator[Start]:
    with setting.engine.start(setting.image(), ["sleep", "100000"], **setting.options) as box:

        def start(name: str) -> str:
            return str(box.exec([name], text=True, **options).stdout)

        yield start


@contextmanager
def in_exec_terminal(setting: Setting) -> Iterator[Start]:
    with in_exec(setting, tty=True) as start:
        yield start


@contextmanager
def in_restart(setting: Setting) -> Iterator[Start]:
    """A program that code inside has replaced since it was started."""
    image = setting.image()

    def start(name: str) -> str:
        with setting.engine.start(image, ["/w/x"], **setting.options) as box:
            box.exec(["ln", "-sfn", name, "/w/x"], check=True)
            box.restart(grace=0)
            box.wait(timeout=60)
            return box.log_text()

    yield start


@contextmanager
def in_probe(setting: Setting) -> Iterator[Start]:
    """A health check; what ran in one leaves a file."""
    image = setting.image()

    def start(name: str) -> str:
        check = ck.Healthcheck([name], interval=0.02, retries=1)
        command = ["sleep", "100000"]
        with setting.engine.start(image, command, healthcheck=check, **setting.options) as box:
            until(lambda: box.health != "starting")
            return box.exec(["ls", "/dev/shm"], text=True, check=True).stdout

    yield start


PLACES = {
    "run": in_run,
    "entrypoint": in_entrypoint,
    "shell": in_shell,
    "kept": in_kept,
    "init": in_init,
    "terminal": in_terminal,
    "exec": in_exec,
    "exec-terminal": in_exec_terminal,
    "restart": in_restart,
    "probe": in_probe,
}


# What an exec of an image is started with makes no difference to its kind of child.
CASES = [
    *(("default", "bind", place) for place in PLACES),
    *(("default", "host", place) for place in ("run", "kept", "exec", "probe")),
    *(("default", "image", place) for place in ("run", "exec", "restart", "probe")),
    *(("auto", "bind", place) for place in ("run", "exec", "restart", "probe")),
    *(("strict", "bind", place) for place in ("run", "init", "exec", "probe")),
    *(("strict", "host", place) for place in ("run", "exec")),
]
"""A preset, where the programs lie, a kind of child."""


@pytest.fixture
def setting(
    case: tuple[str, str, str], engine_root: Path, outside: Outside, registry: RegistryServer
) -> Iterator[Setting]:
    preset, mounts, _place = case
    with settings(engine_root, outside, registry, preset, mounts) as made:
        made.programs(range(REPORT, REPORT + 3))
        yield made


@pytest.fixture
def place(case: tuple[str, str, str], setting: Setting) -> Iterator[Start]:
    with PLACES[case[2]](setting) as start:
        yield start


def name_of(case: tuple[str, str, str]) -> str:
    preset, mounts, place = case
    return f"{place}-{mounts}-{preset}"


def tried(start: Start, name: str) -> str:
    """What a name said that was started, "" where it could not be."""
    try:
        return start(name)
    except LaunchError:
        return ""


def is_open(start: Start, number: int) -> bool:
    """Whether a descriptor is there during execve, which then says that it cannot be executed."""
    try:
        start(f"/proc/self/fd/{number}")
    except CommandNotFound:
        return False
    except NotExecutable:
        return True
    raise AssertionError(f"descriptor {number} was executed")


# ---- what holds


# A probe tells nobody why it was not executed.
@pytest.mark.parametrize("case", [case for case in CASES if case[2] != "probe"], ids=name_of)
def test_what_is_open(case: tuple[str, str, str], place: Start) -> None:
    """One descriptor beside the streams, and it is no directory."""
    assert [n for n in NUMBERS if is_open(place, n)] == [REPORT]
    with pytest.raises(LaunchError):  # of a directory it would be the one that the container has
        place(f"/proc/self/fd/{REPORT}/../bin/sh")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_no_path_leads_out(case: tuple[str, str, str], place: Start, setting: Setting) -> None:
    forms = setting.programs(range(REPORT, REPORT + 3))
    said = {name: tried(place, name) for names in forms.values() for name in names}
    assert not {name: text for name, text in said.items() if "reached" in text}


# ---- the controls


@pytest.fixture(scope="session")
def marked_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A launcher whose children mark descriptors to be closed by execve, and hold the same as ever."""
    return launchers.build(tmp_path_factory.mktemp("launcher"), MARKED_ONLY)


def reaches(start: Start, names: Sequence[str]) -> bool:
    return any("reached" in tried(start, name) for name in names)


def is_found(start: Start, name: str) -> bool:
    """Whether all that execve opens for a name is there, executed or not."""
    try:
        start(name)
    except CommandNotFound:
        return False
    except LaunchError:
        pass
    return True


STARTS = ("run", "entrypoint", "shell", "kept", "init", "terminal", "restart")


@contextmanager
def escaping(
    root: Path,
    outside: Outside,
    registry: RegistryServer,
    launcher: Path,
    preset: str,
    mounts: str,
) -> Iterator[Setting]:
    """Containers of a launcher that only marks.

    The mode of the store keeps out who has other ids than the host's root; so these are led to what is
    bound into another container, of which the launcher has a number like its first ones.
    """
    if preset == "default":
        with launchers.used(launcher), settings(root, outside, registry, preset, mounts) as setting:
            yield setting
        return
    private = outside._replace(ways=tuple(f"../{number}-0/reached" for number in (1, 2, 3)))
    bind = ck.Mount.bind(outside.directory, "/private", read_only=True)
    with (
        launchers.used(launcher),
        settings(root, private, registry, preset, mounts) as setting,
        setting.engine.start(setting.image(), ["sleep", "100000"], mounts=[bind]),
    ):
        yield setting


@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        *(("default", kind) for kind in STARTS),
        ("auto", "run"),
        ("auto", "restart"),
        ("strict", "run"),
    ],
)
def test_marking_alone_lets_starts_out(
    engine_root: Path,
    outside: Outside,
    registry: RegistryServer,
    marked_only: Path,
    preset: str,
    kind: str,
) -> None:
    """The control: with a source of a bind mount, however the path gets to execve."""
    with escaping(engine_root, outside, registry, marked_only, preset, "bind") as setting:
        forms = setting.programs(NUMBERS)
        with PLACES[kind](setting) as start:
            assert [form for form, names in forms.items() if reaches(start, names)] == [*forms]


def test_marking_alone_lets_the_host_image_out(
    engine_root: Path, outside: Outside, registry: RegistryServer, marked_only: Path
) -> None:
    with escaping(engine_root, outside, registry, marked_only, "default", "host") as setting:
        forms = setting.programs(NUMBERS)
        with in_run(setting) as start:
            assert [form for form, names in forms.items() if reaches(start, names)] == [*forms]


@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("kind", ["exec", "exec-terminal", "probe"])
def test_marking_alone_lets_execs_out(
    engine_root: Path,
    outside: Outside,
    registry: RegistryServer,
    marked_only: Path,
    kind: str,
) -> None:
    """The control: by the directory of their control group, with no mount at all."""
    with escaping(engine_root, outside, registry, marked_only, "default", "image") as setting:
        forms = setting.programs(NUMBERS)
        with PLACES[kind](setting) as start:
            # user-mode-linux kills a program whose ELF interpreter is not relocatable.
            elf = forms.pop("elf")
            assert [form for form, names in forms.items() if reaches(start, names)] == [*forms]
            assert kind == "probe" or any(is_found(start, name) for name in elf)

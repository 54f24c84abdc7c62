"""Command, environment, directory and host name: Docker's rules."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from containerkit.errors import CommandNotFound, ConfigError, InvalidSpec
from containerkit.launch.process import (
    DEFAULT_PATH,
    candidates,
    command_line,
    environment,
    host_name,
    working_directory,
)
from containerkit.model.image_config import ImageConfig
from containerkit.model.options import Command

PLAIN = ImageConfig(cmd=("sh",))
TOOL = ImageConfig(entrypoint=("tool", "-v"), cmd=("help",))
FISH = ImageConfig(shell=("fish", "-c"))


@pytest.mark.parametrize(
    ("image", "command", "entrypoint", "expected"),
    [
        (PLAIN, None, None, ("sh",)),
        (PLAIN, ["ls", Path("/tmp")], None, ("ls", "/tmp")),
        (PLAIN, "echo $HOME", None, ("/bin/sh", "-c", "echo $HOME")),
        (FISH, "echo", None, ("fish", "-c", "echo")),
        (PLAIN, ["sh", "-c", ""], None, ("sh", "-c", "")),
        (TOOL, None, None, ("tool", "-v", "help")),
        (TOOL, ["run"], None, ("tool", "-v", "run")),
        (TOOL, "run", None, ("tool", "-v", "/bin/sh", "-c", "run")),
        (TOOL, None, "other", ("other",)),
        (TOOL, None, ["other", "-x"], ("other", "-x")),
        (TOOL, ["run"], "other", ("other", "run")),
        (TOOL, ["run"], "", ("run",)),
        (TOOL, ["run"], [], ("run",)),
        (TOOL, ("run", ""), None, ("tool", "-v", "run", "")),
        (TOOL, [], None, ("tool", "-v")),
    ],
)
def test_command_line(
    image: ImageConfig,
    command: Command | None,
    entrypoint: Command | None,
    expected: tuple[str, ...],
) -> None:
    assert command_line(image, command, entrypoint) == expected


@pytest.mark.parametrize(
    ("command", "entrypoint"),
    [
        ([], ""),
        (None, ""),
        ([1], None),
        (["a\0b"], None),
        (b"ls", None),
        ([b"ls"], None),
        ({"a": 1}, None),
        (3, None),
        (None, 3),
        (None, ["a", None]),
    ],
)
def test_command_lines_that_can_not_be(command: object, entrypoint: object) -> None:
    with pytest.raises(ConfigError):
        command_line(TOOL, command, entrypoint)  # type: ignore[arg-type]


@pytest.mark.parametrize("entrypoint", [("", ""), ("", "echo")])
def test_a_program_without_a_name_is_not_found(entrypoint: tuple[str, ...]) -> None:
    for image, command in (
        (ImageConfig(entrypoint=entrypoint), None),
        (ImageConfig(cmd=("",)), None),
        (PLAIN, [""]),
    ):
        with pytest.raises(CommandNotFound, match=r"is empty.*hint: ") as caught:
            command_line(image, command, None)
        assert caught.value.errno == errno.ENOENT


def env(image: ImageConfig = PLAIN, /, **given: str | None) -> dict[str, str]:
    return environment(image, given, hostname="box", home="/root", tty=False)


def test_environment_of_defaults() -> None:
    assert env() == {"PATH": DEFAULT_PATH, "HOSTNAME": "box", "HOME": "/root"}
    assert environment(PLAIN, None, hostname="b", home="/", tty=True)["TERM"] == "xterm"


def test_the_image_overrides_defaults_and_the_caller_the_image() -> None:
    image = ImageConfig(env=("A=1", "B=2", "HOME=/srv", "EMPTY=", "E=a=b"))
    found = env(image, B="3", A=None, PATH=None)
    assert found == {"HOSTNAME": "box", "HOME": "/srv", "B": "3", "EMPTY": "", "E": "a=b"}


def test_an_images_empty_home_is_none() -> None:
    image = ImageConfig(env=("HOME=",))
    assert env(image)["HOME"] == "/root"
    assert env(image, HOME="")["HOME"] == ""


def test_nothing_comes_from_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry without a value names no variable of the host (CVE-2026-57231)."""
    monkeypatch.setenv("CK_HOST_SECRET", "hunter2")
    assert "hunter2" not in repr(env())
    for entry in ("CK_HOST_SECRET", "=x", "*"):
        with pytest.raises(InvalidSpec):
            env(ImageConfig(env=(entry,)))


@pytest.mark.parametrize("given", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {1: "x"}])
def test_names_of_variables(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="variable's name"):
        environment(PLAIN, given, hostname="b", home="/", tty=False)


@pytest.mark.parametrize("value", ["hunter2\0", 5, b"hunter2"])
def test_a_bad_value_is_not_shown(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        environment(PLAIN, {"A": value}, hostname="b", home="/", tty=False)  # type: ignore[dict-item]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "path", "expected"),
    [
        ("/bin/sh", "/usr/bin", ("/bin/sh",)),
        ("./run", "/usr/bin", ("./run",)),
        ("sub/run", None, ("sub/run",)),
        ("ls", "/usr/bin:/bin", ("/usr/bin/ls", "/bin/ls")),
        ("ls", "/bin::/bin", ("/bin/ls", "./ls")),
        ("ls", "", ("./ls",)),
        ("ls", None, tuple(f"{folder}/ls" for folder in DEFAULT_PATH.split(":"))),
    ],
)
def test_where_a_program_may_be(program: str, path: str | None, expected: tuple[str, ...]) -> None:
    assert candidates(program, path) == expected


def test_a_long_path_is_cut() -> None:
    assert len(candidates("ls", ":".join(f"/{n}" for n in range(5000)))) == 256


@pytest.mark.parametrize(
    ("workdir", "image", "expected"),
    [
        (None, "", "/"),
        (None, "/srv", "/srv"),
        (None, "srv/x", "/srv/x"),
        ("/a", "/srv", "/a"),
        (Path("/a/b"), "", "/a/b"),
        ("/a/../b", "", "/b"),
        (Path("/a/../../../b/"), "", "/b"),
        (None, "a/../../b", "/b"),
    ],
)
def test_working_directory(workdir: str | Path | None, image: str, expected: str) -> None:
    assert working_directory(ImageConfig(workdir=image), workdir) == expected


@pytest.mark.parametrize("workdir", ["", "a", "../a", "/a\0", b"/a", "/" + "a" * 4095])
def test_working_directories_that_can_not_be(workdir: object) -> None:
    with pytest.raises(ConfigError):
        working_directory(PLAIN, workdir)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["box", "a.b-c.d_e", "X1", "9", "a" * 64])
def test_host_names(name: str) -> None:
    assert host_name(name, "default") == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", ".a", "a.", "a b", "é", "a\n", "a" * 65])
def test_no_host_names(name: str) -> None:
    with pytest.raises(ConfigError, match="host name"):
        host_name(name, "default")


def test_the_default_host_name() -> None:
    assert host_name(None, "default") == "default"


def test_an_entrypoint_of_one_empty_word_is_none() -> None:
    """As Docker clears one: ``ENTRYPOINT [""]``."""
    image = ImageConfig(entrypoint=("",), cmd=("true", "x"))
    assert command_line(image, None, None) == ("true", "x")
    assert command_line(image, ["id"], None) == ("id",)
    with pytest.raises(CommandNotFound, match="empty"):  # the caller's own is a mistake
        command_line(image, ["id"], [""])

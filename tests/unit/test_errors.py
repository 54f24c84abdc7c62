"""The tree of exceptions: every one pickles, copies, prints its hint, and is drawn in the module."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from containerkit import errors
from containerkit.errors import ContainerKitError

CLASSES = [
    value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, ContainerKitError) and name[0] != "_"
]

BUILTINS: list[tuple[type[ContainerKitError], type[BaseException]]] = [
    (errors.ConfigError, ValueError),
    (errors.NotFound, LookupError),
    (errors.TransportError, OSError),
    (errors.HostError, OSError),
    (errors.PermissionDenied, PermissionError),
    (errors.FileError, OSError),
    (errors.FileNotFound, FileNotFoundError),
    (errors.FileNotFound, LookupError),
    (errors.FileExists, FileExistsError),
    (errors.NotADirectory, NotADirectoryError),
    (errors.IsADirectory, IsADirectoryError),
    (errors.LaunchError, OSError),
    (errors.CommandNotFound, FileNotFoundError),
    (errors.Conflict, RuntimeError),
    (errors.RegistryError, RuntimeError),
    (errors.CorruptContent, ValueError),
    (errors.NotReady, RuntimeError),
    (errors.EngineClosed, RuntimeError),
    (errors.NotPublished, LookupError),
    (errors.SandboxExpired, RuntimeError),
    (errors.BuildError, RuntimeError),
    (errors.ProcessFailed, RuntimeError),
    (errors.Timeout, TimeoutError),
]


def make(kind: type[ContainerKitError]) -> ContainerKitError:
    if issubclass(kind, errors._OSErrorMixin):
        return kind("cannot open it", errno=errno.ENOENT, hint="look again", extra=(1, "two"))
    return kind("cannot open it", hint="look again", extra=(1, "two"))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "remake", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_every_error_survives_a_process_border(
    kind: type[ContainerKitError], remake: Callable[[ContainerKitError], Any]
) -> None:
    error = make(kind)
    again = remake(error)
    assert (type(again), str(again)) == (kind, "cannot open it; hint: look again")
    assert str(error) == str(again)
    assert again.extra == (1, "two")
    if isinstance(error, OSError):
        assert (again.errno, again.strerror) == (error.errno, error.strerror)


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS)
def test_each_is_caught_by_the_builtin_that_fits(
    kind: type[ContainerKitError], builtin: type[BaseException]
) -> None:
    assert issubclass(kind, builtin)
    assert issubclass(kind, ContainerKitError)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_documented_and_drawn(kind: type[ContainerKitError]) -> None:
    assert kind.__doc__
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or ""), (
        "missing in the tree at the top"
    )


def test_a_message_without_a_hint_stays_as_it_is() -> None:
    assert str(errors.InvalidReference("cannot parse reference")) == "cannot parse reference"


def test_the_text_of_an_error_is_no_command_to_a_terminal() -> None:
    said = "a\x1b[31m\x9b\u202e\udcffb\n\tc é"
    error = errors.ConfigError(said, hint="\x07")
    assert str(error) == "a\\x1b[31m\\x9b\\u202e\\udcffb\n\tc é; hint: \\x07"
    assert error.message == said

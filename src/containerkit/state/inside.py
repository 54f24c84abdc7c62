"""Work on an ordinary user's root that needs other ids than its own, by a process that has them.

Owns: that process, from its start in the root's user namespace to what it says; on both sides.  Must
not: know what is done there.  It is a Python of its own, since a namespace is entered by processes
of one thread only; it gets nothing but what it is called with, and ends with who called it.
Neighbours: `state.atomic` removes trees by it, `layers.apply` unpacks.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from containerkit import errors
from containerkit.errors import ContainerKitError, HostError, refusals
from containerkit.state import userns

if TYPE_CHECKING:
    import subprocess

_PROGRAM: Final = (
    "import json, sys\n"
    "call = json.loads(sys.argv[1])\n"
    "sys.path[:] = call['path']\n"
    "from containerkit.state.inside import serve\n"
    "serve(call)\n"
)


class Inside:
    """A function that runs in a root's user namespace, as its user 0; a context manager.

    Args:
        root: the engine's root directory.
        function: "module:name", called with the arguments; it may read its standard input.
        arguments: what JSON can say.
        fds: descriptors that it has too, under the same numbers.

    Raises:
        HostError: there is no Python to run it in.
    """

    def __init__(
        self, root: Path, function: str, arguments: dict[str, Any], *, fds: Sequence[int] = ()
    ) -> None:
        import subprocess

        namespace = userns.namespace(root)
        package = str(Path(__file__).resolve().parents[2])
        life, self._life = os.pipe()
        call = {
            "path": [package, *(path for path in sys.path if path)],
            "namespace": namespace,
            "life": life,
            "function": function,
            "arguments": arguments,
        }
        try:
            with refusals(f"start {sys.executable or 'a Python'} in a user namespace"):
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [sys.executable or "python3", "-I", "-S", "-c", _PROGRAM, json.dumps(call)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(namespace, life, *fds),
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._life)
            raise
        finally:
            os.close(life)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Give it data to read.

        Raises:
            ContainerKitError: what it raised, if it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            self.result()
            raise

    def result(self) -> Any:
        """End what it reads, wait for it, and return what it returned.

        Raises:
            ContainerKitError: what it raised.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        said = self._process.stdout.read()
        try:
            answer = json.loads(said)
        except ValueError as error:
            raise HostError(
                "cannot work in the user namespace: its process ended without a word"
            ) from error
        if "result" in answer:
            return answer["result"]
        kind = getattr(errors, answer["error"], HostError)
        kind = kind if issubclass(kind, ContainerKitError) else HostError
        raise kind(answer["message"], hint=answer["hint"], **answer["more"])

    def close(self) -> None:
        """End it, whatever it is at, and wait for that."""
        self._process.kill()
        self._process.wait()
        os.close(self._life)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def root_of(path: Path) -> Path | None:
    """Return the root directory that a path is in, if its ids are more than the user's own."""
    for directory in path.absolute().parents:
        # A root that has run nothing but the host image has no catalog yet.
        if (directory / "owners").is_dir() and userns.is_recorded(directory):
            return None if userns.ids_of(directory).single else directory
    return None


# ---- within that process


def serve(call: dict[str, Any]) -> None:
    """Do what was asked for, and say on the standard output what came of it."""
    from containerkit import _native

    answer: dict[str, Any]
    try:
        _native.enter_namespace(call["namespace"])
        os.close(call["namespace"])
        threading.Thread(target=_end_with, args=(call["life"],), daemon=True).start()
        os.umask(0o022)
        module, _, name = call["function"].partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        answer = {"result": function(**call["arguments"])}
    except ContainerKitError as error:
        more = {name: value for name, value in vars(error).items() if _is_plain(value)}
        more = {name: more[name] for name in more.keys() - {"message", "hint"}}
        if isinstance(error, OSError):
            more["errno"] = error.errno
        answer = {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "more": more,
        }
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def _end_with(life: int) -> None:
    """End as soon as who has the other end of a pipe does, however that ends."""
    os.read(life, 1)
    os._exit(1)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def remove(path: str) -> None:
    """Remove a tree, whoever its files belong to."""
    from containerkit.state.atomic import remove_tree

    remove_tree(Path(path))

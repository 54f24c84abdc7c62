"""Where a container's standard streams lead: to its caller, to its log, or to a terminal.

Owns the steps that connect them.  Must not look at the host.
Neighbours: `compile` puts them in order; ``ck_launcher_log.c`` runs LOG, ``ck_ops_proc.c`` the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError
from containerkit.launch import defaults
from containerkit.launch.ops import Code, Op
from containerkit.model.log import log_of

if TYPE_CHECKING:
    from containerkit.launch.mounts import Slots
    from containerkit.launch.ops import Slots as Fds
    from containerkit.launch.request import LaunchRequest

_NOTHING: Final[Fds] = (-1, -1, -1)


def inputs_of(request: LaunchRequest) -> tuple[str, ...]:
    """Return the streams for which the caller sends a descriptor."""
    if request.kept or request.park or request.options.get("tty"):
        return ()
    return request.streams


def check_streams(request: LaunchRequest) -> None:
    """Refuse options of streams that have no meaning.

    Raises:
        ConfigError: tty, stdin_open or init is no bool, log no `Log`.
    """
    log_of(request.options.get("log"))
    for name in ("tty", "stdin_open", "init"):
        value = request.options.get(name)
        if not isinstance(value, bool | None):
            raise ConfigError(f"{name} {value!r} is neither True nor False")


def connect(request: LaunchRequest, slots: Slots) -> tuple[list[Op], list[Op]]:
    """Return the steps of the prepare section, and those of the child, session included."""
    options = request.options
    terminal = bool(options.get("tty")) and not request.park
    if not request.kept or request.park:
        given = {item.kind: slot for slot, item in enumerate(slots.inputs)}
        fds: Fds = (given.get("stdin", -1), given.get("stdout", -1), given.get("stderr", -1))
        return [], _session(fds, terminal=terminal)
    if terminal:
        fds = _NOTHING
    else:
        opened = options.get("stdin_open")
        fds = (slots.fill() if opened else -1, slots.fill(), slots.fill())
    log = log_of(options.get("log"))
    step = Op(Code.LOG, fd=fds, value=(log.max_size, log.max_files))
    return [step], _session(fds, terminal=terminal)


def _session(fds: Fds, *, terminal: bool) -> list[Op]:
    if terminal:
        return [defaults.TERMINAL]
    return [Op(Code.STDIO, fd=fds), defaults.SESSION]

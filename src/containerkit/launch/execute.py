"""An exec, compiled into a plan: one more process in a container that runs.

Owns what an exec inherits of its container and what it may choose itself.  Pure: the same base and
request give the same plan.  Must not look at the host.

A plan of an exec is a child section alone: the container's namespaces, root and control group are
there already.  It ends as the container's own does (`confine`), so that an exec has no right that
the container has not, unless it is asked for with ``privileged``.

Neighbours: `runtime.execute` sends the plan to the launcher that runs the container.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from containerkit.errors import MissingFeature
from containerkit.launch import defaults, userns
from containerkit.launch.capabilities import ALL_MASK
from containerkit.launch.compile import user_of
from containerkit.launch.confine import bounding_set, confine
from containerkit.launch.identity import resolve_user
from containerkit.launch.limits import rlimit_ops
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Input, Plan
from containerkit.launch.presets import default_user, limits_of
from containerkit.launch.process import (
    candidates,
    command_line,
    environment,
    host_name,
    working_directory,
)
from containerkit.launch.request import STREAMS, HostFacts, check_shapes
from containerkit.launch.wire import packed
from containerkit.model.options import Command, ContainerOptions
from containerkit.model.security import Security

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.model.image_config import ImageConfig

_SECURITY: Final = Security()
_NO_ARGUMENTS: Final = (None, None, None)
_PLANS_MAX: Final = 8
"""Execs that a container remembers: what is asked again and again is compiled and encoded once."""
_BYTES_MAX: Final = 16 << 10
"""Of the plan of one that is remembered."""
_NONE: Final = type(None)

_Pairs = tuple[tuple[str, str | None], ...]
_Key = tuple[Any, _Pairs | None, bool, bool, tuple[str, ...]]


class _Frame(NamedTuple):
    """What execs have in common that differ in command and environment only."""

    inputs: tuple[Input, ...]
    child: tuple[Op, ...]  # all but the last
    home: str
    notes: tuple[str, ...]


@attrs.frozen
class ExecBase:
    """What an exec inherits: the container as it was started.

    Args:
        id: of the container, 64 hexadecimal digits.
        image: the image's config.
        options: as the caller gave them at its start.
        facts: of the host, as they were for its start: its limits and capabilities hold for execs
            from any process.
        privileges: capabilities that ``privileged`` gives.
        passwd, group: content of the image's files; for an exec under a user of its own, of those
            in the running root.  None where it has none.
        oom_score_adj: as the container's; None leaves the launcher's.
        ids: those that were chosen for it, with userns="auto".
        in_place: it is of the host image, which without namespaces has no root of its own.
    """

    id: str
    image: ImageConfig = attrs.field(repr=False)
    options: ContainerOptions = attrs.field(factory=ContainerOptions, repr=False)
    facts: HostFacts = attrs.field(factory=HostFacts, repr=False)
    passwd: bytes | None = attrs.field(default=None, repr=False)
    group: bytes | None = attrs.field(default=None, repr=False)
    oom_score_adj: int | None = None
    privileges: int = ALL_MASK
    ids: IdMap | None = None
    in_place: bool = False
    _frames: dict[Any, _Frame] = attrs.field(factory=dict, init=False, eq=False, repr=False)
    _plans: dict[_Key, Plan] = attrs.field(factory=dict, init=False, eq=False, repr=False)


@attrs.frozen
class ExecRequest:
    """What a caller may choose for an exec.

    Args:
        command: a text is given to the image's shell; the entrypoint plays no part.
        env: added to the container's; None removes a name.
        workdir: absolute, and there; None: the container's.
        user: as the option of a container; None: the container's.
        tty: a terminal, made in the container's own devpts, instead of the streams.
        privileged: all capabilities that the host can give, new privileges allowed, no filter.
        streams: which of "stdin", "stdout", "stderr" the caller sends a descriptor for; the others
            are /dev/null.
    """

    command: Command
    env: Mapping[str, str | None] | None = attrs.field(default=None, repr=False)
    workdir: str | PathLike[str] | None = None
    user: str | int | None = None
    tty: bool = False
    privileged: bool = False
    streams: tuple[str, ...] = STREAMS

    def key(self) -> _Key | None:
        """Return all that a plan depends on beside its base.

        None where that can not be told: a generator is there but once, a path can be another next time,
        a text of a type of its own may say something else as text.
        """
        command, env = self.command, self.env
        if self.user is not None or self.workdir is not None:
            return None
        if type(command) is not str:
            if not isinstance(command, list | tuple):
                return None
            command = tuple(command)
            if {*map(type, command)} != {str}:
                return None
        if env is None:
            return command, None, self.tty, self.privileged, self.streams
        pairs = tuple(env.items())
        if not {type(text) for pair in pairs for text in pair} <= {str, _NONE}:
            return None
        return command, pairs, self.tty, self.privileged, self.streams


def exec_plan(base: ExecBase, request: ExecRequest) -> Plan:
    """Compile the plan of an exec.

    Returns:
        A plan that `Plan.check` accepts.

    Raises:
        ConfigError: nothing to run, a bad name in the environment, an unknown user, a workdir that
            is not absolute.
        MissingFeature: capabilities that the container was given are not there any more.
    """
    check_shapes({"env": request.env, "workdir": request.workdir})
    key = request.key()
    if key is None:
        return _compiled(base, request)
    plan = base._plans.get(key)
    if plan is None:
        command, pairs, tty, privileged, streams = key  # the request may change meanwhile
        env = None if pairs is None else dict(pairs)
        frozen = ExecRequest(command, env, None, None, tty, privileged, streams)
        plan = _compiled(base, frozen)
        if len(base._plans) >= _PLANS_MAX:
            base._plans.clear()
        if len(plan.encode()) <= _BYTES_MAX:
            base._plans[key] = plan
    return plan


def _compiled(base: ExecBase, request: ExecRequest) -> Plan:
    key = request.tty, request.privileged, request.streams
    common = request.user is None and request.workdir is None
    frame = base._frames.get(key) if common else None
    if frame is None:
        frame = _frame(base, request)
        if common:
            base._frames[key] = frame
    return Plan(
        inputs=frame.inputs,
        child=(*frame.child, _execute(base, request, frame.home)),
        namespaces=0,
        kind="exec",
        notes=frame.notes,
    )


def _frame(base: ExecBase, request: ExecRequest) -> _Frame:
    if base.facts.bare:
        return _bare_frame(base, request)
    options, facts = base.options, base.facts
    notes: list[str] = []
    security = options.get("security") or _SECURITY
    user = user_of(
        request.user,
        user_of(options.get("user"), default_user(options, base.image.user, facts.ids)),
    )
    ids = userns.ids_of(security, base.ids, facts.ids)
    identity = userns.identity_among(
        resolve_user(user, base.passwd, base.group), ids, facts.ids, notes
    )
    workdir = working_directory(
        base.image, options.get("workdir") if request.workdir is None else request.workdir
    )
    if request.privileged:
        security = Security.privileged()
        bounding = base.privileges
    else:
        available = facts.capabilities if security.userns == "host" else ALL_MASK
        bounding = bounding_set(security, available, notes)
    child = list(rlimit_ops(facts.rlimits, limits_of(options).ulimits))
    if base.oom_score_adj is not None:
        child.append(Op(Code.OOM_SCORE, arena=(str(base.oom_score_adj), None, None)))
    child.append(defaults.KEYRING)
    child += _streams(request)
    if ids is not None:
        child.append(userns.join_step(ids, identity))
    child.append(defaults.UMASK)
    child += confine(security, identity, bounding, workdir, facts, notes)
    steps = tuple([packed(op) if op.arena == _NO_ARGUMENTS else op for op in child])
    inputs = () if request.tty else tuple([Input(kind) for kind in request.streams])
    return _Frame(inputs, steps, identity.home, tuple(notes))


def _bare_frame(base: ExecBase, request: ExecRequest) -> _Frame:
    from containerkit.launch import bare
    from containerkit.launch.compile import is_host_network

    options, notes = base.options, list[str]()
    if request.privileged:
        raise MissingFeature(
            "cannot give an exec all rights: no namespaces are to be had here",
            hint=bare.HINT,
            feature="nested",
        )
    identity = bare.identity_of(
        options, base.image.user, base.passwd, base.group, base.facts, notes, user=request.user
    )
    workdir = options.get("workdir") if request.workdir is None else request.workdir
    steps = bare.enclose(
        options.get("security") or _SECURITY,
        identity,
        limits_of(options),
        base.facts,
        working_directory(base.image, workdir),
        notes,
        tree=-1,
        in_place=base.in_place,
        network=is_host_network(options.get("network")),
    )
    inputs = () if request.tty else tuple([Input(kind) for kind in request.streams])
    return _Frame(inputs, (*_streams(request), *steps), identity.home, tuple(notes))


def _streams(request: ExecRequest) -> tuple[Op, ...]:
    if request.tty:
        return (defaults.TERMINAL,)
    slots = {kind: slot for slot, kind in enumerate(request.streams)}
    first, second, third = (slots.get(kind, -1) for kind in STREAMS)
    return Op(Code.STDIO, fd=(first, second, third)), defaults.SESSION


def _execute(base: ExecBase, request: ExecRequest, home: str) -> Op:
    options = base.options
    argv = command_line(base.image, request.command, ())
    own = base.facts.bare or options.get("network") == "host"
    host = base.facts.hostname if own else ""
    env = environment(
        base.image,
        {**(options.get("env") or {}), **(request.env or {})},
        hostname=host_name(options.get("hostname"), host or base.id[:12]),
        home=home,
        tty=request.tty,
    )
    paths = candidates(argv[0], env.get("PATH"))
    envp = tuple([f"{name}={value}" for name, value in env.items()])
    return Op(Code.EXEC, arena=(paths, argv, envp))

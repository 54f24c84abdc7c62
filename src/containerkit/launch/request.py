"""What is compiled into a plan: the request of a caller, and the facts of the host.

Owns both values, and the refusal of options that have no meaning yet.  Must not fill in defaults;
`compile` and the modules it calls do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import attrs

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.capabilities import ALL_MASK
from containerkit.launch.process import check_variable
from containerkit.model.device import Node
from containerkit.model.limits import Limits, Unlimited
from containerkit.model.mount import Mount
from containerkit.model.options import ContainerOptions
from containerkit.model.platform import Platform
from containerkit.model.restart import Restart
from containerkit.model.security import Security
from containerkit.model.signals import signal_number

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.model.image_config import ImageConfig
    from containerkit.model.options import Command
    from containerkit.model.rootfs import Rootfs

_ID: Final = re.compile(r"[0-9a-f]{64}")

STREAMS: Final = ("stdin", "stdout", "stderr")

# Options that a later version honours; with each, the value that asks for nothing.
_LATER: Final[dict[str, tuple[Any, ...]]] = {
    "networks": (None, {}),
    "dns": (None, (), []),
    "extra_hosts": (None, {}),
    "ports": (None, (), [], {}),
}

_PULLS: Final = ("missing", "always", "never")

# What the value of an option must be to be looked into; with each, how it looks.
_SHAPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "env": ((Mapping,), 'as {"NAME": "value"}'),
    "labels": ((Mapping,), 'as {"app": "web"}'),
    "secrets": ((Mapping,), 'as {"token": Path("/etc/token")}'),
    "mounts": ((list, tuple), "as [Mount.bind(source, target)]"),
    "hostname": ((str,), 'as "web"'),
    "workdir": ((str, PathLike), 'as "/srv"'),
    "limits": ((Limits, Unlimited), 'as Limits(memory="64m"), or UNLIMITED'),
    "security": ((Security,), "as Security.strict()"),
}

_SECRET: Final = (bytes, bytearray, memoryview, str, Path)

# What the values of these may be; their keys are text.
_VALUES: Final[dict[str, tuple[type, ...]]] = {
    "env": (str, type(None)),
    "labels": (str,),
    "secrets": (*_SECRET, type(None)),  # None: of a record
}

_KNOWN: Final = frozenset(ContainerOptions.__annotations__)


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ConfigError(f"{value!r} is not a container's id")
    return value


def _refused(name: str) -> MissingFeature:
    return MissingFeature(
        f"cannot use the option {name}: this version of containerkit does not have it yet",
        feature=name,
    )


def check_given(options: Mapping[str, Any]) -> None:
    """Refuse what `check_options` does, and a secret without content, which only a record has.

    Raises:
        ConfigError, MissingFeature: as `check_options`.
    """
    check_options(options)
    for name, content in (options.get("secrets") or {}).items():
        _check_entry("secrets", name, content, _SECRET)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse unknown options, and those that this version does not honour.

    Raises:
        ConfigError: an unknown name, a lifetime that is none, a restart without "detached".
        MissingFeature: an option of a later version.
    """
    unknown = options.keys() - _KNOWN
    if unknown:
        from containerkit.launch.spelling import meant

        name = min(unknown)
        raise ConfigError(f"there is no option {name!r}", hint=meant(name, _KNOWN))
    lifetime = options.get("lifetime", "owner")
    if lifetime not in ("owner", "detached"):
        raise ConfigError(f"lifetime {lifetime!r} is neither 'owner' nor 'detached'")
    restarts = Restart.of(options.get("restart")).policy != "no"
    if lifetime == "owner" and restarts:
        raise ConfigError(
            "restart needs lifetime='detached': an owner's container ends with its owner"
        )
    for name in _LATER.keys() & options.keys():
        if options[name] not in _LATER[name]:
            raise _refused(name)
    _check_values(options)


def _check_values(options: Mapping[str, Any]) -> None:
    """Refuse values that are used only later, or not at all in a `run`."""
    check_shapes(options)
    for mount in options.get("mounts") or ():
        if not isinstance(mount, Mount):
            raise ConfigError(
                f"mounts: {mount!r} is no mount", hint="as Mount.bind(source, target)"
            )
    pull = options.get("pull", "missing")
    if pull not in _PULLS:
        raise ConfigError(f"pull {pull!r} is not one of {', '.join(map(repr, _PULLS))}")
    platform: object = options.get("platform")
    if platform is not None and not isinstance(platform, Platform):
        Platform.parse(platform)
    if options.get("stop_signal") is not None:
        signal_number(options["stop_signal"])
    grace = options.get("stop_grace")
    if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int | float)):
        raise ConfigError(f"stop_grace {grace!r} is not a number of seconds")
    if grace is not None and not grace >= 0:
        raise ConfigError(f"stop_grace {grace!r} is not a number of seconds")


def check_shapes(options: Mapping[str, Any]) -> None:
    """Refuse values of another type than what they are looked into for.

    Raises:
        ConfigError: one of them is.
    """
    for name, (kinds, hint) in _SHAPES.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kinds):
            raise ConfigError(f"{name} has the wrong type, {type(value).__name__}", hint=hint)
    for name, kinds in _VALUES.items():
        for key, value in (options.get(name) or {}).items():
            _check_entry(name, key, value, kinds)
    for key, value in (options.get("env") or {}).items():
        check_variable(key, value)


def _check_entry(name: str, key: object, value: object, kinds: tuple[type, ...]) -> None:
    """Refuse an entry whose key is no text, or whose value is of no type in *kinds*."""
    hint = f"{_SHAPES[name][1]}; numbers by str()"
    if not isinstance(key, str):
        raise ConfigError(f"{name}: the name {key!r} is {type(key).__name__}, not text", hint=hint)
    if not isinstance(value, kinds):
        # Only a label's value may be shown: the others can be secret.
        shown = f"{value!r}, " if name == "labels" else ""
        wanted = "bytes, text or a path" if name == "secrets" else "text"
        raise ConfigError(
            f"{name}: the value of {key!r} is {shown}{type(value).__name__}, not {wanted}",
            hint=hint,
        )


def _names(value: Iterable[str]) -> frozenset[str]:
    return frozenset(value)


def _rlimits(value: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple(value)


class Ids(NamedTuple):
    """The ids that there are for a container's processes.

    Attributes:
        uids, gids: (first, how many) of each range.
    """

    uids: tuple[tuple[int, int], ...]
    gids: tuple[tuple[int, int], ...]

    @property
    def single(self) -> bool:
        """Whether there is only group 0: such a process can not change its groups (setgroups(2))."""
        return self.gids == ((0, 1),)

    def missing(self, uid: int, gid: int) -> str | None:
        """Say which of the two is not there; None: both are."""
        for name, one, ranges in (("user", uid, self.uids), ("group", gid, self.gids)):
            if not any(first <= one < first + count for first, count in ranges):
                return f"{name} {one}"
        return None

    def groups(self, groups: Iterable[int]) -> tuple[int, ...]:
        """Return those groups that are there."""
        return tuple(gid for gid in groups if not self.missing(self.uids[0][0], gid))


@attrs.frozen
class HostFacts:
    """What `compile_plan` must know of the host; the runtime's probe finds it.

    Args:
        cgroup: which version has the controllers; None: no control group can be made.
        controllers: those that a container's group can have.
        cgroup_files: of `launch.limits.OPTIONAL_FILES`, those that this kernel has.
        rlimits: (resource, soft, hard) of the caller, before the launcher raises its own; -1 is
            unlimited.
        capabilities: the bounding set a container can be given.
        ids: those of the launcher's user namespace; None: all.
        euid, egid: of the caller.
        hostname: of the host, for containers in its network.
        machine: as uname(2) says it, whose numbers of system calls a filter needs.
        kernel: the first two numbers of its version, which a filter may ask for.
        hardware: paths of /sys that are hidden beside the default ones, of this host's devices.
        bare: there are no namespaces to be had; see `launch.bare`.
        devices: device nodes can be made in the store, and opened there.
    """

    cgroup: Literal["v1", "v2", "hybrid"] | None = None
    controllers: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    cgroup_files: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    rlimits: tuple[tuple[int, int, int], ...] = attrs.field(default=(), converter=_rlimits)
    capabilities: int = ALL_MASK
    ids: Ids | None = None
    euid: int = 0
    egid: int = 0
    hostname: str = ""
    machine: str = "x86_64"
    kernel: tuple[int, int] = (6, 18)
    hardware: tuple[str, ...] = ()
    bare: bool = False
    devices: bool = True


@attrs.frozen
class LaunchRequest:
    """A container to be started.

    Args:
        id: 64 hexadecimal digits.
        image: the image's config.
        rootfs: its root file system.
        command: as `Engine.run` takes it.
        options: as the caller gave them; secrets are read by name only.
        passwd, group: content of the image's files; None where it has none.
        file_sources: the host paths, of bind mounts, that are not directories.
        streams: which of "stdin", "stdout", "stderr" the caller sends a descriptor for; the others
            are /dev/null.  None with the option tty, nor for what is kept.
        ephemeral: what it writes goes to a tmpfs, and everything of it is removed when it ends.
        kept: its directory, record and log stay when it has ended; the launcher keeps the log and
            holds its input.
        park: nothing is started: what is mounted for it is held while others use its files; its
            record stays as it is.
        create: the launcher makes the container's directory, and removes it at the end; False: it
            must be there, and stays.
        volatile: no writes to the upper directory survive a crash of the host; for a container
            that does not survive it either.
        hosts, resolv_conf: content for network "host"; None leaves the image's own.
        oom_score_adj: -1000 to 1000; None leaves the caller's.
        ids: those that were chosen for the option userns="auto".
        devices: the numbers ("8:0") of block devices that ``limits`` names by path.
        nodes: what the devices are, by path, that ``security`` gives.
        copied: why the layers of ``rootfs`` are a copy that has the container's ids already; None: all
            containers share them.
    """

    id: str = attrs.field(converter=_id)
    image: ImageConfig = attrs.field(repr=False)
    rootfs: Rootfs
    command: Command | None = None
    options: ContainerOptions = attrs.field(factory=ContainerOptions, repr=False)
    passwd: bytes | None = attrs.field(default=None, repr=False)
    group: bytes | None = attrs.field(default=None, repr=False)
    file_sources: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    streams: tuple[str, ...] = STREAMS
    ephemeral: bool = True
    kept: bool = False
    park: bool = False
    create: bool = True
    volatile: bool = True
    hosts: bytes | None = attrs.field(default=None, repr=False)
    resolv_conf: bytes | None = attrs.field(default=None, repr=False)
    oom_score_adj: int | None = None
    ids: IdMap | None = None
    devices: Mapping[str, str] = attrs.field(factory=dict)
    nodes: Mapping[str, Node] = attrs.field(factory=dict)
    copied: str | None = None

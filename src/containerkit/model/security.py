"""What a container may do: capabilities, namespaces of users, masks; and its presets.

Owns the `Security` value and the names of capabilities.  Must not know masks of the kernel's
defaults or numbers of system calls; `launch` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

import attrs

from containerkit.errors import ConfigError
from containerkit.model.device import Device
from containerkit.model.idmap import IdMap
from containerkit.model.seccomp import SeccompProfile

# linux/capability.h, by number
CAPABILITIES: Final = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)

# Docker's, without MKNOD: /dev is a read-only mount and every other mount is nodev.
DEFAULT_CAPABILITIES: Final = frozenset(
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)

# The settings a namespace owns.  Anything else is the host's.  net.*: with its own network only.
_SYSCTL: Final = re.compile(
    r"kernel\.(?:shm(?:max|all|mni|_rmid_forced)|msg(?:max|mnb|mni)|sem)"
    r"|fs\.mqueue\.[a-z_]{1,64}"
    r"|net(?:\.[A-Za-z0-9_-]{1,64}){1,6}"
)


def capability(name: str) -> str:
    """Return the canonical name of a capability: upper case, without ``CAP_``.

    Raises:
        ConfigError: there is none by this name.
    """
    found = str(name).upper().removeprefix("CAP_")
    if found not in CAPABILITIES:
        raise ConfigError(
            f"no capability {name!r}", hint="names as in capabilities(7), such as NET_ADMIN"
        )
    return found


def _changed(base: Collection[str], names: Iterable[str]) -> frozenset[str]:
    """Apply names, ``+NAME`` and ``-NAME`` to a base; plain names replace the base."""
    if isinstance(names, str):
        raise ConfigError(f"capabilities must be a collection of names, not the text {names!r}")
    given = list(names)
    found = set(base) if all(name[:1] in {"+", "-"} for name in given) else set()
    if not given:
        return frozenset()
    for name in given:
        sign, rest = (name[0], name[1:]) if name[:1] in {"+", "-"} else ("+", name)
        chosen = set(CAPABILITIES) if rest.upper() == "ALL" else {capability(rest)}
        found = found | chosen if sign == "+" else found - chosen
    return frozenset(found)


def _capabilities(value: Iterable[str]) -> frozenset[str]:
    return _changed(DEFAULT_CAPABILITIES, value)


def _paths(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    paths = tuple(value)
    for path in paths:
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ConfigError(f"a masked or read-only path must be absolute: {path!r}")
    return paths


def _devices(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ConfigError(f"devices must be a collection of paths, not the text {value!r}")
    given = tuple(value)
    for text in given:
        Device.parse(text)
    return given


def _sysctls(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    pairs = tuple((str(name), str(setting)) for name, setting in items)
    for name, setting in pairs:
        if not _SYSCTL.fullmatch(name):
            raise ConfigError(
                f"sysctl {name!r} can not be set for a container",
                hint="allowed are kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and, with"
                " a network of its own, net.*",
            )
        if not setting or not setting.isprintable():
            raise ConfigError(f"sysctl {name} can not be set to {setting!r}")
    return pairs


def _userns(value: str | IdMap) -> str | IdMap:
    if isinstance(value, IdMap) or value in ("host", "auto"):
        return value
    raise ConfigError(
        f"userns {value!r} is neither 'host', 'auto' nor an IdMap",
        hint="as IdMap([(0, 100000, 65536)])",
    )


SECCOMP_POLICIES: Final = ("default", "strict", "unconfined")
_FILTER_MAX: Final = 4096 * 8  # struct sock_filter, BPF_MAXINSNS of them

SeccompValue = str | bytes | SeccompProfile | Mapping[str, Any]


def _seccomp(value: SeccompValue) -> str | bytes | SeccompProfile:
    if isinstance(value, bytes | bytearray | memoryview):
        program = bytes(value)
        if not program or len(program) % 8 or len(program) > _FILTER_MAX:
            raise ConfigError(
                f"seccomp: {len(program)} bytes are not a filter program",
                hint="struct sock_filter each; a profile in JSON is given as text",
            )
        return program
    if isinstance(value, SeccompProfile):
        return value
    if isinstance(value, str) and value in SECCOMP_POLICIES:
        return value
    text: object = value
    if isinstance(text, Mapping) or (isinstance(text, str) and text.lstrip()[:1] == "{"):
        return SeccompProfile.parse(text)
    raise ConfigError(
        f"there is no seccomp policy {value!r}",
        hint=f"there are {', '.join(SECCOMP_POLICIES)}; or a profile in Docker's format",
    )


@attrs.frozen
class Security:
    """What a container may do.

    Args:
        capabilities: names as in capabilities(7), with or without ``CAP_``, or "ALL".  Plain names
            are the whole set; names that all begin with ``+`` or ``-`` change the default set.
        seccomp: which system calls it may make: "default", "strict", "unconfined"; a profile in
            Docker's JSON format, as text or as what it says; or a finished filter, struct
            sock_filter each.
        userns: "host" shares the caller's user namespace; "auto" gives one of its own, with a range
            of ids that nothing else has; an `IdMap` one with those ids.  Where the kernel has no
            id-mapped mounts the image's layers are copied for it.
        no_new_privileges: setuid programs and file capabilities give nothing.
        read_only: the root is read-only; mounts are as they say.
        masked_paths: hidden; None for the default list.
        read_only_paths: read-only; None for the default list.
        devices: host devices to give, each as ``source[:target][:access]``: "/dev/fuse",
            "/dev/fuse:/dev/other", "/dev/sda:r".  The target is below /dev and has the source's
            owner and mode; access is of "r", "w" and "m" (mknod), "rwm" when left out.  All others
            but null, zero, full, random, urandom, tty and its own terminals are refused by a
            control group, even where a node can be made.
        sysctls: settings of the container's own namespaces.

    Raises:
        ConfigError: an unknown capability, a relative path, a device that can not be given, a
            sysctl that is the host's, no such policy, no profile.
    """

    capabilities: frozenset[str] = attrs.field(
        default=DEFAULT_CAPABILITIES, converter=_capabilities
    )
    seccomp: str | bytes | SeccompProfile = attrs.field(default="default", converter=_seccomp)
    userns: str | IdMap = attrs.field(default="host", converter=_userns)
    no_new_privileges: bool = True
    read_only: bool = False
    masked_paths: tuple[str, ...] | None = attrs.field(default=None, converter=_paths)
    read_only_paths: tuple[str, ...] | None = attrs.field(default=None, converter=_paths)
    devices: tuple[str, ...] = attrs.field(default=(), converter=_devices)
    sysctls: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_sysctls)
    preset: Literal["default", "strict", "privileged"] = "default"

    @classmethod
    def default(cls, **overrides: Any) -> Security:
        """Docker's default, less MKNOD, with no_new_privileges; fields by name change it."""
        return cls(**overrides)

    @classmethod
    def strict(cls, **overrides: Any) -> Security:
        """For code nobody trusts: no capabilities, a user namespace, a read-only root, fewer calls.

        Such a container is user 65534 and has no network, 512 MiB of memory without swap, one
        processor, 128 processes, 1,024 descriptors and no core dumps; ``user`` and ``limits`` set
        others.  What it promises holds, or the start raises `MissingFeature`.  An ordinary user to
        whom no other ids are granted (subuid(5)) has it as the one user there is.
        """
        capabilities = _changed((), overrides.pop("capabilities", ()))
        preset = {
            "seccomp": "strict",
            "userns": "auto",
            "read_only": True,
            "preset": "strict",
        }
        return cls(**{**preset, **overrides, "capabilities": capabilities})

    @classmethod
    def privileged(cls, **overrides: Any) -> Security:
        """As much as the caller itself may do: its capabilities, no filter, no masks.

        It has the host's /dev, read-only, with all its devices and with terminals and shared memory
        of its own; /sys and its control groups can be written to.  `explain` notes what the host
        could not give.
        """
        capabilities = _changed(CAPABILITIES, overrides.pop("capabilities", ["ALL"]))
        preset = {
            "seccomp": "unconfined",
            "no_new_privileges": False,
            "masked_paths": (),
            "read_only_paths": (),
            "preset": "privileged",
        }
        return cls(**{**preset, **overrides, "capabilities": capabilities})

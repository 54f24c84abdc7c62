"""Which devices a container may open, as the kernel wants it, and where they are in its /dev.

Owns the rules every container has, the rules of version 1 and the program of version 2 that say
the same, and the steps that put devices on their places.  Pure; must not look at the host.

Version 1: a launcher makes all groups of containers below one that has the default rules, and a
new group begins with those of the one above, so they cost a start nothing.  A group never has more
than the one above: who is given more is in a group elsewhere (`MORE`).  Version 2: the program of
the launcher's group holds below it, until a container's group has one of its own.

Spec: kernel documentation, cgroup-v1 (devices) and cgroup-v2 (device controller); linux/bpf.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import pack
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import defaults
from containerkit.launch.ops import (
    F_CREATE,
    F_FILE,
    F_OWN,
    F_RECURSIVE,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    Code,
    Op,
)
from containerkit.launch.plan import Input
from containerkit.model.device import Device, Node

if TYPE_CHECKING:
    from containerkit.launch.mounts import Slots
    from containerkit.launch.request import HostFacts
    from containerkit.model.security import Security

MORE: Final = "devices+"
"""The name of the groups, in version 1, of containers that are given devices."""


class Rule(NamedTuple):
    """What may be done with some devices.

    Attributes:
        kind: "c", "b", or "a" for both.
        major, minor: None for all.
        access: of "r", "w" and "m".
    """

    kind: str
    major: int | None
    minor: int | None
    access: str

    def __str__(self) -> str:
        """As version 1 reads it."""
        major, minor = ("*" if one is None else one for one in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


# The nodes of our /dev, which a child makes, in version 2 in its group already; and it makes no other.
# Terminals (136:*), /dev/console and ptmx.
DEFAULT_RULES: Final = (
    Rule("c", 1, 3, "rwm"),
    Rule("c", 1, 5, "rwm"),
    Rule("c", 1, 7, "rwm"),
    Rule("c", 1, 8, "rwm"),
    Rule("c", 1, 9, "rwm"),
    Rule("c", 5, 0, "rwm"),
    Rule("c", 5, 1, "rw"),
    Rule("c", 5, 2, "rw"),
    Rule("c", 136, None, "rw"),
)
ALL_RULES: Final = (Rule("a", None, None, "rwm"),)

_KINDS: Final = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*

# linux/bpf_common.h, linux/bpf.h
_LOAD_WORD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE: Final = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_SET: Final = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND: Final = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT_RIGHT: Final = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_UNLESS: Final = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_UNLESS_SAME: Final = 0x5D  # BPF_JMP | BPF_JNE | BPF_X
_EXIT: Final = 0x95  # BPF_JMP | BPF_EXIT
_CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR = 1, 2, 3, 4, 5


def device_program(rules: Iterable[Rule]) -> bytes:
    """Return the program of a group of version 2: ``struct bpf_insn`` each.

    It is given a ``struct bpf_cgroup_dev_ctx`` of what somebody wants to do, and returns 1 when one
    rule allows all of that, else 0.
    """
    parts = [
        _code(_LOAD_WORD, _KIND, _CONTEXT, 0),  # access_type: access << 16 | kind
        _code(_MOVE, _WANTED, _KIND),
        _code(_AND, _KIND, value=0xFFFF),
        _code(_SHIFT_RIGHT, _WANTED, value=16),
        _code(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _code(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        parts += _rule(rule)
        if rule[:3] == ("a", None, None) and len(rule.access) == len(_ACCESS):
            break  # the kernel takes no program with steps that are never reached
    else:
        parts += [_code(_SET, value=0), _code(_EXIT)]
    return b"".join(parts)


def _rule(rule: Rule) -> list[bytes]:
    access = sum(_ACCESS[letter] for letter in rule.access)
    parts: list[tuple[int, int, int, int]] = []  # code, register, other, value
    if rule.kind != "a":
        parts.append((_UNLESS, _KIND, 0, _KINDS[rule.kind]))
    if access != sum(_ACCESS.values()):
        # The context is read already: its register is free.
        parts.append((_MOVE, _CONTEXT, _WANTED, 0))
        parts.append((_AND, _CONTEXT, 0, access))
        parts.append((_UNLESS_SAME, _CONTEXT, _WANTED, 0))
    if rule.major is not None:
        parts.append((_UNLESS, _MAJOR, 0, rule.major))
    if rule.minor is not None:
        parts.append((_UNLESS, _MINOR, 0, rule.minor))
    parts += [(_SET, 0, 0, 1), (_EXIT, 0, 0, 0)]
    return [
        _code(
            code, one, other, len(parts) - at - 1 if code in {_UNLESS, _UNLESS_SAME} else 0, value
        )
        for at, (code, one, other, value) in enumerate(parts)
    ]


def _code(code: int, register: int = 0, other: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return pack("<BBhi", code, register | other << 4, offset, value)


# ---- what a container gets


def devices_of(security: Security) -> tuple[Device, ...]:
    """Return the devices that a container is given.

    Raises:
        ConfigError: two have the same place; a privileged one has all of the host's already.
    """
    devices = tuple(map(Device.parse, security.devices))
    for device in devices:
        if sum(device.target == other.target for other in devices) > 1:
            raise ConfigError(f"there are two devices on {device.target}")
        for other in devices:
            if other.target.startswith(device.target + "/"):
                raise ConfigError(f"{device.target} is a device, {other.target} can not be in it")
        if is_privileged(security) and device.source != device.target:
            raise ConfigError(
                f"device {device.source}: a privileged container has the host's /dev as it is",
                hint=f"it finds {device.source} there",
            )
    return devices


def is_privileged(security: Security) -> bool:
    """Return whether a container has all the host's devices."""
    return security.preset == "privileged"


def wants_devices(security: Security) -> bool:
    """Return whether a container has more devices than all have."""
    return bool(security.devices) or is_privileged(security)


class Access(NamedTuple):
    """What makes rules hold.

    Attributes:
        settings: for the control group, as `limits.cgroup_settings` has them.
        prepare: steps behind the one that makes the group.
    """

    settings: tuple[str, ...] = ()
    prepare: tuple[Op, ...] = ()


def device_access(
    security: Security, nodes: Mapping[str, Node], facts: HostFacts, notes: list[str]
) -> Access:
    """Return what gives a container's group the rules it must have beyond the default ones.

    Args:
        security: its devices and preset are read.
        nodes: what each of its devices is, by path.
        facts: the groups that there are.
        notes: gets a sentence where rules are not there.

    Raises:
        MissingFeature: a device with less than full access, where no rule can hold that; devices,
            where the rules can not be widened.
    """
    if is_privileged(security) and facts.ids is not None:
        notes.append(
            "with the rights of a user namespace: over the container's own, and devices are open to"
            " it as they are to who runs this program"
        )
    if "devices" not in facts.controllers:
        _without_rules(security, facts, notes)
        return Access()
    if not wants_devices(security):
        return Access()
    rules = ALL_RULES if is_privileged(security) else (*DEFAULT_RULES, *_rules(security, nodes))
    if facts.cgroup == "v2":
        return Access(prepare=(Op(Code.DEVICES, arena=(device_program(rules), None, None)),))
    if MORE not in facts.controllers:
        raise MissingFeature(
            "cannot give devices: the host has the control groups of devices together with others",
            feature="devices",
        )
    if is_privileged(security):
        # The group is made for a setting, this one being as it was; its rules are those above it.
        return Access((MORE, "cgroup.clone_children", "0"))
    settings = [MORE, "devices.deny", "a"]
    for rule in rules:
        settings += (MORE, "devices.allow", str(rule))
    return Access(tuple(settings))


def _rules(security: Security, nodes: Mapping[str, Node]) -> list[Rule]:
    return [Rule(*nodes[device.source], device.access) for device in devices_of(security)]


def _without_rules(security: Security, facts: HostFacts, notes: list[str]) -> None:
    for device in devices_of(security):
        if not {"r", "w"} <= set(device.access):
            raise MissingFeature(
                f"cannot give {device.source} with access {device.access} only: there are no"
                " control groups here that limit what is done with a device",
                hint="leave the access out to give all of it",
                feature="cgroup devices",
            )
    if not is_privileged(security):
        why = "there are no control groups"
        if facts.cgroup is not None:
            why = "the host has no control groups of devices to use"
        if facts.cgroup == "v2":
            why = "the kernel takes no program for them from this caller"
        notes.append(
            f"no rules on devices: {why}; no device file can be opened on any mount but /dev all"
            " the same"
        )


# Read-only: a node can be opened all the same, and its owner and mode stay the host's.
_ATTRS: Final = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY


def _source(path: str, *, recursive: bool = False) -> Input:
    return Input("source", path, recursive)


def _host_dev(facts: HostFacts) -> Input:
    # Who is root in a user namespace only can not see what the host's mounts cover.
    return _source("/dev", recursive=facts.euid != 0)


def add_inputs(slots: Slots, security: Security, facts: HostFacts) -> None:
    """Reserve a slot for everything the caller has to send."""
    devices = devices_of(security)
    if is_privileged(security):
        slots.add(_host_dev(facts))
        return
    for device in devices:
        slots.add(_source(device.source))


def dev_steps(slots: Slots, security: Security, facts: HostFacts) -> tuple[list[Op], list[Op]]:
    """Return the prepare and child steps that mount /dev, read-only, without what is below it.

    Its own is shared by all containers.  One with further devices has a copy of that, in which
    there are places for them; a privileged one has the host's.
    """
    if not wants_devices(security):
        return [], [defaults.DEV]
    prepare: list[Op] = []
    if is_privileged(security):
        given = _host_dev(facts)
        slot = slots.fill()
        prepare.append(
            Op(
                Code.CLONE,
                flags=F_RECURSIVE if given.recursive else 0,
                fd=(slots.add(given), slot, -1),
                value=(_ATTRS, 0),
            )
        )
        return prepare, [_mount(slot, "/dev", F_CREATE | F_OWN)]
    child = [*defaults.OWN_DEV]
    for device in devices_of(security):
        slot = slots.fill()
        source = slots.add(_source(device.source))
        prepare.append(Op(Code.CLONE, fd=(source, slot, -1), value=(_ATTRS, 0)))
        child.append(_mount(slot, device.target, F_CREATE | F_FILE | F_OWN))
    child.append(defaults.DEV_READ_ONLY)
    return prepare, child


def _mount(slot: int, target: str, flags: int) -> Op:
    return Op(Code.MOVE_MOUNT, flags=flags, fd=(slot, -1, -1), arena=(target, None, None))


def group_view(facts: HostFacts) -> list[Op]:
    """Return the steps that mount, read-only, the control groups that a container is in.

    What runs in it finds its limits there.  The root of each is the container's own group: a control
    group namespace's root, cgroup_namespaces(7).
    """
    if facts.cgroup is None:
        return []
    return [defaults.GROUPS2 if facts.cgroup == "v2" else defaults.GROUPS]


def control_group_steps(facts: HostFacts) -> list[Op]:
    """Return the steps that mount the control groups a privileged container is in, on its /sys."""
    if facts.cgroup is None:
        return []
    if facts.cgroup == "v2":
        return [defaults.CGROUP2]
    return [defaults.CGROUPS, *map(defaults.cgroup, sorted(facts.controllers - {MORE}))]

"""Policies for system calls, as data: rules of names, conditions and actions.

Owns the values and the reading of Docker's JSON profiles.  Must not know numbers or BPF;
`launch.seccomp` compiles.

Spec: runtime-spec, config-linux.md, "Seccomp"; Docker's profile format adds ``includes`` and
``excludes``; seccomp(2) for the actions.
"""

from __future__ import annotations

import errno as errnos
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Self

import attrs

from containerkit.errors import ConfigError

Action = Literal["allow", "errno", "kill_process", "kill_thread", "trap", "log", "trace"]
Comparison = Literal["eq", "ne", "lt", "le", "gt", "ge", "masked_eq"]
Version = tuple[int, int]

_ACTIONS: Final[Mapping[str, Action]] = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill_process",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_TRACE": "trace",
}
_COMPARISONS: Final[Mapping[str, Comparison]] = {
    "SCMP_CMP_EQ": "eq",
    "SCMP_CMP_NE": "ne",
    "SCMP_CMP_LT": "lt",
    "SCMP_CMP_LE": "le",
    "SCMP_CMP_GT": "gt",
    "SCMP_CMP_GE": "ge",
    "SCMP_CMP_MASKED_EQ": "masked_eq",
}
_VERSION: Final = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_U64: Final = (1 << 64) - 1
_RULES_MAX: Final = 4096
_NAMES_MAX: Final = 8192


def _names(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(value)


def _set(value: Iterable[str]) -> frozenset[str]:
    return frozenset(value)


def _conditions(value: Iterable[Condition]) -> tuple[Condition, ...]:
    return tuple(value)


def _rules(value: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(value)


def _number(value: object, what: str, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise ConfigError(f"seccomp: {what} {value!r} is not a number from 0 to {largest}")
    return value


@attrs.frozen
class Condition:
    """A condition on one argument of a call.

    Args:
        index: of the argument, 0 to 5.
        op: how it is compared; "masked_eq": (argument & mask) == value.
        value: 64 bits; of an argument of C type int only the low 32 count, on both sides.
        mask: for "masked_eq".
    """

    index: int
    op: Comparison
    value: int
    mask: int = _U64

    def __attrs_post_init__(self) -> None:
        _number(self.index, "an argument's index", 5)
        _number(self.value, "a value", _U64)
        _number(self.mask, "a mask", _U64)
        if self.op not in _COMPARISONS.values():
            raise ConfigError(f"seccomp: no comparison {self.op!r}")


@attrs.frozen
class Rule:
    """What happens to some calls.

    Args:
        names: of calls; those that the kernel's architecture does not have are passed over.
        action: when all conditions hold.
        errno: what the call says, for the action "errno".
        conditions: all must hold; none: always.
        capabilities: the rule is there only when the container holds all of these.
        without: the rule is there only when the container holds none of these.
        arches: it is there only on these (Docker's names: "amd64"); none: on all.
        not_arches: it is on none of these.
        since: it is there only from this version of the kernel on, (6, 1) for 6.1.
        until: it is there only on older ones.
        host: the rule is there only when the container shares the host's user namespace.
    """

    names: tuple[str, ...] = attrs.field(converter=_names)
    action: Action = "allow"
    errno: int = errnos.EPERM
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=_conditions)
    capabilities: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    without: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    arches: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    not_arches: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    since: Version | None = None
    until: Version | None = None
    host: bool = False

    def __attrs_post_init__(self) -> None:
        if self.action not in _ACTIONS.values():
            raise ConfigError(f"seccomp: no action {self.action!r}")
        _number(self.errno, "an errno", 4095)


@attrs.frozen(cache_hash=True)
class SeccompProfile:
    """A policy: rules in order, the first that holds decides, else the default.

    Args:
        rules: in order.
        default: the action for everything else.
        default_errno: what such a call says, for the action "errno".
    """

    rules: tuple[Rule, ...] = attrs.field(converter=_rules, repr=lambda rules: f"<{len(rules)}>")
    default: Action = "errno"
    default_errno: int = errnos.EPERM

    @classmethod
    def parse(cls, profile: str | bytes | Mapping[str, Any]) -> Self:
        """Read a profile in Docker's format, or the runtime-spec's.

        Args:
            profile: JSON text, or what it says.

        Raises:
            ConfigError: it is none, or says what this library does not do (notify actions).
        """
        if isinstance(profile, str | bytes):
            try:
                profile = json.loads(profile)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"seccomp: the profile is not JSON: {error}") from error
        if not isinstance(profile, Mapping):
            raise ConfigError("seccomp: a profile is a JSON object")
        rules = profile.get("syscalls")
        rules = [] if rules is None else rules
        if not isinstance(rules, list) or len(rules) > _RULES_MAX:
            raise ConfigError(f"seccomp: syscalls is not a list of at most {_RULES_MAX} rules")
        default = _action(profile.get("defaultAction"))
        errno = profile.get("defaultErrnoRet")
        return cls(
            rules=tuple([made for rule in rules for made in _read_rule(rule)]),
            default=default,
            default_errno=errnos.EPERM if errno is None else _number(errno, "an errno", 4095),
        )


def _action(value: object) -> Action:
    found = _ACTIONS.get(value) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(
            f"seccomp: the action {value!r} is not one of this library",
            hint="as SCMP_ACT_ALLOW or SCMP_ACT_ERRNO; there is no SCMP_ACT_NOTIFY",
        )
    return found


def _texts(value: object, what: str, most: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > most:
        raise ConfigError(f"seccomp: {what} is not a list of at most {most}")
    if not all(isinstance(text, str) for text in value):
        raise ConfigError(f"seccomp: {what} holds something else than texts")
    return tuple(value)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"seccomp: {what} is not an object")
    return value


def _read_rule(given: object) -> list[Rule]:
    """Return the rules that one of a profile stands for.

    Where one argument has several conditions, any of them is enough, as runc has it: each becomes a
    rule.
    """
    rule = _object(given, "a rule")
    names = _texts(rule.get("names"), "names", _NAMES_MAX)
    if isinstance(rule.get("name"), str):
        names = (*names, rule["name"])
    includes = _object(rule.get("includes"), "includes")
    excludes = _object(rule.get("excludes"), "excludes")
    arguments = rule.get("args") or []
    if not isinstance(arguments, list) or len(arguments) > 16:
        raise ConfigError("seccomp: args is not a list of at most 16 conditions")
    errno = rule.get("errnoRet")
    made = Rule(
        names=names,
        action=_action(rule.get("action")),
        errno=errnos.EPERM if errno is None else _number(errno, "an errno", 4095),
        conditions=tuple(_condition(argument) for argument in arguments),
        capabilities=_capabilities(includes),
        without=_capabilities(excludes),
        arches=frozenset(_texts(includes.get("arches"), "arches", 64)),
        not_arches=frozenset(_texts(excludes.get("arches"), "arches", 64)),
        since=_version(includes.get("minKernel")),
        until=_version(excludes.get("minKernel")),
    )
    indices = {condition.index for condition in made.conditions}
    if len(indices) == len(made.conditions):
        return [made]
    return [attrs.evolve(made, conditions=(condition,)) for condition in made.conditions]


def _capabilities(where: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        name.upper().removeprefix("CAP_") for name in _texts(where.get("caps"), "caps", 64)
    )


def _version(given: object) -> Version | None:
    if given is None or given == "":
        return None
    found = _VERSION.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ConfigError(f"seccomp: minKernel {given!r} is not a version", hint='as "4.8"')
    return int(found[1]), int(found[2])


def _condition(given: object) -> Condition:
    """The specification's ``value`` is the mask of a masked comparison, ``valueTwo`` its value."""
    argument = _object(given, "an argument")
    name = argument.get("op")
    op = _COMPARISONS.get(name) if isinstance(name, str) else None
    if op is None:
        raise ConfigError(f"seccomp: no comparison {name!r}")
    index = _number(argument.get("index"), "an argument's index", 5)
    value = _number(argument.get("value", 0), "a value", _U64)
    if op == "masked_eq":
        second = _number(argument.get("valueTwo", 0), "valueTwo", _U64)
        return Condition(index, op, second, mask=value)
    return Condition(index, op, value)

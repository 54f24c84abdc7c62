"""A policy for system calls, compiled into the program that the kernel runs before each.

Owns what a rule means for a number of an architecture, and the cache of compiled programs.  Pure:
`bpf` makes the instructions, `syscalls` has the numbers, `seccomp_policies` the policies by name.

What is not in the rules, in every policy whose default refuses:
- a call that came with a later kernel than the tables know says ENOSYS, so that a C library falls
  back to an older one; so does clone3, whose flags lie in memory that no filter can see;
- a known call says what the policy's default is (EPERM);
- calls of another ABI (32 bits, x32) say ENOSYS, or end the process where a policy wants that.

Between loading the filter and executing the program the launcher makes no call that one could refuse,
unless there is an init, which a process of its own becomes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import bpf
from containerkit.launch.seccomp_policies import POLICIES
from containerkit.launch.syscalls import ARCHITECTURES, INT_ARGUMENTS, Architecture

if TYPE_CHECKING:
    from containerkit.model.seccomp import Action, Condition, Rule, SeccompProfile, Version

# linux/seccomp.h; errno and trace take data in their low 16 bits
_RETURNS: Final[dict[Action, int]] = {
    "kill_process": 0x80000000,
    "kill_thread": 0x00000000,
    "trap": 0x00030000,
    "errno": 0x00050000,
    "trace": 0x7FF00000,
    "log": 0x7FFC0000,
    "allow": 0x7FFF0000,
}
_NOT_THERE: Final = _RETURNS["errno"] | errno.ENOSYS
_LETS_PASS: Final = frozenset[str](("allow", "log", "trace"))
"""A tracer answers for newer calls by itself."""

_YOUNGEST: Final = (1 << 16, 0)


def program_of(
    seccomp: str | bytes | SeccompProfile,
    *,
    machine: str,
    capabilities: Iterable[str],
    own_userns: bool,
    kernel: Version = _YOUNGEST,
) -> bytes | None:
    """Return the filter of a container, None for none.

    Args:
        seccomp: a policy's name, "unconfined", a profile, or a finished program.
        machine: as ``platform.machine()`` has it.
        capabilities: of the container's bounding set.
        own_userns: the container has a user namespace of its own.
        kernel: its version; left out: younger than any that a profile names.

    Raises:
        ConfigError: there is no policy by that name; the policy is too long for the kernel.
        MissingFeature: policies are not known for this machine.
    """
    if isinstance(seccomp, bytes):
        return _finished(seccomp)
    if seccomp == "unconfined":
        return None
    if isinstance(seccomp, str):
        if seccomp not in POLICIES:
            names = ", ".join([*POLICIES, "unconfined"])
            raise ConfigError(f"there is no seccomp policy {seccomp!r}", hint=f"there are {names}")
        seccomp = POLICIES[seccomp]
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise MissingFeature(
            f"cannot filter system calls: the numbers of {machine} are not known",
            hint='Security(seccomp="unconfined") starts without a filter',
            feature="seccomp",
        )
    return compile_profile(
        seccomp, architecture.name, frozenset(capabilities), own_userns=own_userns, kernel=kernel
    )


def _finished(program: bytes) -> bytes:
    if not program or len(program) % 8 or len(program) > bpf.PROGRAM_MAX * 8:
        raise ConfigError(f"seccomp: {len(program)} bytes are not a filter program")
    return program


@lru_cache(maxsize=64)
def compile_profile(
    profile: SeccompProfile,
    machine: str,
    capabilities: frozenset[str],
    *,
    own_userns: bool,
    kernel: Version = _YOUNGEST,
) -> bytes:
    """Return the program of a profile: struct sock_filter each.

    Args:
        profile: the policy.
        machine: a key of `ARCHITECTURES`.
        capabilities: those that the container may hold.
        own_userns: it has a user namespace of its own, where capabilities reach no host.
        kernel: the version of the host's.
    """
    architecture = ARCHITECTURES[machine]
    default = _return(profile.default, profile.default_errno)
    rules = [
        rule
        for rule in profile.rules
        if not (rule.host and own_userns)
        and (rule.since is None or kernel >= rule.since)
        and (rule.until is None or kernel < rule.until)
    ]
    clauses = _clauses(rules, architecture, capabilities)
    refuses = profile.default not in _LETS_PASS
    if refuses and architecture.numbers["clone3"] not in clauses:
        clauses[architecture.numbers["clone3"]] = [bpf.Clause((), _NOT_THERE)]
    others = (bpf.Clause((), default),)
    chains = {number: _ended(found, default) for number, found in clauses.items()}
    newer = (bpf.Clause((), _NOT_THERE),) if refuses else others
    foreign = default if profile.default == "kill_process" else _NOT_THERE
    return bpf.assemble(
        bpf.program(architecture.audit, foreign, chains, architecture.newest + 1, others, newer)
    )


def _return(action: Action, errno_: int) -> int:
    return _RETURNS[action] | (errno_ if action in {"errno", "trace"} else 0)


def _clauses(
    rules: Iterable[Rule], architecture: Architecture, capabilities: frozenset[str]
) -> dict[int, list[bpf.Clause]]:
    """Return, by number, what the rules say in their order."""
    found: dict[int, list[bpf.Clause]] = {}
    for rule in rules:
        if not _applies(rule, architecture.docker, capabilities):
            continue
        verdict = _return(rule.action, rule.errno)
        for name in rule.names:
            number = architecture.numbers.get(name)
            if number is not None:
                tests = tuple([_test(name, condition) for condition in rule.conditions])
                found.setdefault(number, []).append(bpf.Clause(tests, verdict))
    return found


def _applies(rule: Rule, arch: str, capabilities: frozenset[str]) -> bool:
    if (rule.arches and arch not in rule.arches) or arch in rule.not_arches:
        return False
    return rule.capabilities <= capabilities and rule.without.isdisjoint(capabilities)


def _test(name: str, condition: Condition) -> bpf.Test:
    narrow = condition.index in INT_ARGUMENTS.get(name, ())
    return bpf.Test(condition.index, condition.op, condition.value, condition.mask, not narrow)


def _ended(clauses: list[bpf.Clause], default: int) -> bpf.Chain:
    """Return the clauses that can be reached: up to one without tests, which ends the chain."""
    reached: list[bpf.Clause] = []
    for clause in clauses:
        reached.append(clause)
        if not clause.tests:
            break
    else:
        reached.append(bpf.Clause((), default))
    while len(reached) > 1 and reached[-2].verdict == reached[-1].verdict:
        del reached[-2]
    return tuple(reached)

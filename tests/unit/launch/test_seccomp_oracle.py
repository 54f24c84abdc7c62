"""Our filters beside those that libseccomp makes of the same rules, number by number."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import itertools
import os
from collections.abc import Iterable

import pytest

from containerkit.launch.seccomp import program_of
from containerkit.launch.seccomp_policies import POLICIES
from containerkit.launch.syscalls import ARCHITECTURES, INT_ARGUMENTS
from containerkit.model.seccomp import Condition, Rule, SeccompProfile
from containerkit.model.security import CAPABILITIES, DEFAULT_CAPABILITIES
from tests.support import bpf

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
COMPARISONS = {"ne": 1, "lt": 2, "le": 3, "eq": 4, "ge": 5, "gt": 6, "masked_eq": 7}
WIDE = 1 << 32
COMMON = 424
"""From this number on calls have the same one on every architecture."""
X86_ALONE = ("uretprobe", "uprobe")


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("needs libseccomp.so.2 (Debian: libseccomp2, which apt itself brings)")
    found = ctypes.CDLL(name)
    found.seccomp_init.restype = ctypes.c_void_p
    return found


def theirs(library: ctypes.CDLL, rules: Iterable[Rule], audit: int) -> bytes:
    """Return libseccomp's program for allowing rules, everything else being EPERM."""
    context = ctypes.c_void_p(library.seccomp_init(EPERM))
    native = library.seccomp_arch_native() & 0xFFFFFFFF
    assert library.seccomp_arch_remove(context, native) == 0
    assert library.seccomp_arch_add(context, audit) == 0
    for rule in rules:
        for name in rule.names:
            # it resolves a rule's number for the native architecture
            own = library.seccomp_syscall_resolve_name(name.encode())
            if library.seccomp_syscall_resolve_name_arch(audit, name.encode()) < 0:
                own = younger(name)
                if own is None or audit != native:
                    continue  # not on this architecture, or `theirs` of the native one has it
            tests = (Comparison * len(rule.conditions))(*map(comparison, rule.conditions))
            code = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(ALLOW), own, len(tests), tests
            )
            assert code in {0, -errno.EEXIST}, (name, code)
    fd = os.memfd_create("program")
    try:
        assert library.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
        library.seccomp_release(context)


def younger(name: str) -> int | None:
    """Return the number of a call that the library may not know by name, as it is on both."""
    number = ARCHITECTURES["x86_64"].numbers.get(name, 0)
    return number if number >= COMMON or name in X86_ALONE else None


def comparison(condition: Condition) -> Comparison:
    if condition.op == "masked_eq":
        return Comparison(condition.index, 7, condition.mask, condition.value)
    return Comparison(condition.index, COMPARISONS[condition.op], condition.value, 0)


def plain(profile: SeccompProfile, capabilities: frozenset[str], docker: str) -> list[Rule]:
    """Return the allowing rules that hold, with refusals before them as further conditions."""
    found: list[Rule] = []
    refused: dict[str, list[Condition]] = {}
    for rule in profile.rules:
        if (rule.arches and docker not in rule.arches) or not rule.capabilities <= capabilities:
            continue
        if rule.action == "errno":
            for name in rule.names:
                refused.setdefault(name, []).extend(rule.conditions)
            continue
        for name in rule.names:
            found += between(name, refused[name]) if name in refused else [
                Rule((name,), conditions=rule.conditions)
            ]  # fmt: skip
    return found


def between(name: str, points: list[Condition]) -> list[Rule]:
    """Allow a call with every value but some: one comparison for an argument is all there is."""
    values = sorted(point.value for point in points)
    index = points[0].index
    rules = [
        Rule((name,), conditions=[Condition(index, "lt", values[0])]),
        Rule((name,), conditions=[Condition(index, "gt", values[-1])]),
    ]
    for low, high in itertools.pairwise(values):
        rules += [
            Rule((name,), conditions=[Condition(index, "eq", value)])
            for value in range(low + 1, high)
        ]
    return rules


def interesting(name: str, rules: Iterable[Rule]) -> list[tuple[int, ...]]:
    """Return arguments about the points where the rules of a call turn."""
    points: set[tuple[int, ...]] = {(0,) * 6, ((1 << 64) - 1,) * 6}
    for rule in rules:
        for condition in rule.conditions if name in rule.names else ():
            for value in (condition.value, condition.mask):
                for near in (value - 1, value, value + 1, value ^ 1, value + WIDE):
                    arguments = [0] * 6
                    arguments[condition.index] = near & ((1 << 64) - 1)
                    points.add(tuple(arguments))
    return sorted(points)


def truncated(name: str, arguments: tuple[int, ...]) -> tuple[int, ...]:
    """Return what the kernel sees, and only we look at: of an int, the low half."""
    narrow = INT_ARGUMENTS.get(name, ())
    return tuple(value % WIDE if at in narrow else value for at, value in enumerate(arguments))


@pytest.mark.parametrize("held", ["none", "default", "all"])
@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("policy", POLICIES)
def test_it_agrees_with_libseccomp(
    library: ctypes.CDLL, policy: str, machine: str, held: str
) -> None:
    """For every number from 0 to 600, both outcomes, and arguments about every turning point.

    Where it is not to agree: clone3, calls that are newer than our tables, and the high half of an
    argument that the kernel takes as 32 bits.
    """
    sets = {"none": (), "default": DEFAULT_CAPABILITIES, "all": CAPABILITIES}
    capabilities = frozenset(sets[held])
    architecture = ARCHITECTURES[machine]
    ours = program_of(policy, machine=machine, capabilities=capabilities, own_userns=False)
    assert ours is not None
    rules = plain(POLICIES[policy], capabilities, architecture.docker)
    oracle = theirs(library, rules, architecture.audit)
    native = library.seccomp_arch_native() & 0xFFFFFFFF
    for_younger = theirs(library, rules, native)
    names = {number: name for name, number in architecture.numbers.items()}
    seen = set()
    for number in range(601):
        name = names.get(number, "")
        audit, program = architecture.audit, oracle
        if name and library.seccomp_syscall_resolve_name_arch(audit, name.encode()) < 0:
            audit, program = native, for_younger
            assert number >= COMMON or name in X86_ALONE
        for arguments in interesting(name, rules):
            mine = bpf.run(ours, architecture.audit, number, arguments)
            other = bpf.run(program, audit, number, truncated(name, arguments))
            if name == "clone3" or number > architecture.newest:
                other = ENOSYS
            assert mine == other, (number, name, arguments)
            seen.add(mine)
    assert seen == {ALLOW, EPERM, ENOSYS}

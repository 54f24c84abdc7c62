"""Policies for system calls: what the compiled program says is what the rules say."""

from __future__ import annotations

import errno
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.seccomp import compile_profile, program_of
from containerkit.launch.seccomp_policies import POLICIES
from containerkit.launch.syscalls import ARCHITECTURES, INT_ARGUMENTS
from containerkit.model.seccomp import Condition, Rule, SeccompProfile
from containerkit.model.security import DEFAULT_CAPABILITIES
from tests.support import bpf

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
KILL = 0x80000000
X86 = ARCHITECTURES["x86_64"]
WIDE = 1 << 32


def compiled(profile: SeccompProfile | str, *capabilities: str, machine: str = "x86_64") -> bytes:
    program = program_of(profile, machine=machine, capabilities=capabilities, own_userns=False)
    assert program is not None
    return program


def verdict(program: bytes, name: str, *arguments: int, machine: str = "x86_64") -> int:
    architecture = ARCHITECTURES[machine]
    return bpf.run(program, architecture.audit, architecture.numbers[name], arguments)


# ---- the tables


def test_numbers_that_everybody_knows() -> None:
    arm = ARCHITECTURES["aarch64"].numbers
    assert [X86.numbers[name] for name in ("read", "execve", "openat", "clone3", "mseal")] == [
        0, 59, 257, 435, 462,
    ]  # fmt: skip
    assert [arm[name] for name in ("read", "execve", "openat", "clone3", "mseal")] == [
        63, 221, 56, 435, 462,
    ]  # fmt: skip
    assert "open" not in arm


@pytest.mark.parametrize("policy", POLICIES)
def test_every_name_of_a_policy_is_a_call(policy: str) -> None:
    known = set().union(*(architecture.numbers for architecture in ARCHITECTURES.values()))
    named = set(itertools.chain.from_iterable(rule.names for rule in POLICIES[policy].rules))
    assert named <= known


def test_arguments_of_32_bits_belong_to_calls() -> None:
    assert set(INT_ARGUMENTS) <= set(X86.numbers)


# ---- the policies


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("policy", POLICIES)
def test_ordinary_programs_go_on(policy: str, machine: str) -> None:
    program = compiled(policy, machine=machine)
    for name in (
        "read",
        "write",
        "openat",
        "mmap",
        "futex",
        "execve",
        "clone",
        "wait4",
        "exit_group",
    ):
        assert verdict(program, name, machine=machine) == ALLOW, name


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("policy", POLICIES)
def test_what_no_container_needs_is_refused(policy: str, machine: str) -> None:
    program = compiled(policy, machine=machine)
    for name in (
        "mount", "umount2", "pivot_root", "setns", "unshare", "bpf", "perf_event_open", "userfaultfd",
        "keyctl", "add_key", "request_key", "open_by_handle_at", "kexec_load", "init_module", "reboot",
        "swapon", "settimeofday", "io_uring_setup", "move_mount", "open_tree", "fsopen", "acct",
        "quotactl", "pidfd_getfd", "process_madvise", "syslog", "vhangup", "chroot",
    ):  # fmt: skip
        assert verdict(program, name, machine=machine) == EPERM, name


def test_newer_calls_and_clone3_are_not_there() -> None:
    for policy in POLICIES:
        program = compiled(policy)
        assert verdict(program, "clone3") == ENOSYS
        for number in (X86.newest + 1, 600, 0x3FFFFFFF, 0x40000000, 0x40000000 | 59, 0xFFFFFFFF):
            assert bpf.run(program, X86.audit, number) == ENOSYS


def test_another_abi_is_not_there() -> None:
    for policy in POLICIES:
        for arch in (0x40000003, ARCHITECTURES["aarch64"].audit, 0):
            assert bpf.run(compiled(policy), arch, 1) == ENOSYS


def test_an_abi_is_killed_where_everything_else_is() -> None:
    profile = SeccompProfile([Rule("read")], default="kill_process")
    assert bpf.run(compiled(profile), 0x40000003, 3) == KILL


def test_capabilities_open_their_calls() -> None:
    assert verdict(compiled("default", "SYS_ADMIN"), "mount") == ALLOW
    assert verdict(compiled("default", "SYS_ADMIN"), "clone", 0x10000000) == ALLOW
    assert verdict(compiled("default", "SYS_CHROOT"), "chroot") == ALLOW
    assert verdict(compiled("default", *DEFAULT_CAPABILITIES), "mount") == EPERM
    assert verdict(compiled("strict", "SYS_ADMIN", "SYS_CHROOT"), "mount") == EPERM


def test_a_user_namespace_of_its_own_does_not_open_the_host() -> None:
    names = frozenset({"SYS_ADMIN", "BPF", "SYS_MODULE", "PERFMON"})
    program = compile_profile(POLICIES["default"], "x86_64", names, own_userns=True)
    assert verdict(program, "mount") == ALLOW
    for name in ("bpf", "perf_event_open", "init_module"):
        assert verdict(program, name) == EPERM, name


# ---- arguments


@pytest.mark.parametrize("command", [0x5412, 0x541C, 0x5423])
def test_no_typing_into_terminals_whatever_the_high_bits(command: int) -> None:
    program = compiled("default")
    assert verdict(program, "ioctl", 0, command) == EPERM
    assert verdict(program, "ioctl", 0, command | WIDE) == EPERM
    assert verdict(program, "ioctl", 0, 0x5413) == ALLOW


def test_families_of_sockets() -> None:
    default, strict = compiled("default"), compiled("strict")
    for family, wide, narrow in ((1, ALLOW, ALLOW), (2, ALLOW, ALLOW), (16, ALLOW, EPERM),
                                 (17, ALLOW, EPERM), (38, EPERM, EPERM), (40, EPERM, EPERM)):  # fmt: skip
        for high in (0, WIDE, 5 * WIDE):
            assert verdict(default, "socket", family | high) == wide
            assert verdict(strict, "socket", family | high) == narrow


def test_flags_of_clone_are_64_bits() -> None:
    program = compiled("default")
    assert verdict(program, "clone", 0x11) == ALLOW
    assert verdict(program, "clone", 0x3D0F00) == ALLOW  # a thread
    for flag in (
        0x20000,
        0x2000000,
        0x4000000,
        0x8000000,
        0x10000000,
        0x20000000,
        0x40000000,
        0x80,
    ):
        assert verdict(program, "clone", flag | 0x11) == EPERM


def test_personalities() -> None:
    program = compiled("default")
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        assert verdict(program, "personality", persona) == ALLOW
    assert verdict(program, "personality", 0x40000) == EPERM  # ADDR_NO_RANDOMIZE


# ---- any policy

U64 = st.integers(0, (1 << 64) - 1)
NEAR = st.sampled_from([0, 1, 2, 0xFFFFFFFF, WIDE, WIDE + 1, WIDE - 2, (1 << 64) - 1, 1 << 63])
VALUE = U64 | NEAR
OPS = ("eq", "ne", "lt", "le", "gt", "ge", "masked_eq")
NAMES = ("read", "write", "socket", "clone", "mmap", "ioctl", "execve", "clone3", "mount")
CONDITIONS = st.builds(
    Condition, index=st.integers(0, 5), op=st.sampled_from(OPS), value=VALUE, mask=VALUE
)
RULES = st.builds(
    Rule,
    names=st.lists(st.sampled_from(NAMES), max_size=4),
    action=st.sampled_from(("allow", "errno", "log", "kill_process")),
    errno=st.integers(1, 100),
    conditions=st.lists(CONDITIONS, max_size=4),
)
ACTIONS = {"allow": ALLOW, "log": 0x7FFC0000, "kill_process": KILL, "errno": 0x00050000}


def holds(name: str, condition: Condition, arguments: tuple[int, ...]) -> bool:
    bits = 32 if condition.index in INT_ARGUMENTS.get(name, ()) else 64
    cut = (1 << bits) - 1
    value, other, mask = (
        arguments[condition.index] & cut, condition.value & cut, condition.mask & cut,
    )  # fmt: skip
    return {
        "eq": value == other, "ne": value != other, "lt": value < other, "le": value <= other,
        "gt": value > other, "ge": value >= other, "masked_eq": value & mask == other,
    }[condition.op]  # fmt: skip


def expected(profile: SeccompProfile, name: str, arguments: tuple[int, ...]) -> int:
    """Say what the rules say, first one first."""
    named = False
    for rule in profile.rules:
        if name in rule.names:
            named = True
            if all(holds(name, condition, arguments) for condition in rule.conditions):
                return ACTIONS[rule.action] | (rule.errno if rule.action == "errno" else 0)
    if name == "clone3" and not named and profile.default != "allow":
        return ENOSYS
    return ACTIONS[profile.default] | (profile.default_errno if profile.default == "errno" else 0)


@given(
    rules=st.lists(RULES, max_size=8),
    default=st.sampled_from(("allow", "errno", "kill_process")),
    name=st.sampled_from(NAMES),
    arguments=st.tuples(*[VALUE] * 6),
    near=st.booleans(),
)
def test_the_program_says_what_the_rules_say(
    rules: list[Rule], default: Any, name: str, arguments: tuple[int, ...], near: bool
) -> None:
    profile = SeccompProfile(rules, default=default)
    if near:  # where a comparison turns
        values = [c.value for rule in rules for c in rule.conditions] or [0]
        arguments = tuple(values[at % len(values)] for at in range(6))
    assert verdict(compiled(profile), name, *arguments) == expected(profile, name, arguments)


def test_far_jumps() -> None:
    """A tree whose halves are longer than a jump of 255."""
    rules = [
        Rule(name, "errno", errno=1 + number % 90, conditions=[Condition(0, "eq", number)])
        for number, name in enumerate(X86.numbers)
    ]
    profile = SeccompProfile(rules)
    program = compiled(profile)
    for number, name in enumerate(X86.numbers):
        for value in (number, number + 1):
            assert verdict(program, name, value) == expected(profile, name, (value, *[0] * 5))


def test_a_policy_that_is_too_long() -> None:
    conditions = [Condition(index, "eq", 1 << 40) for index in range(6)]
    rules = [Rule("read", "errno", errno=n, conditions=conditions) for n in range(1, 400)]
    with pytest.raises(ConfigError, match="instructions"):
        compiled(SeccompProfile(rules))


# ---- Docker's format


def docker(**changes: Any) -> dict[str, Any]:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "write", "not_a_call"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
            },
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
                ],
                "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]},
            },
            {
                "names": ["getppid"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"minKernel": "4.8"},
                "excludes": {"arches": ["amd64"]},
            },
            {
                "names": ["lseek"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 2, "value": value, "op": "SCMP_CMP_EQ"} for value in (1, 4)],
            },
            {
                "names": ["clone3"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 38,
                "excludes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {
                "names": ["mount", "clone"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {"names": ["iopl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        ],
    }
    return {**profile, **changes}


def test_dockers_format() -> None:
    for given_ in (docker(), json.dumps(docker()), json.dumps(docker()).encode()):
        profile = SeccompProfile.parse(given_)
        program = compiled(profile)
        assert verdict(program, "read") == ALLOW
        assert verdict(program, "personality", 8) == ALLOW
        assert verdict(program, "personality", 9) == EPERM
        assert verdict(program, "clone", 0x11) == ALLOW
        assert verdict(program, "clone", 0x10000000) == EPERM
        assert verdict(program, "clone3") == ENOSYS
        assert verdict(program, "mount") == EPERM
        assert verdict(program, "iopl") == EPERM
        assert verdict(program, "getppid") == EPERM
        arm = compiled(profile, machine="aarch64")
        assert verdict(arm, "getppid", machine="aarch64") == ALLOW
        # Of several conditions on one argument any is enough, as runc has it.
        assert [verdict(program, "lseek", 0, 0, whence) for whence in (0, 1, 4)] == [
            EPERM, ALLOW, ALLOW,
        ]  # fmt: skip
        admin = compiled(profile, "SYS_ADMIN")
        assert verdict(admin, "mount") == ALLOW
        assert verdict(admin, "clone", 0x10000000) == ALLOW


def test_a_profile_may_ask_for_the_kernel() -> None:
    rules = [
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": ""}},
    ]
    profile = SeccompProfile.parse(docker(syscalls=rules))
    for kernel, ptrace, kcmp in (
        ((4, 7), EPERM, ALLOW),
        ((4, 8), ALLOW, ALLOW),
        ((4, 19), ALLOW, ALLOW),
        ((5, 0), ALLOW, EPERM),
        ((6, 1), ALLOW, EPERM),
    ):
        program = program_of(
            profile, machine="x86_64", capabilities=(), own_userns=False, kernel=kernel
        )
        assert program is not None
        assert [verdict(program, name) for name in ("ptrace", "kcmp", "read")] == [
            ptrace, kcmp, ALLOW,
        ]  # fmt: skip


@pytest.mark.parametrize("action", ["ALLOW", "LOG", "TRACE", "ERRNO", "KILL"])
def test_what_is_newer_is_let_through_where_everything_is(action: str) -> None:
    program = compiled(
        SeccompProfile.parse({"defaultAction": f"SCMP_ACT_{action}", "syscalls": None})
    )
    passes = action in {"ALLOW", "LOG", "TRACE"}
    for number in (X86.numbers["clone3"], X86.newest + 1):
        assert (bpf.run(program, X86.audit, number, ()) == ENOSYS) != passes


@pytest.mark.parametrize(
    "wrong",
    [
        "{", "[]", {}, docker(defaultAction="SCMP_ACT_NOTIFY"), docker(defaultAction=[]),
        docker(syscalls={}), docker(syscalls=["read"]), docker(defaultErrnoRet=-1),
        docker(syscalls=[{"names": "read", "action": "SCMP_ACT_ALLOW"}]),
        docker(syscalls=[{"names": [1], "action": "SCMP_ACT_ALLOW"}]),
        docker(syscalls=[{"names": ["read"]}]),
        docker(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6"}}]),
        docker(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": 6.1}}]),
        docker(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]),
        docker(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": {}}]}]),
        docker(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}]}]),
    ],
)  # fmt: skip
def test_what_is_no_profile(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="seccomp"):
        SeccompProfile.parse(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(
        ["SCMP_ACT_ALLOW", "SCMP_CMP_EQ", "read"]
    ),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["defaultAction", "syscalls", "names", "action", "args", "index", "op",
                         "value", "includes", "excludes", "caps", "errnoRet"]),
        inner, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
def test_any_document_is_a_profile_or_an_error(document: Any) -> None:
    try:
        profile = SeccompProfile.parse(document)
    except ConfigError:
        return
    compiled(profile)


# ---- choosing


def test_choosing() -> None:
    def choose(seccomp: Any, machine: str = "x86_64") -> bytes | None:
        return program_of(seccomp, machine=machine, capabilities=(), own_userns=False)

    assert choose("unconfined") is None
    assert choose(b"12345678") == b"12345678"
    for wrong in (b"", b"1234567", bytes(8 * 4097)):
        with pytest.raises(ConfigError, match="program"):
            choose(wrong)
    with pytest.raises(ConfigError, match="strikt"):
        choose("strikt")
    with pytest.raises(MissingFeature):
        choose("default", "s390x")

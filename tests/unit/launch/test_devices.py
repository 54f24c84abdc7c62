"""Rules on devices: the program says what the rules say; which of them a container gets."""

from __future__ import annotations

from struct import calcsize, iter_unpack

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.devices import (
    ALL_RULES,
    DEFAULT_RULES,
    MORE,
    Rule,
    device_program,
    devices_of,
)
from containerkit.launch.ops import MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, Code, Op
from containerkit.launch.plan import Plan
from containerkit.model.device import Device, Node
from containerkit.model.security import Security
from tests.support.devices import allows, asked
from tests.unit.launch.plans import BARE, V1, V2, compiled, lines, step, steps

FUSE = {"/dev/fuse": Node("c", 10, 229)}
DISK = {"/dev/sda": Node("b", 8, 0)}

# Few numbers, so that rules and what is asked meet.
majors = st.sampled_from([0, 1, 5, 10, 136, 4095])
minors = st.sampled_from([0, 1, 3, 229, 1048575])
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda given: "".join(sorted(given)))
rules = st.builds(
    Rule,
    kind=st.sampled_from("abc"),
    major=st.none() | majors,
    minor=st.none() | minors,
    access=accesses,
)


@given(st.lists(rules, max_size=12), st.sampled_from("bc"), majors, minors, accesses)
def test_the_program_says_what_the_rules_say(
    given_rules: list[Rule], kind: str, major: int, minor: int, access: str
) -> None:
    program = device_program(given_rules)
    said = asked(program, kind, major, minor, access)
    assert said is allows(given_rules, kind, major, minor, access)


@pytest.mark.parametrize("kind", "bc")
@pytest.mark.parametrize("access", ["r", "w", "m", "rw", "rwm"])
def test_the_default_rules(kind: str, access: str) -> None:
    program = device_program(DEFAULT_RULES)
    allowed = {
        (major, minor)
        for major in (*range(12), 136, 254)
        for minor in range(256)
        if asked(program, kind, major, minor, access)
    }
    made = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)}
    ours = made if "m" in access else made | {(5, 1), (5, 2)}
    terminals = {(136, minor) for minor in range(256)}
    if "m" in access:
        terminals = set()
    assert allowed == (ours | terminals if kind == "c" else set())
    assert asked(device_program(ALL_RULES), kind, 254, 0, access)


@given(st.lists(rules, max_size=12))
def test_no_step_is_out_of_reach(given_rules: list[Rule]) -> None:
    """The verifier of older kernels refuses a program that has one."""
    program = device_program(given_rules)
    steps = list(iter_unpack("<BBhi", program))
    reached, todo = set(), [0]
    while todo:
        at = todo.pop()
        if at not in reached:
            reached.add(at)
            code, _, offset, _ = steps[at]
            todo += [] if code == 0x95 else [at + 1]
            todo += [at + 1 + offset] if code in {0x55, 0x5D} else []
    assert reached == set(range(len(steps)))


def test_rules_as_version_1_reads_them() -> None:
    assert [str(rule) for rule in (DEFAULT_RULES[0], DEFAULT_RULES[-1], ALL_RULES[0])] == [
        "c 1:3 rwm",
        "c 136:* rw",
        "a *:* rwm",
    ]


# ---- grammar


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/fuse", Device("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/fuse:/dev/other", Device("/dev/fuse", "/dev/other", "rwm")),
        ("/dev/fuse:/dev/net/tun:wr", Device("/dev/fuse", "/dev/net/tun", "rw")),
        ("/dev/sda:r", Device("/dev/sda", "/dev/sda", "r")),
        ("/srv/nodes/x:/dev/x", Device("/srv/nodes/x", "/dev/x", "rwm")),
        ("/dev/..x", Device("/dev/..x", "/dev/..x", "rwm")),
    ],
)
def test_grammar(text: str, device: Device) -> None:
    assert Device.parse(text) == device
    assert Security(devices=[text]).devices == (text,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "dev/fuse",
        "/dev/fuse:",
        "/dev/fuse:rwx",
        "/dev/fuse:rr",
        "/dev/fuse:/dev/a:",
        "/dev/fuse:/dev/a:/dev/b",
        "/dev/fuse:/dev/a:r:w",
        "/dev/fuse:r:/dev/a",
        "/dev/fuse:/etc/fuse",
        "/dev/fuse:/dev",
        "/dev/fuse:/dev/",
        "/dev/fuse:/dev/../etc/x",
        "/dev/fuse:/dev/./x",
        "/dev/fuse:/dev//x",
        "/dev/fuse\0:/dev/x",
        "/dev/fuse:/dev/null",
        "/dev/fuse:/dev/null/x",
        "/dev/fuse:/dev/pts/3",
        "/dev/fuse:/dev/shm",
        "/srv/node",
    ],
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        Security(devices=[text])


@given(st.text(alphabet="/.:devrwm\0n", max_size=24))
def test_any_text_is_a_device_below_dev_or_refused(text: str) -> None:
    try:
        device = Device.parse(text)
    except ConfigError:
        return
    assert device.source.startswith("/")
    assert device.target.startswith("/dev/")
    assert {"", ".", ".."}.isdisjoint(device.target.split("/")[1:])
    assert Device.parse(":".join(device)) == device


@pytest.mark.parametrize(
    "devices",
    [
        ["/dev/a", "/dev/a:r"],
        ["/dev/a:/dev/x", "/dev/b:/dev/x"],
        ["/dev/a:/dev/x", "/dev/b:/dev/x/y"],
    ],
)
def test_two_in_one_place(devices: list[str]) -> None:
    with pytest.raises(ConfigError):
        devices_of(Security(devices=devices))


# ---- plans


def given_to(plan: Plan, controller: str) -> list[str]:
    """The settings of one controller, ``file=value`` each."""
    triples = step(plan, Code.CGROUP).arena[0]
    assert isinstance(triples, tuple)
    return [
        f"{file}={value}"
        for name, file, value in zip(triples[0::3], triples[1::3], triples[2::3], strict=True)
        if name == controller
    ]


def test_the_default_costs_a_start_nothing() -> None:
    for facts in (V1, V2):
        plan = compiled({}, facts=facts)
        assert not steps(plan, Code.DEVICES)
        assert given_to(plan, MORE) == given_to(plan, "devices") == []
        assert not [line for line in lines(plan) if "rules on devices" in line]


def test_version_1() -> None:
    security = Security(devices=["/dev/fuse:rw", "/dev/sda:/dev/disk:r"])
    plan = compiled({"security": security}, nodes=FUSE | DISK)
    settings = given_to(plan, MORE)
    assert settings[0] == "devices.deny=a"
    assert settings[1:-2] == [f"devices.allow={rule}" for rule in DEFAULT_RULES]
    assert settings[-2:] == ["devices.allow=c 10:229 rw", "devices.allow=b 8:0 r"]


def test_version_2() -> None:
    plan = compiled({"security": Security(devices=["/dev/fuse:r"])}, facts=V2, nodes=FUSE)
    op = step(plan, Code.DEVICES)
    program = op.arena[0]
    assert isinstance(program, bytes)
    assert len(program) % calcsize("<BBhi") == 0
    assert asked(program, "c", 10, 229, "r")
    assert not asked(program, "c", 10, 229, "w")
    assert asked(program, "c", 1, 3, "rw")
    codes = [step.code for step in plan.prepare]
    assert codes.index(Code.DEVICES) == codes.index(Code.CGROUP) + 1  # the group is there


def places(plan: Plan) -> list[tuple[int, str]]:
    """Code and target of what is mounted on /dev, and directly below."""
    return [
        (op.code, str(target))
        for op in plan.child
        for target in op.arena[:2]
        if isinstance(target, str) and target.startswith("/dev")
    ]


def test_places() -> None:
    """A /dev of its own, the nodes, then nothing can be changed any more."""
    plan = compiled({"security": Security(devices=["/dev/fuse:/dev/a/b"])}, nodes=FUSE)
    assert places(plan)[:4] == [
        (Code.MOUNT_FS, "/dev"),
        (Code.MOVE_MOUNT, "/dev/a/b"),
        (Code.READ_ONLY, "/dev"),
        (Code.MOUNT_FS, "/dev/pts"),
    ]
    clone = step(plan, Code.CLONE)
    assert clone.value[0] & MOUNT_ATTR_RDONLY  # its owner and mode stay the host's
    assert not clone.value[0] & MOUNT_ATTR_NODEV


def test_none_for_the_files_of_one_that_does_not_run() -> None:
    """The device may have gone meanwhile."""
    options = {"security": Security(devices=["/dev/fuse"])}
    changes = {"ephemeral": False, "create": False, "park": True}
    assert compiled(options, **changes) == compiled({}, **changes)  # type: ignore[arg-type]


def test_without_rules() -> None:
    """All access to a device needs none; less can not be held."""
    for facts in (BARE, attrs.evolve(V2, controllers=V2.controllers - {"devices"})):
        plan = compiled({"security": Security(devices=["/dev/fuse:rw"])}, facts=facts, nodes=FUSE)
        assert places(plan)[1] == (Code.MOVE_MOUNT, "/dev/fuse")
        assert [line for line in lines(plan) if "no rules on devices" in line]
        with pytest.raises(MissingFeature, match="/dev/fuse with access r only") as caught:
            compiled({"security": Security(devices=["/dev/fuse:r"])}, facts=facts, nodes=FUSE)
        assert caught.value.feature == "cgroup devices"


def test_where_rules_can_not_be_widened() -> None:
    facts = attrs.evolve(V1, controllers=V1.controllers - {MORE})
    for security in (Security(devices=["/dev/fuse"]), Security.privileged()):
        with pytest.raises(MissingFeature, match="together with others"):
            compiled({"security": security}, facts=facts, nodes=FUSE)


# ---- privileged


def test_privileged() -> None:
    security = Security.privileged()
    plan = compiled({"security": security})
    assert places(plan)[:2] == [(Code.MOVE_MOUNT, "/dev"), (Code.MOUNT_FS, "/dev/pts")]
    for code in (Code.MASK, Code.READ_ONLY, Code.NO_NEW_PRIVS, Code.SECCOMP, Code.DEVICES):
        assert not steps(plan, code)
    caps = step(plan, Code.CAPS)
    assert caps.value == (V1.capabilities, V1.capabilities)
    (sysfs,) = [op for op in steps(plan, Code.MOUNT_FS) if op.arena[0] == "sysfs"]
    assert not sysfs.value[0] & MOUNT_ATTR_RDONLY
    assert given_to(plan, MORE)  # so that there is one
    program = step(compiled({"security": security}, facts=V2), Code.DEVICES).arena[0]
    assert isinstance(program, bytes)
    assert asked(program, "b", 254, 0, "rwm")


def test_what_a_privileged_one_does_not_get_is_noted() -> None:
    facts = attrs.evolve(V1, capabilities=V1.capabilities & ~(1 << 21))
    plan = compiled({"security": Security.privileged()}, facts=facts)
    assert "  without the capabilities SYS_ADMIN: the caller does not have them" in lines(plan)


def control_groups(plan: Plan) -> list[Op]:
    return [op for op in plan.child if str(op.arena[1]).startswith("/sys/fs/cgroup")]


def test_control_groups_of_a_privileged_one() -> None:
    options = {"security": Security.privileged()}
    kinds = [op.arena[0] for op in control_groups(compiled(options))]  # type: ignore[arg-type]
    assert kinds[0] == "tmpfs"
    assert set(kinds[1:]) == {"cgroup"}
    (unified,) = control_groups(compiled(options, facts=V2))  # type: ignore[arg-type]
    assert unified.arena[0] == "cgroup2"
    assert not control_groups(compiled(options, facts=BARE))  # type: ignore[arg-type]
    assert not control_groups(compiled())


def test_a_privileged_one_has_the_hosts_paths() -> None:
    devices = ["/dev/fuse", "/dev/sda"]
    plan = compiled({"security": Security.privileged(devices=devices)}, nodes=FUSE | DISK)
    assert plan == compiled({"security": Security.privileged()})
    with pytest.raises(ConfigError, match="as it is"):
        compiled({"security": Security.privileged(devices=["/dev/fuse:/dev/x"])}, nodes=FUSE)

"""Which steps a container gets, and in which order."""

from __future__ import annotations

import re
import struct
from typing import Any

import attrs
import pytest

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import ops
from containerkit.launch.capabilities import ALL_MASK, mask_of, names_of
from containerkit.launch.ops import Code
from containerkit.launch.plan import Input
from containerkit.launch.request import check_given
from containerkit.model.image_config import ImageConfig
from containerkit.model.limits import UNLIMITED, Limits
from containerkit.model.mount import Mount
from containerkit.model.options import ContainerOptions
from containerkit.model.rootfs import Overlay, Rootfs
from containerkit.model.security import DEFAULT_CAPABILITIES, Security
from tests.unit.launch.plans import BARE, ID, IMAGE, TOP, V1, compiled, lines, step, steps

# ---- what every container gets


def test_every_mount_but_devices_is_nodev() -> None:
    """Only /dev, a read-only template, and its pts have device nodes."""
    plan = compiled(
        {"mounts": [Mount.tmpfs("/t"), Mount.bind("/s", "/b")], "secrets": {"k": b""}},
    )
    mounts = [*steps(plan, Code.MOUNT_FS), *steps(plan, Code.OVERLAY), *steps(plan, Code.CLONE)]
    without = [op.arena[0] for op in mounts if not op.value[0] & ops.MOUNT_ATTR_NODEV]
    assert without == ["devpts"]


def test_the_first_masks_come_after_the_last_mount() -> None:
    codes = [op.code for op in compiled({"mounts": [Mount.tmpfs("/t")]}).child]
    last_mount = max(codes.index(Code.MOVE_MOUNT), len(codes) - 1 - codes[::-1].index(34))
    assert codes.index(Code.MASK) > last_mount
    assert codes.index(Code.PIVOT) > codes.index(Code.MASK)


def test_identity_steps_are_in_the_order_that_keeps_rights_until_they_are_used() -> None:
    expected = [Code.NO_NEW_PRIVS, Code.GROUPS, Code.IDS, Code.CAPS, Code.CHDIR, Code.SECCOMP]
    assert [*expected, Code.EXEC] == [op.code for op in compiled().child][-7:]


def test_a_filter_is_loaded_last_with_no_new_privs_and_before_caps_without() -> None:
    program = bytes(8)
    plan = compiled({"security": Security(seccomp=program)})
    assert [op.code for op in plan.child][-2:] == [Code.SECCOMP, Code.EXEC]
    plan = compiled({"security": Security(seccomp=program, no_new_privileges=False)})
    assert [op.code for op in plan.child][-5:-2] == [Code.IDS, Code.SECCOMP, Code.CAPS]


def test_the_filter_is_that_of_the_machine_and_of_the_capabilities() -> None:
    def filter_of(security: Security, **facts: Any) -> ops.Argument:
        plan = compiled({"security": security}, facts=attrs.evolve(V1, **facts))
        return step(plan, Code.SECCOMP).arena[0]

    default = filter_of(Security())
    assert default == filter_of(Security())
    wanted = [
        filter_of(Security(seccomp="strict")),
        filter_of(Security(), machine="aarch64"),
        filter_of(Security(capabilities=["+SYS_ADMIN"])),
        filter_of(Security(seccomp={"defaultAction": "SCMP_ACT_ALLOW"})),
    ]
    assert len({default, *wanted}) == 1 + len(wanted)
    assert filter_of(Security(), capabilities=0) != default  # what can not be given opens nothing


def test_no_filter() -> None:
    for security in (
        Security(seccomp="unconfined"),
        Security(seccomp="unconfined", no_new_privileges=False),
    ):
        plan = compiled({"security": security})
        assert not steps(plan, Code.SECCOMP)
        assert any("unconfined" in note for note in plan.notes)


def test_a_machine_without_numbers() -> None:
    facts = attrs.evolve(V1, machine="s390x")
    with pytest.raises(MissingFeature, match="s390x"):
        compiled(facts=facts)
    assert not steps(
        compiled({"security": Security(seccomp="unconfined")}, facts=facts), Code.SECCOMP
    )


def test_root_holds_dockers_capabilities_without_mknod() -> None:
    caps = step(compiled(), Code.CAPS)
    expected = mask_of(DEFAULT_CAPABILITIES)
    assert (expected, expected) == caps.value
    assert "MKNOD" not in names_of(expected)


def test_another_user_holds_no_capability_and_all_its_groups() -> None:
    plan = compiled({"user": "app"})
    assert step(plan, Code.CAPS).value == (mask_of(DEFAULT_CAPABILITIES), 0)
    assert step(plan, Code.GROUPS).arena[0] == struct.pack("<3I", 1000, 50, 29)
    assert step(plan, Code.IDS).value == (1000, 1000)


def test_capabilities_the_caller_lacks() -> None:
    """Default ones are left out with a note; chosen ones raise."""
    facts = attrs.evolve(V1, capabilities=ALL_MASK & ~mask_of({"NET_RAW"}))
    plan = compiled(facts=facts)
    assert "NET_RAW" not in names_of(step(plan, Code.CAPS).value[0])
    assert any("NET_RAW" in note for note in plan.notes)
    with pytest.raises(MissingFeature, match="NET_RAW"):
        compiled({"security": Security(capabilities={"NET_RAW"})}, facts=facts)


def test_rlimits_are_the_callers_own_unless_given() -> None:
    plan = compiled({"limits": Limits(ulimits={"nofile": 64, "core": (0, 0)})})
    infinity = (1 << 64) - 1
    assert [(op.flags, op.value) for op in steps(compiled(), Code.RLIMIT)] == [
        (4, (0, infinity)),
        (7, (1024, 20000)),
    ]
    assert [(op.flags, op.value) for op in steps(plan, Code.RLIMIT)] == [
        (4, (0, 0)),
        (7, (64, 64)),
    ]


# ---- network


@pytest.mark.parametrize("network", [None, "none"])
def test_without_a_network(network: str | None) -> None:
    """A namespace of its own; its hosts file knows itself only."""
    plan = compiled({"network": network, "hostname": "box"})
    assert plan.child[0].code == Code.JOIN_NET
    assert step(plan, Code.NETNS).fd == plan.child[0].fd
    contents = [op.arena[0] for op in steps(plan, Code.FILE)]
    assert contents[0] == (
        b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n"
    )
    assert contents[1] == b"box\n"


def test_network_of_the_host() -> None:
    """No namespace is joined; files are as given, others stay the image's."""
    plan = compiled(
        {"network": "host"}, facts=attrs.evolve(V1, hostname="mainframe"), hosts=b"some\n"
    )
    assert not steps(plan, Code.JOIN_NET)
    assert [op.arena[0] for op in steps(plan, Code.FILE)] == [b"some\n", b"mainframe\n"]


@pytest.mark.parametrize("network", ["bridge", "mynet", object(), 3])
def test_other_networks_are_not_there_yet(network: Any) -> None:
    with pytest.raises(MissingFeature, match="network"):
        compiled({"network": network})


# ---- mounts


def test_parents_are_mounted_first() -> None:
    plan = compiled(
        {"mounts": [Mount.bind("/x", "/a/b/c"), Mount.tmpfs("/a/b"), Mount.bind("/y", "/a")]}
    )
    targets = [
        op.arena[0] if op.code == Code.MOVE_MOUNT else op.arena[1]
        for op in plan.child
        if op.code in {Code.MOVE_MOUNT, Code.MOUNT_FS}
    ]
    chosen = [str(target) for target in targets if str(target).startswith("/a")]
    assert chosen == ["/a", "/a/b", "/a/b/c"]


def test_one_source_is_sent_once_and_cloned_for_each_use() -> None:
    plan = compiled({"mounts": [Mount.bind("/s", "/a"), Mount.bind("/s", "/b", read_only=True)]})
    assert plan.inputs[3:] == (Input("source", "/s", recursive=True),)
    assert len(steps(plan, Code.SOURCE)) == 1
    first, second = steps(plan, Code.CLONE)
    assert first.fd[0] == second.fd[0] == 3
    assert first.fd[1] != second.fd[1]
    assert not first.value[0] & ops.MOUNT_ATTR_RDONLY
    assert second.value[0] & ops.MOUNT_ATTR_RDONLY


def test_a_file_is_mounted_on_a_file() -> None:
    plan = compiled({"mounts": [Mount.bind("/s", "/a")]}, file_sources={"/s"})
    assert steps(plan, Code.MOVE_MOUNT)[0].flags == ops.F_CREATE | ops.F_FILE


@pytest.mark.parametrize("target", ["/etc", "/etc/hosts"])
def test_files_of_ours_give_way_to_a_mount(target: str) -> None:
    """Nothing is created in a directory of the host that covers /etc."""
    plan = compiled({"mounts": [Mount.bind("/s", target)]})
    targets = [op.arena[0] for op in steps(plan, Code.MOVE_MOUNT)]
    assert targets.count("/etc/hosts") == (1 if target == "/etc/hosts" else 0)
    assert ("/etc/hostname" in targets) == (target == "/etc/hosts")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/proc",
        "/proc/self/attr",
        "/sys",
        "/sys/fs/cgroup/memory",
        "/dev",
        "/dev/null",
        "/dev/pts",
    ],
)
def test_system_targets_are_refused(target: str) -> None:
    """Who replaces /proc decides what a write to it means (CVE-2019-16884, CVE-2025-52881)."""
    with pytest.raises(ConfigError, match="system's"):
        compiled({"mounts": [Mount.bind("/s", target)]})


def test_shared_memory_can_be_replaced() -> None:
    plan = compiled({"mounts": [Mount.tmpfs("/dev/shm", size="1m")]})
    assert [op.arena[1] for op in steps(plan, Code.MOUNT_FS)].count("/dev/shm") == 1


def test_two_mounts_on_one_target() -> None:
    with pytest.raises(ConfigError, match="two mounts on /a"):
        compiled({"mounts": [Mount.tmpfs("/a"), Mount.tmpfs("/a/")]})


@pytest.mark.parametrize("mount", [Mount.volume("data", "/a"), Mount.image("x", "/a")])
def test_kinds_of_mounts_that_are_not_there_yet(mount: Mount) -> None:
    with pytest.raises(MissingFeature, match=mount.kind):
        compiled({"mounts": [mount]})


def test_more_mounts_than_slots() -> None:
    with pytest.raises(ConfigError, match="too many mounts"):
        compiled({"mounts": [Mount.bind(f"/s{n}", f"/t{n}") for n in range(40)]})


# ---- secrets


def test_secrets_are_read_by_the_user_only_and_named_only() -> None:
    plan = compiled({"secrets": {"key": b"hunter2"}, "user": "app"})
    copy = step(plan, Code.COPY_FD)
    assert copy.value == (0o400, 1000 << 32 | 1000)
    assert plan.inputs[copy.fd[0]] == Input("secret", "key")
    assert b"hunter2" not in plan.encode()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", ".hidden", "x" * 200])
def test_names_of_secrets(name: str) -> None:
    with pytest.raises(ConfigError, match="secret's name"):
        compiled({"secrets": {name: b""}})


# ---- root file system


def test_what_a_run_writes_is_bounded() -> None:
    assert step(compiled(), Code.UPPER_TMPFS).value[0] == 256 << 20
    plan = compiled({"limits": Limits(disk="1m")})
    assert step(plan, Code.UPPER_TMPFS).value == (1 << 20, 1024)


def test_a_kept_container_has_its_upper_in_the_store() -> None:
    plan = compiled(ephemeral=False)
    assert step(plan, Code.UPPER_DIR).arena[0] == f"containers/{ID}"
    assert step(plan, Code.OVERLAY).flags == ops.F_VOLATILE
    assert plan.kind == "kept"
    assert not step(compiled(ephemeral=False, volatile=False), Code.OVERLAY).flags
    with pytest.raises(MissingFeature, match="disk"):
        compiled({"limits": Limits(disk="1m")}, ephemeral=False)


def test_who_makes_the_directory_removes_it() -> None:
    made, given = compiled(), compiled(create=False)
    assert (step(made, Code.LOCK).flags, step(given, Code.LOCK).flags) == (ops.F_CREATE, 0)


def test_an_overlay_of_one_layer_has_an_upper_even_when_read_only() -> None:
    """The kernel refuses an overlay of one layer and nothing else."""
    one = compiled(rootfs=Rootfs((Overlay("/", (TOP,), writable=False),)))
    assert step(one, Code.OVERLAY).arena[1] == "0"
    assert step(one, Code.OVERLAY).value[0] & ops.MOUNT_ATTR_RDONLY
    two = compiled(rootfs=Rootfs((Overlay("/", (TOP, TOP), writable=False),)))
    assert step(two, Code.OVERLAY).arena[1] is None


def test_layers_of_the_host_are_sources() -> None:
    plan = compiled(rootfs=Rootfs((Overlay("/", (TOP, "/usr")),)))
    assert step(plan, Code.OVERLAY).arena[0] == (TOP, "@3")
    assert plan.inputs[3] == Input("source", "/usr")


def test_the_working_directory_is_made_then_entered() -> None:
    plan = compiled({"workdir": "/srv//work/."})
    assert step(plan, Code.MKDIR).arena[0] == "/srv/work"
    entered = steps(plan, Code.CHDIR)
    assert [op.arena[0] for op in entered] == ["/srv/work", "/srv/work"]
    codes = [op.code for op in plan.child]
    assert codes.index(Code.CHDIR) < codes.index(Code.IDS)  # with all rights, or then without
    assert not steps(compiled(), Code.MKDIR)


def test_volumes_of_the_image_are_directories() -> None:
    """Where nothing is mounted; not in what is the kernel's."""
    image = ImageConfig(volumes=("/data", "/given/deep", "/proc/x", "/dev/shm/x"))
    plan = compiled({"mounts": [Mount.bind("/s", "/given")]}, image=image)
    assert [op.arena[0] for op in steps(plan, Code.MKDIR)] == ["/data"]


def test_what_the_image_has_below_a_tmpfs_is_on_top_of_it() -> None:
    """Not on top of a bind: who gives a directory wants to see that."""
    layers = ("layers/a",)
    targets = ("/", "/tmp/venv", "/tmp/in/venv", "/run/x", "/opt/x")
    rootfs = Rootfs(tuple([Overlay(target, layers) for target in targets]))
    mounts = [
        Mount.tmpfs("/tmp"),
        Mount.tmpfs("/tmp/in"),
        Mount.tmpfs("/tmp/venv/cache"),
        Mount.bind("/s", "/run"),
        Mount.tmpfs("/opt/x"),
    ]
    plan = compiled({"mounts": mounts}, rootfs=rootfs)
    known = {*targets[1:], *(mount.target for mount in mounts)}
    order = [
        text
        for op in plan.child
        for text in op.arena[:2]
        if isinstance(text, str) and text in known
    ]
    assert order == [
        *("/run/x", "/opt/x"),
        *("/tmp", "/tmp/venv", "/run", "/tmp/in", "/tmp/in/venv", "/opt/x", "/tmp/venv/cache"),
    ]


# ---- what there is not


@pytest.mark.parametrize(
    "options",
    [
        {"ports": [80]},
        {"ports": {80: None}},
        {"dns": ["192.0.2.1"]},
        {"extra_hosts": {"a": "192.0.2.1"}},
        {"networks": {"n": None}},
    ],
)
def test_what_comes_later_is_refused(options: ContainerOptions) -> None:
    """Never silently ignored."""
    with pytest.raises(MissingFeature) as caught:
        compiled(options)
    assert caught.value.feature


@pytest.mark.parametrize(
    "options",
    [
        {"ports": []},
        {"ports": {}},
        {"ports": None},
        {"init": False},
        {"restart": "no"},
        {"name": "x", "labels": {"a": "b"}, "platform": "linux/amd64", "pull": "never"},
        {"lifetime": "owner", "stdin_open": True, "stop_signal": "INT"},
    ],
)
def test_options_that_ask_for_nothing_here(options: ContainerOptions) -> None:
    assert compiled(options) == compiled()


def test_unknown_options_name_the_likely_one() -> None:
    with pytest.raises(ConfigError, match="did you mean hostname"):
        compiled({"hostnme": "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"lifetime": "forever"},
        {"restart": "always"},
        {"lifetime": "detached"},
        {"lifetime": "detached", "restart": "sometimes"},
        {"lifetime": "detached", "restart": "always:3"},
        {"stop_signal": "NOSUCH"},
        {"labels": ["a=b"]},
        {"env": ["A=b"]},
        {"env": {"A": "\0"}},
        {"env": {"A": "\ud800"}},
        {"env": {"A=": "b"}},
        {"platform": 64},
        {"platform": "a/b/c/d"},
        {"secrets": b"x"},
        {"mounts": "/a:/b"},
        {"mounts": ["/a:/b"]},
        {"hostname": 5},
        {"workdir": 5},
        {"limits": {"memory": "64m"}},
        {"security": "strict"},
        {"lifetime": ["owner"]},
        {"pull": "sometimes"},
        {"stop_grace": "10"},
        {"stop_grace": -1},
        {"stop_grace": True},
        {"network": "host", "security": Security(sysctls={"net.ipv4.ip_forward": "1"})},
        {"user": ""},
        {"user": True},
        {"user": "nobody-here"},
        {"hostname": "-box"},
        {"workdir": "srv"},
    ],
)
def test_options_without_meaning(options: ContainerOptions) -> None:
    with pytest.raises(ConfigError):
        compiled(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {"a": 1}}, "labels: the value of 'a' is 1, int, not text"),
        ({"labels": {"a": None}}, "labels: the value of 'a' is None, NoneType, not text"),
        ({"labels": {1: "a"}}, "labels: the name 1 is int, not text"),
        ({"env": {"A": 2375}}, "env: the value of 'A' is int, not text"),
        ({"env": {b"A": "b"}}, "env: the name b'A' is bytes, not text"),
        ({"secrets": {"s": 2375}}, "secrets: the value of 's' is int, not bytes, text or a path"),
        ({"secrets": {"s": None}}, "secrets: the value of 's' is NoneType, not bytes"),
        ({"secrets": {5: b"x"}}, "secrets: the name 5 is int, not text"),
    ],
)
def test_entries_of_another_type_are_named(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}.*; hint: as {{.*str"):
        check_given(options)
    assert message.count("2375") == 0  # what may be secret is not shown


def test_an_id_is_64_digits() -> None:
    with pytest.raises(ConfigError, match="container's id"):
        compiled(id="../" + ID[3:])


@pytest.mark.parametrize("score", [-1001, 1001])
def test_oom_score_out_of_range(score: int) -> None:
    with pytest.raises(ConfigError, match="oom_score_adj"):
        compiled(oom_score_adj=score)


def test_a_host_without_control_groups() -> None:
    plan = compiled(facts=BARE)
    assert not steps(plan, Code.CGROUP)
    assert not plan.namespaces & ops.CLONE_NEWCGROUP
    assert any("pids" in note for note in plan.notes)


def test_lifted_limits() -> None:
    plan = compiled({"limits": UNLIMITED})
    assert step(plan, Code.CGROUP).arena[0] == ()
    assert step(plan, Code.UPPER_TMPFS).value == (0, 0)
    assert "mount tmpfs on /dev/shm, nosuid nodev noexec, mode=1777, creating it" in "\n".join(
        lines(plan)
    )


def test_the_same_request_gives_the_same_plan() -> None:
    assert compiled({"env": {"A": "1"}}).encode() == compiled({"env": {"A": "1"}}).encode()
    assert ImageConfig(env=IMAGE.env, cmd=IMAGE.cmd) == IMAGE

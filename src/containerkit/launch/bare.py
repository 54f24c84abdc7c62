"""Plans for where no namespaces are to be had: inside a container that was given no rights.

Owns what a container is there, and what is refused or left out.  Pure, like `compile`, whose place
it takes.  Such a container is a process tree beside its launcher: in a copy of its image's files that
chroot(2) makes its root, with the limits, rights and filter of system calls that any process may give
itself.  The host image has no copy: what runs from it sees the files around it.

What was asked for explicitly and can not be held raises `MissingFeature`; what the defaults would
have is left out with a note.  A process of such a container can not be kept from others with its
user's id, which docs/decisions/0021 says more about.

Neighbours: `runtime.nested` makes the copy; INIT (``ck_ops_init.c``) and the launcher end what a command
leaves behind.
"""

from __future__ import annotations

import errno
from functools import lru_cache
from struct import pack
from typing import TYPE_CHECKING, Final

from containerkit.errors import MissingFeature
from containerkit.launch import defaults
from containerkit.launch.capabilities import mask_of, names_of
from containerkit.launch.confine import bounding_set, filter_steps
from containerkit.launch.identity import Identity, among, resolve_user
from containerkit.launch.limits import cgroup_settings, rlimit_ops
from containerkit.launch.ops import F_CREATE, F_OPTIONAL, Code, Op
from containerkit.launch.plan import Plan
from containerkit.launch.presets import default_user, limits_of
from containerkit.launch.process import (
    candidates,
    command_line,
    environment,
    working_directory,
)
from containerkit.launch.request import HostFacts, LaunchRequest, check_options
from containerkit.launch.restart import restart_steps
from containerkit.launch.seccomp import program_of
from containerkit.launch.streams import check_streams, connect, inputs_of
from containerkit.model.seccomp import Condition, Rule, SeccompProfile
from containerkit.model.security import Security

if TYPE_CHECKING:
    from collections.abc import Mapping

    from containerkit.model.limits import Limits
    from containerkit.model.options import ContainerOptions
    from containerkit.model.rootfs import Rootfs

TREE: Final = "tree"
"""The directory, in a container's own, of the copy that is its root."""

HINT: Final = (
    "the container around this program decides: with user namespaces allowed and an uncovered /proc"
    " (docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined) all is as for an ordinary user"
)

_HINT_CHROOT: Final = f"allow it chroot (docker run --cap-add SYS_CHROOT); or more: {HINT}"

WITHHELD: Final = (
    "SYS_CHROOT",
    "MKNOD",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_BOOT",
)
"""Capabilities by which a process would leave its root, or that reach the host itself."""

_NOTES: Final = (
    "no namespaces are to be had: its processes, users, mounts and host name are those around it",
    "no /proc, /sys or terminals of its own",
)
_IN_PLACE: Final = (
    "the host image is not copied: it runs on the files around it, and may write to them"
)
_COPIED: Final = "its root is a copy of the image's files, entered by chroot"
_NO_DEVICES: Final = (
    "without /dev/null and other devices: the capability MKNOD is missing, or the store lies on a"
    " file system without devices"
)
_ALL: Final = (1 << 64) - 1
_OTHERS: Final = mask_of(("SETUID", "SETGID", "KILL"))
_SETPCAP: Final = mask_of(("SETPCAP",))
_AF_UNIX: Final = 1

_NO_NETWORK: Final = SeccompProfile(
    rules=(
        Rule(
            ("socket", "socketpair"),
            "errno",
            errno=errno.EAFNOSUPPORT,
            conditions=(Condition(0, "ne", _AF_UNIX),),
        ),
        Rule(("io_uring_setup",), "errno"),
    ),
    default="allow",
)
"""Instead of a network namespace: no sockets but those of files."""


def is_in_place(rootfs: Rootfs) -> bool:
    """Return whether it is the root of the host image, which is run without a copy."""
    lowers: tuple[str, ...] = getattr(rootfs.mounts[0], "lowers", ())
    return bool(lowers) and lowers[-1].startswith("host/")


def compile_bare(request: LaunchRequest, facts: HostFacts) -> Plan:
    """Compile a launch plan without namespaces; as `compile.compile_plan`."""
    from containerkit.launch.compile import is_host_network
    from containerkit.launch.health import health_steps
    from containerkit.launch.mounts import Slots

    options = request.options
    check_options(options)
    check_streams(request)
    in_place = is_in_place(request.rootfs)
    notes = [*_NOTES, _IN_PLACE if in_place else _COPIED]
    if not (in_place or facts.devices):
        notes.append(_NO_DEVICES)
    limits = limits_of(options)
    security = options.get("security") or Security()
    require(options, security, limits, facts, in_place=in_place)
    cgroup_settings(limits, facts, notes, request.devices)
    identity = identity_of(options, request.image.user, request.passwd, request.group, facts, notes)
    workdir = working_directory(request.image, options.get("workdir"))
    slots = Slots(inputs_of(request))
    prepare = [_lock(request)]
    tree = -1 if in_place else slots.fill()
    if not in_place:
        path = f"containers/{request.id}/{TREE}"
        prepare.append(Op(Code.TREE, fd=(tree, -1, -1), arena=(path, None, None)))
    on_prepare, child = connect(request, slots)
    prepare += [*on_prepare, *restart_steps(request), *health_steps(request, facts), defaults.STATE]
    child += enclose(
        security,
        identity,
        limits,
        facts,
        workdir,
        notes,
        tree=tree,
        in_place=in_place,
        network=is_host_network(options.get("network")),
    )
    child.append(_execute(request, identity, facts))
    return Plan(
        inputs=slots.inputs,
        prepare=prepare,
        child=child,
        namespaces=0,
        kind="ephemeral" if request.ephemeral else "kept",
        notes=notes,
    )


def _lock(request: LaunchRequest) -> Op:
    create = F_CREATE if request.create else 0
    return Op(Code.LOCK, flags=create, arena=(f"containers/{request.id}", None, None))


def _execute(request: LaunchRequest, identity: Identity, facts: HostFacts) -> Op:
    options = request.options
    argv = command_line(request.image, request.command, options.get("entrypoint"))
    env = environment(
        request.image,
        options.get("env"),
        hostname=facts.hostname,
        home=identity.home,
        tty=bool(options.get("tty")),
    )
    envp = tuple([f"{name}={value}" for name, value in env.items()])
    return Op(Code.EXEC, arena=(candidates(argv[0], env.get("PATH")), argv, envp))


# ---- what is refused


def require(
    options: ContainerOptions,
    security: Security,
    limits: Limits,
    facts: HostFacts,
    *,
    in_place: bool,
) -> None:
    """Refuse what was asked for and can not be held.

    Raises:
        MissingFeature: naming it, and who could grant it.
    """
    if not in_place and not facts.capabilities & mask_of(("SYS_CHROOT",)):
        raise MissingFeature(
            "cannot start an image here: neither namespaces nor chroot are to be had",
            hint=_HINT_CHROOT,
            feature="nested",
        )
    asked: Mapping[str, object] = {
        "security strict": security.preset == "strict",
        f"the user namespace {security.userns!r}": security.userns != "host",
        "a read-only root": security.read_only,
        "devices": security.devices,
        "sysctls": security.sysctls,
        "masked paths": security.masked_paths,
        "read-only paths": security.read_only_paths,
        "new privileges": not security.no_new_privileges and security.preset != "privileged",
        "mounts": options.get("mounts"),
        "secrets": options.get("secrets"),
        "a host name": options.get("hostname"),
        "a limit on disk": isinstance(limits.disk, int),
        "a size of /dev/shm": isinstance(limits.shm_size, int),
    }
    for what, wanted in asked.items():
        if wanted:
            raise MissingFeature(
                f"cannot give a container {what}: no namespaces are to be had here",
                hint=HINT,
                feature="nested",
            )


# ---- who it is, and what it may do


def identity_of(
    options: ContainerOptions,
    image_user: str,
    passwd: bytes | None,
    group: bytes | None,
    facts: HostFacts,
    notes: list[str],
    *,
    user: str | int | None = None,
) -> Identity:
    """Return who a process is to be: whoever was asked for, or the caller where that is all.

    Args:
        options: of the container.
        image_user: the image's own.
        passwd: content of /etc/passwd as the process sees it.
        group: of /etc/group.
        facts: of the surroundings.
        notes: gets a sentence for what is not as it would be elsewhere.
        user: of an exec.

    Raises:
        ConfigError: an unknown user.
        MissingFeature: another one was asked for, and the right to become it is missing.
    """
    from containerkit.launch.compile import user_of

    asked = options.get("user") if user is None else user
    if facts.capabilities & _OTHERS == _OTHERS:
        found = resolve_user(user_of(asked, default_user(options, image_user)), passwd, group)
        return among(found, facts.ids, notes)
    own = resolve_user(f"{facts.euid}:{facts.egid}", passwd, group)._replace(groups=())
    if asked is None:
        notes.append(f"as user {own.uid}, who runs this program: it can not become another one")
        return own
    found = resolve_user(user_of(asked, ""), passwd, group)
    if (found.uid, found.gid) != (own.uid, own.gid):
        raise MissingFeature(
            f"cannot run as user {found.uid}, group {found.gid}: this program is user {own.uid},"
            f" group {own.gid}, without the right to become another one",
            hint="the capabilities SETUID, SETGID and KILL give it",
            feature="nested",
        )
    return own


def enclose(
    security: Security,
    identity: Identity,
    limits: Limits,
    facts: HostFacts,
    workdir: str,
    notes: list[str],
    *,
    tree: int,
    in_place: bool,
    network: bool,
) -> list[Op]:
    """Return the steps between the streams, which are of the surroundings, and the command.

    Args:
        security: capabilities and the filter are read.
        identity: who it becomes.
        limits: its ulimits.
        facts: of the surroundings.
        workdir: entered with the user's own rights.
        notes: gets what is left out.
        tree: the slot of the copy; -1: in an exec, its container's.
        in_place: it has no copy.
        network: it may use that of the surroundings.
    """
    steps = [Op(Code.CHROOT, fd=(tree, -1, -1), value=(int(in_place), 0))]
    steps += rlimit_ops(facts.rlimits, limits.ulimits)
    # Most filters around us refuse it, and the container's own then keeps keys from being used.
    steps.append(Op(Code.KEYRING, flags=F_OPTIONAL))
    steps += (defaults.UMASK, defaults.NO_NEW_PRIVS)
    if identity.groups:
        groups = pack(f"<{len(identity.groups)}I", *identity.groups)
        steps.append(Op(Code.GROUPS, arena=(groups, None, None)))
    steps.append(Op(Code.IDS, value=(identity.uid, identity.gid)))
    bounding = _bounding(security, facts, notes)
    held = bounding if identity.uid == 0 else 0
    if not facts.capabilities & _SETPCAP:
        bounding = _ALL  # it can not be changed, and with no_new_privs it gives nothing
    steps.append(Op(Code.CAPS, value=(bounding, held)))
    steps.append(Op(Code.CHDIR, arena=(workdir, None, None)))
    if not network:
        steps.append(Op(Code.SECCOMP, arena=(_no_network(facts.machine), None, None)))
        notes.append("no network: sockets of the kind AF_UNIX only, abstract ones of others too")
    steps += filter_steps(security, held, facts, notes)
    return [*steps, defaults.INIT]


def _bounding(security: Security, facts: HostFacts, notes: list[str]) -> int:
    withheld = mask_of(WITHHELD)
    found = bounding_set(security, facts.capabilities & ~withheld, [])
    left = mask_of(security.capabilities) & ~found
    if left:
        notes.append(f"without the capabilities {' '.join(names_of(left))}")
    return found


@lru_cache(maxsize=4)
def _no_network(machine: str) -> bytes:
    program = program_of(_NO_NETWORK, machine=machine, capabilities=(), own_userns=False)
    assert program is not None
    return program

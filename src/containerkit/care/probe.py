"""`engine.probe()`: what this host offers to this process, and what stands in for the rest.

Owns: the questions, feature by feature, and the words about each.  Must not: change anything on the
host, not even load a module, nor decide what a start does: `launch` and the launcher find out for
themselves.
Neighbours: `care.kernel` asks the kernel, `care.groups` looks at control groups.

Spec: namespaces(7), user_namespaces(7), seccomp(2), mount_setattr(2), capabilities(7).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from containerkit.care import groups, kernel
from containerkit.launch.bare import HINT
from containerkit.launch.capabilities import mask_of
from containerkit.model.host import HostFeature, HostReport
from containerkit.runtime import facts
from containerkit.state import forbidden, subids, userns

_SYS_ADMIN: Final = 1 << 21
_SYSCTL: Final = Path("/proc/sys")
_MODULES: Final = {
    "AppArmor": "/sys/kernel/security/apparmor",
    "SELinux": "/sys/fs/selinux/enforce",
}
"""Security modules that have a profile or label for each process, and what is there with one."""
_SETS: Final = {"AppArmor": "profile", "SELinux": "label"}


class Row(NamedTuple):
    """A feature, and how it is looked for: the question returns whether, and what was found."""

    name: str
    ask: Callable[[], tuple[bool, str]]
    needed_for: str
    stands_in: str
    knob: str | Callable[[], str] = ""


def probe() -> HostReport:
    """Look at the host.

    Blocking: a tenth of a second at most, reading /proc and /sys.
    """
    return HostReport(tuple(_features()))


def _features() -> Iterator[HostFeature]:
    for row in (*_RIGHTS, *_NAMESPACES, *_CALLS, *_FILES, *_REST):
        present, found = row.ask()
        knob = "" if present else row.knob if isinstance(row.knob, str) else row.knob()
        yield HostFeature(row.name, present, found, row.needed_for, row.stands_in, knob)
        if row.name == "seccomp":
            yield from groups.features()


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


# ---- rights


def _administrator() -> tuple[bool, str]:
    who = f"user {os.geteuid()}"
    if not facts.capabilities() & _SYS_ADMIN:
        return False, f"{who}, without CAP_SYS_ADMIN"
    held = userns.is_administrator()
    return held, f"{who}, with CAP_SYS_ADMIN" + ("" if held else ", but not with all that it takes")


def _profile() -> tuple[bool, str]:
    for name, path in _MODULES.items():
        if os.path.exists(path):
            return False, f"{name} is there; no {_SETS[name]} is set: theirs is this program's"
    return True, "neither AppArmor nor SELinux is there"


def _groups() -> tuple[bool, str]:
    if not userns.is_needed() or userns.granted() is not None:
        return True, "a container has its user's alone"
    kept = sorted({*os.getgroups()} - {os.getegid()})
    if not kept:
        return True, "this user has no other"
    return (
        False,
        f"{' '.join(map(str, kept))} stay: with one id mapped the kernel lets none be dropped",
    )


def _seccomp() -> tuple[bool, str]:
    actions = _read(_SYSCTL / "kernel/seccomp/actions_avail")
    return actions is not None, actions or "the kernel has no filters"


_RIGHTS: Final = (
    Row(
        "administrator",
        _administrator,
        "making namespaces and mounts",
        "a user namespace of the caller's: see unprivileged user namespaces",
        "run as root; in a container, give it CAP_SYS_ADMIN",
    ),
    Row(
        "supplementary groups",
        _groups,
        "that files which only these groups may use are closed to containers",
        "containers keep this program's groups, for files that they are given",
        "grant ids in /etc/subuid and /etc/subgid, or run as a user without other groups",
    ),
    Row(
        "security module",
        _profile,
        "a profile or label for containers, beside all else",
        "capabilities, the filter of system calls, namespaces and masks; no profile or label",
        "run this program under a profile of your own, which containers inherit",
    ),
)


# ---- namespaces


def _namespace(name: str, flag: int) -> Callable[[], tuple[bool, str]]:
    def ask() -> tuple[bool, str]:
        if not os.path.exists(f"/proc/self/ns/{name}"):
            return False, "not in this kernel"
        answer = kernel.namespace(flag)
        return answer.known, "yes" if answer.known else f"refused ({answer.said})"

    return ask


_FILTER: Final = (
    "a seccomp filter of the container around us is in the way: allow clone and unshare"
)

_NAMESPACES: Final = tuple(
    Row(f"{name} namespace", _namespace(short, flag), purpose, "nothing starts", _FILTER)
    for name, short, flag, purpose in (
        ("mount", "mnt", 0x00020000, "a root file system of its own"),
        ("pid", "pid", 0x20000000, "processes of its own, which all end with it"),
        ("network", "net", 0x40000000, "network interfaces of its own"),
        ("ipc", "ipc", 0x08000000, "shared memory and queues of its own"),
        ("uts", "uts", 0x04000000, "a host name of its own"),
        ("cgroup", "cgroup", 0x02000000, "not to see where it is in the host's control groups"),
    )
)


def _user_namespaces() -> tuple[bool, str]:
    most = _read(_SYSCTL / "user/max_user_namespaces")
    if most is None:
        return False, "not in this kernel"
    if most == "0":
        return False, "user.max_user_namespaces is 0"
    answer = kernel.namespace(0x10000000)
    if not answer.known:
        return False, f"refused ({answer.said})"
    return True, f"at most {most}"


def _unprivileged_user_namespaces() -> tuple[bool, str]:
    present, found = _user_namespaces()
    if not present:
        return False, found
    for name, bad in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        if _read(_SYSCTL / name) == bad:
            return False, f"{name.replace('/', '.')} is {bad}"
    return True, "no setting forbids them"


def _nested() -> tuple[bool, str]:
    missing = userns.missing()
    if not missing:
        return True, "namespaces are to be had"
    rights = facts.capabilities() & mask_of(("SYS_CHROOT",))
    files = "chroot, in a copy of its files" if rights else "neither chroot: the host image only"
    if missing == "mounts":
        return False, f"no /proc and /sys for namespaces: those around us are covered; {files}"
    return False, f"a filter or security module around us refuses namespaces; {files}"


def _subordinate_ids() -> tuple[bool, str]:
    if not userns.is_needed():
        return True, "not needed: this user has all"
    ids = userns.granted()
    if ids is not None:
        return True, f"{ids.uids[1][2]} users beside its own, from {ids.uids[1][1]} on"
    return False, subids.withheld()


# ---- system calls


def _call(
    question: Callable[[], kernel.Answer], *, within: bool = False
) -> Callable[[], tuple[bool, str]]:
    """Make a question of a call; *within*: who may not make it may do so in a user namespace."""

    def ask() -> tuple[bool, str]:
        answer = question()
        if within and answer.said == "EPERM" and userns.is_needed():
            return True, f"yes, Linux {platform.release()}, in a user namespace"
        if answer.known:
            return True, f"yes, Linux {platform.release()}"
        return False, f"{answer.said} from Linux {platform.release()}"

    return ask


_NEWER: Final = f"Linux {forbidden.FLOOR} or later"

_CALLS: Final = (
    Row(
        "pidfd",
        _call(kernel.pidfd_open),
        "signals that never hit another process, and ends that are always seen",
        "nothing starts",
        _NEWER,
    ),
    Row(
        "clone3",
        _call(kernel.clone3),
        "processes that no wait() of this program sees",
        "nothing starts",
        f"{_NEWER}; a seccomp filter around us may refuse it",
    ),
    Row(
        "clone into cgroup",
        _call(kernel.clone_into_cgroup),
        "being in the control group from birth (version 2)",
        "the child is moved there before it does anything",
        "Linux 5.7 or later",
    ),
    Row(
        "openat2",
        _call(kernel.openat2),
        "paths that never lead out of a container, resolved by the kernel",
        "each component is opened and checked in turn, slower",
        "Linux 5.6 or later; a seccomp filter around us may refuse it",
    ),
    Row(
        "mount API",
        _call(kernel.mount_api, within=True),
        "mounts that are made aside and attached whole (fsopen, open_tree, move_mount)",
        "nothing starts",
        _NEWER,
    ),
    Row(
        "mount attributes",
        _call(kernel.mount_attributes),
        "read-only mounts, without devices (mount_setattr)",
        "nothing starts",
        f"{_NEWER}; a seccomp filter around us may refuse it",
    ),
    Row(
        "close_range",
        _call(kernel.close_range),
        "that no descriptor of this program is open in a container",
        "nothing starts",
        f"{_NEWER}; a seccomp filter around us may refuse it",
    ),
    Row(
        "idmapped mounts",
        _call(kernel.idmapped_mounts),
        "sharing layers and directories with a user namespace",
        "layers are copied, with a container's ids; of bind mounts, nothing starts",
        lambda: (
            "run as root of the host: the kernel gives them to nobody else"
            if userns.is_within()
            else "Linux 5.12 or later, 5.19 for overlays"
        ),
    ),
    Row("seccomp", _seccomp, "refusing dangerous system calls", "nothing starts", "CONFIG_SECCOMP"),
)


# ---- files


def _overlay() -> tuple[bool, str]:
    known = _read("/proc/filesystems") or ""
    if "\toverlay\n" in f"{known}\n":
        return True, "yes"
    if _loadable("overlay"):
        return True, "as a module, loaded on first use"
    return False, "not in /proc/filesystems"


def _overlay_append() -> tuple[bool, str]:
    if "\toverlay\n" not in f"{_read('/proc/filesystems') or ''}\n":
        return False, "no overlay that could be asked"
    # A parser of before 6.5 takes every option here and refuses it at the mount.
    if userns.is_needed():
        return False, "only root can ask for it"
    if kernel.overlay_option("nobody-knows-this", "1"):
        return False, "options are not checked one by one"
    taken = kernel.overlay_option("lowerdir+", "/")
    return taken, "yes" if taken else "not taken"


def _loadable(module: str) -> bool:
    index = _read(f"/lib/modules/{platform.release()}/modules.dep") or ""
    built_in = _read(f"/lib/modules/{platform.release()}/modules.builtin") or ""
    return any(f"/{module}.ko" in text for text in (index, built_in))


def _device(path: str) -> Callable[[], tuple[bool, str]]:
    def ask() -> tuple[bool, str]:
        if not os.path.exists(path):
            return False, f"there is no {path}"
        if not os.access(path, os.R_OK | os.W_OK):
            return False, f"{path} may not be opened"
        return True, path

    return ask


def _device_knob(path: str, module: str) -> Callable[[], str]:
    def knob() -> str:
        if not os.path.exists(path):
            return module
        return f"as root: give this user the group of {path}, or: chmod 666 {path}"

    return knob


_FILES: Final = (
    Row(
        "overlay",
        _overlay,
        "layers that containers share",
        "nothing starts",
        "modprobe overlay",
    ),
    Row(
        "overlay lowerdir+",
        _overlay_append,
        "images of any number of layers, without links to short names",
        "mount(2) with short names in the launcher's own root",
        "Linux 6.5 or later",
    ),
    Row(
        "fuse",
        _device("/dev/fuse"),
        "file systems of programs, where a later version uses some",
        "overlays of the kernel alone",
        _device_knob("/dev/fuse", "modprobe fuse"),
    ),
)


# ---- the rest


def _nftables() -> tuple[bool, str]:
    # Not asked by netlink: that would load the module.
    if os.path.isdir("/sys/module/nf_tables"):
        return True, "loaded"
    if _loadable("nf_tables"):
        return True, "as a module, loaded on first use"
    symbols = _read("/proc/kallsyms") or ""
    if " nft_do_chain" in symbols:
        return True, "built in"
    return False, "neither loaded nor among the modules of this kernel"


def _memfd_exec() -> tuple[bool, str]:
    value = _read(_SYSCTL / "vm/memfd_noexec")
    if value == "2":
        return False, "vm.memfd_noexec is 2"
    return True, "yes" if value is None else f"vm.memfd_noexec is {value}"


def _detached() -> tuple[bool, str]:
    ends = groups.detached_ends_with()
    return not ends, "ends by itself only" if not ends else f"ends with {', or '.join(ends)}"


_REST: Final = (
    Row(
        "user namespaces",
        _user_namespaces,
        "containers whose root is nobody on the host",
        "root in a container is root with fewer rights, behind seccomp",
        "sysctl user.max_user_namespaces=15000",
    ),
    Row(
        "unprivileged user namespaces",
        _unprivileged_user_namespaces,
        "containers started by ordinary users",
        "containers need root",
        lambda: (
            ", ".join(f"sysctl {name}={good}" for name, _, good in forbidden.knobs()) or _FILTER
        ),
    ),
    Row(
        "subordinate ids",
        _subordinate_ids,
        "users and groups beside root in containers of ordinary users",
        "user 0 alone, who is the caller: files of others become its own, user= raises",
        subids.knob,
    ),
    Row(
        "nested",
        _nested,
        "containers that are isolated at all, also inside of another container",
        "processes in a copy of the image's files, beside all others (DegradedWarning)",
        HINT,
    ),
    Row(
        "nftables",
        _nftables,
        "published ports and networks, in a later version",
        "a proxy in user space",
        "modprobe nf_tables",
    ),
    Row(
        "kvm",
        _device("/dev/kvm"),
        "nothing yet: containers share the host's kernel",
        "namespaces, as everywhere",
        _device_knob(
            "/dev/kvm", "modprobe kvm-intel or kvm-amd; nested virtualization in a virtual machine"
        ),
    ),
    Row(
        "memfd exec",
        _memfd_exec,
        "running the launcher from a sealed copy in memory",
        "the launcher's file is executed, from a read-only mount of its own",
        "sysctl vm.memfd_noexec=0",
    ),
    Row(
        "detached containers",
        _detached,
        "containers that outlive this program and its session",
        "they end with what is named here, as owner-lifetime ones do",
        "start them from outside of it: a service, or the host itself",
    ),
)

"""Where we mean to differ from Docker, and why: each is checked to be still so.

A name may end in "*", for all cases that begin like it.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from containerkit.launch.process import DEFAULT_PATH
from tests.peers.answer import REFUSED, Answer


@attrs.frozen
class Difference:
    """What we do instead, and the reason."""

    reason: str
    like_podman: bool = False
    """Podman's answer is ours."""
    code: int | None = None
    out: tuple[str, ...] | None = None
    refused: bool = False
    """No process runs."""


ROOT = "the root's owner and mode are the layer's, wide enough for every user to enter"
NO_WIDER = "the mask of an access list that is not kept is not the mode of the group"
RUNC = "what runc says once it has begun is code 1; here the call fails, and says why"
NAMED = "the code for a command that cannot run is for commands alone"
HOMELESS = "HOME is / for who has none"
NO_GUESS = "nobody is guessed: two parts, and numbers that every reader takes for the same"
MISSING = "a name that a caller leaves empty is more likely a value that is missing"
BELOW = "a relative directory is one below the root"
CLIMBS = "what climbs in an image's directory stays beneath the root"
KEPT = "what is at a volume's place already is left as it is"
NO_NETWORK = "there is no resolv.conf where there is no network"
DEV = "/dev is read-only"
OWN_GROUPS = "control groups are read-only, in a namespace of their own"
FEWER = "no program gains rights by a set-user-ID bit, nor makes device nodes"

DIFFERENCES: Mapping[str, Difference] = {
    # ---- programs
    "command/in a relative path": Difference(
        "a relative part of PATH counts from the working directory, as in execvp(3)", out=("run 0",)
    ),
    "command/in an empty part of the path": Difference(
        "an empty part of PATH is the working directory, as in execvp(3)", out=("run 0",)
    ),
    "program/none that is executable": Difference("it is there", refused=True, code=126),
    "program/in root's directory by the path": Difference("it is there", refused=True, code=126),
    "program/below a file": Difference("there is no such command", refused=True, code=127),
    "program/no such interpreter": Difference(RUNC, refused=True, code=127),
    "program/lines of Windows": Difference(RUNC, refused=True, code=127),
    "program/no interpreter": Difference(RUNC, refused=True, code=126),
    "program/an empty file": Difference(RUNC, refused=True, code=126),
    "program/a broken binary": Difference(RUNC, refused=True, code=126),
    # ---- what an image says that Docker refuses
    "env/no name": Difference(
        "a variable without a name is left out",
        out=("HOME=/root", "HOSTNAME=peer", "PATH=/usr/local/bin:/usr/bin:/bin"),
    ),
    "env/path without equals": Difference(
        "a variable without a value is left out: PATH stays, so that commands are found",
        out=("HOME=/root", "HOSTNAME=peer", f"PATH={DEFAULT_PATH}"),
    ),
    "workdir/relative/../x": Difference(CLIMBS, out=("/x", "755 0:0")),
    "workdir/..": Difference(CLIMBS, out=("/", "755 0:0")),
    "workdir/../..": Difference(CLIMBS, out=("/", "755 0:0")),
    # ---- users
    "passwd/an id twice/app": Difference("the home is the named user's", like_podman=True),
    "passwd/broken lines/app": Difference(
        "a line without numbers is none; Docker makes it root",
        out=("1000 1000 1000 1001 /home/app",),
    ),
    "passwd/no number/app": Difference(
        "a line without numbers is none; Docker makes it root", refused=True
    ),
    "passwd/no home/app": Difference(HOMELESS, out=("1000 1000 1000 1001 /",)),
    "passwd/no home/1000": Difference(HOMELESS, out=("1000 1000 1000 1001 /",)),
    "passwd/a directory/1000": Difference("a number needs no passwd", out=("1000 0 0 /",)),
    "passwd/short/app": Difference(HOMELESS, out=("1000 1001 1001 /",)),
    "passwd/short/1000": Difference(HOMELESS, out=("1000 1001 1001 /",)),
    "user/app:app:app": Difference(NO_GUESS, refused=True),
    "user/01000": Difference(NO_GUESS, refused=True),
    "user/+5": Difference(NO_GUESS, refused=True),
    "user/given app:": Difference(MISSING, refused=True),
    "user/given :extra": Difference(MISSING, refused=True),
    # ---- working directories
    "workdir/relative": Difference(BELOW, out=("/relative", "755 0:0")),
    "workdir/./relative": Difference(BELOW, out=("/relative", "755 0:0")),
    "workdir/a/b": Difference(BELOW, out=("/a/b", "755 0:0")),
    "workdir/.": Difference(BELOW, out=("/", "755 0:0")),
    "workdir/~": Difference(BELOW, out=("/~", "755 0:0")),
    "workdir/$HOME": Difference(BELOW, out=("/$HOME", "755 0:0")),
    "workdir/C:\\\\x": Difference(BELOW, out=("/C:\\\\x", "755 0:0")),
    "workdir//dangling": Difference("nothing is made where a dangling link leads", refused=True),
    "workdir//dangling/sub": Difference(
        "nothing is made where a dangling link leads", refused=True
    ),
    "workdir//magic": Difference("no link of /proc is followed", refused=True),
    "workdir//proc/new": Difference(NAMED, refused=True),
    "workdir//dev/new": Difference(DEV, refused=True),
    # ---- volumes
    "volume/an empty name": Difference(
        KEPT,
        out=(
            "directory 755 0:0 /",
            *("bin", "dev", "etc", "full", "home", "link", "proc", "root", "sticky", "sys", "text"),
            *("tmp", "var"),
        ),
    ),
    "volume/the root": Difference(KEPT, out=("regular file 755 0:0 /bin/busybox", "/bin/busybox")),
    "volume/a file": Difference(KEPT, out=("regular file 644 0:0 /text", "/text")),
    "volume/proc": Difference(
        KEPT, out=("regular empty file 444 0:0 /proc/self/status", "/proc/self/status")
    ),
    "volume/of text": Difference(
        "what a volume maps to means nothing", out=("directory 755 0:0 /vol",)
    ),
    "volume/in dev": Difference(DEV, out=()),
    # ---- layers
    "hard link/out": Difference("a layer with a link that leaves it is refused", refused=True),
    "mode/the root 0777": Difference(ROOT, out=("/ directory 777 0:0",)),
    "mode/the root another's": Difference(ROOT, out=("/ directory 755 1000:1001",)),
    **{
        f"acl/{name}/{who}": Difference(NO_WIDER, out=out)
        for name in ("a user more", "a group more", "a user less", "by names", "with ids", "broken")
        for who, out in {
            "owner": ("600", "read", "written"),
            "group": ("600",),
            "app": ("600",),
            "extra": ("600",),
        }.items()
    },
    # ---- /etc
    "etc/none": Difference(
        "an image without /etc is given only what is the container's", out=("hostname", "hosts")
    ),
    "etc/hosts over the image's": Difference(NO_NETWORK, like_podman=True),
    "etc/kinds": Difference(NO_NETWORK, like_podman=True),
    "etc/as app resolv.conf": Difference(NO_NETWORK, like_podman=True),
    "etc/dangling": Difference(NO_NETWORK, code=1, out=("hosts", "hostname")),
    "etc/links": Difference("a link of the image's stays", like_podman=True),
    "etc/mtab of the image": Difference("the image's own stays", like_podman=True),
    "etc/mtab a link of the image": Difference("the image's own stays", like_podman=True),
    "etc/files of the engine": Difference("nothing of ours is in the root", like_podman=True),
    # ---- /dev, /proc/sys, control groups, mounts
    "dev/console opened": Difference(DEV, code=1, out=()),
    "dev/write": Difference(DEV, code=1, out=()),
    "dev/mknod": Difference(FEWER, code=1, out=()),
    "dev/mknod of a disk": Difference(FEWER, code=1, out=()),
    "sysctl/net/ipv6/*": Difference("there is no network to turn it off for", like_podman=True),
    "sys/write": Difference(OWN_GROUPS, out=("no",)),
    "cgroup/mountinfo": Difference(OWN_GROUPS, out=("ro",)),
    "cgroup/written": Difference(OWN_GROUPS, out=()),
    "cgroup/path": Difference(OWN_GROUPS, out=("some",)),
    "mount/": Difference("device nodes are those in /dev", out=("overlay rw nodev",)),
    "mount/dev": Difference(DEV, out=("tmpfs ro nosuid noexec",)),
    "mount/etc/hosts": Difference(
        "it is no file of the host's", out=("tmpfs rw nosuid nodev noexec",)
    ),
    # ---- rights
    "status/CapPrm": Difference(FEWER, out=("CapPrm:\t00000000a00425fb",)),
    "status/CapEff": Difference(FEWER, out=("CapEff:\t00000000a00425fb",)),
    "status/CapBnd": Difference(FEWER, out=("CapBnd:\t00000000a00425fb",)),
    "status/CapBnd of app": Difference(FEWER, out=("CapBnd:\t00000000a00425fb",)),
    "status/NoNewPrivs": Difference(FEWER, out=("NoNewPrivs:\t1",)),
    "status/NoNewPrivs of app": Difference(FEWER, out=("NoNewPrivs:\t1",)),
    # ---- configs
    "config/members in small letters": Difference(
        "members have the names of the spec", refused=True
    ),
}

TO_BE_MENDED = (
    "hard link/of another mode",
    "hard link/of another owner",
)
"""Cases in which a difference is a defect that is being worked on: they may differ."""


def of(name: str) -> Difference | None:
    """Return the difference that is meant for a case, or None."""
    if name in DIFFERENCES:
        return DIFFERENCES[name]
    for begin, difference in DIFFERENCES.items():
        if begin.endswith("*") and name.startswith(begin[:-1]):
            return difference
    return None


def is_to_be_mended(name: str) -> bool:
    """Return whether a case may still differ."""
    return name in TO_BE_MENDED


def expected(difference: Difference, peers: Mapping[str, Answer]) -> Answer:
    """Return what we answer, where that is not Docker's answer."""
    if difference.like_podman:
        return peers["podman"]
    if difference.refused:
        return {"code": difference.code or REFUSED, "refused": True}
    return {"code": difference.code or 0, "out": list(difference.out or ())}

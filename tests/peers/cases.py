"""The table: images, how each is started, and what is looked at inside.

Owns: the cases, as data.  Must not: know what the answer is; Docker's and podman's are in
recorded.json, and where we mean to differ is in `differences`.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tests.support import ocibuild
from tests.support.ocibuild import Content, Entry, directory, program, symlink

ENV = "PATH=/usr/local/bin:/usr/bin:/bin"
HOSTNAME = "peer"


@attrs.frozen
class Case:
    """An image and a start of it."""

    name: str
    config: Mapping[str, Any] = attrs.field(factory=dict)
    """Members of the image's "config", beside a PATH and ["sh"] as Cmd; None stays null."""
    layers: Sequence[Mapping[str, Content] | bytes] = ()
    """Above busybox; bytes are a tar."""
    command: Sequence[str] | None = None
    """After the image's name; None: the image's own."""
    entrypoint: str | None = None
    user: str | None = None
    workdir: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    memory: int | None = None
    """Bytes."""
    tty: bool = False
    ordered: bool = True
    """Whether the order of the lines of its output means something."""


def image(case: Case) -> ocibuild.Image:
    """Return the case's image."""
    settings = {"Env": [ENV], "Cmd": ["sh"], **case.config}
    made = [_base(), *(ocibuild.layer(one, "none") for one in case.layers)]
    return ocibuild.image(made, config=settings, schema="docker")


@functools.cache
def _base() -> ocibuild.Layer:
    return ocibuild.layer(ocibuild.busybox_files(), "none")


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def table() -> dict[str, Case]:
    """Return all cases by name."""
    found: dict[str, Case] = {}
    for case in _all():
        assert case.name not in found, case.name
        found[case.name] = case
    return found


def _all() -> Iterator[Case]:
    for make in (
        commands, users, passwords, workdirs, volumes, modes, owners, environments,
        etc, devices, kernel, groups, mounts, rights, endings, documents,
    ):  # fmt: skip
        yield from make()


# ---- what is run -------------------------------------------------------------------------------

RUN: Mapping[str, Content] = {"app/run": program("#!/bin/sh\necho run $# $*\n"), "app/data": "text"}


def commands() -> Iterator[Case]:
    """Entrypoint and Cmd, in every form that a config may have."""
    say = ["echo", "cmd"]
    forms: dict[str, dict[str, Any]] = {
        "neither": {"Cmd": None},
        "cmd": {"Cmd": say},
        "cmd a text": {"Cmd": "echo cmd"},
        "cmd a text of one word": {"Cmd": "pwd"},
        "cmd an empty text": {"Cmd": ""},
        "cmd empty": {"Cmd": []},
        "cmd of an empty word": {"Cmd": [""]},
        "cmd with an empty word": {"Cmd": ["echo", "", "x"]},
        "cmd a number": {"Cmd": 5},
        "cmd an object": {"Cmd": {"echo": "x"}},
        "cmd with a number": {"Cmd": ["echo", 5]},
        "cmd with a null": {"Cmd": ["echo", None, "x"]},
        "cmd of spaces": {"Cmd": ["  "]},
        "entrypoint": {"Entrypoint": ["echo", "ep"], "Cmd": None},
        "entrypoint and cmd": {"Entrypoint": ["echo", "ep"], "Cmd": say},
        "entrypoint a text": {"Entrypoint": "echo", "Cmd": say},
        "entrypoint a text of words": {"Entrypoint": "echo ep", "Cmd": say},
        "entrypoint of an empty word": {"Entrypoint": [""], "Cmd": say},
        "entrypoint of two empty words": {"Entrypoint": ["", ""], "Cmd": say},
        "entrypoint that begins empty": {"Entrypoint": ["", "echo"], "Cmd": say},
        "entrypoint an empty text": {"Entrypoint": "", "Cmd": say},
        "entrypoint empty": {"Entrypoint": [], "Cmd": say},
        "entrypoint null": {"Entrypoint": None, "Cmd": say},
        "entrypoint a shell": {"Entrypoint": ["sh", "-c"], "Cmd": ["echo $0", "zero"]},
        "entrypoint of an empty word alone": {"Entrypoint": [""], "Cmd": None},
        "a shell of its own": {"Shell": ["/bin/false"], "Cmd": say},
        "shell a text": {"Shell": "/bin/sh", "Cmd": say},
        "shell empty": {"Shell": [], "Cmd": say},
        "relative": {"Cmd": ["./run", "a b"], "WorkingDir": "/app"},
        "relative without a dot": {"Cmd": ["app/run"], "WorkingDir": "/"},
        "in the working directory": {"Cmd": ["run"], "WorkingDir": "/app"},
        "in the path": {"Cmd": ["run"], "Env": ["PATH=/app:/bin"]},
        "in a relative path": {"Cmd": ["run"], "Env": ["PATH=app:/bin"]},
        "in an empty part of the path": {
            "Cmd": ["run"], "Env": ["PATH=:/bin"], "WorkingDir": "/app"
        },
        "args escaped": {"Cmd": say, "ArgsEscaped": True},
    }  # fmt: skip
    for name, config in forms.items():
        yield Case(f"command/{name}", config, [RUN])
    both = {"Entrypoint": ["echo", "ep"], "Cmd": say}
    yield Case("command/given", {"Cmd": ["false"]}, command=["echo", "mine"])
    yield Case("command/given beside an entrypoint", both, command=["mine"])
    yield Case("command/given beside an empty one", {"Entrypoint": [""]}, command=["echo", "mine"])
    yield Case("command/an entrypoint given", both, entrypoint="pwd")
    yield Case("command/both given", both, entrypoint="echo", command=["mine"])
    yield Case("command/no entrypoint given", both, entrypoint="", command=["echo", "mine"])
    yield Case("command/nothing left", both, entrypoint="")
    files: dict[str, Content] = {
        "a/dir/run": None,
        "b/plain/run": "#!/bin/sh\necho plain\n",
        "c/run": program("#!/bin/sh\necho c\n"),
        "d/shebang": program("#!/no/such\n"),
        "d/none": program("echo no interpreter\n"),
        "d/empty": program(""),
        "d/windows": program("#!/bin/sh\r\necho x\r\n"),
        "d/long": program("#!/bin/sh -e\necho $-\n"),
        "d/link": symlink("../c/run"),
        "d/dangling": symlink("nowhere"),
        "d/loop": symlink("loop"),
        "d/binary": program(b"\x7fELF\x02\x01\x01"),
        "d/others": Entry(data=b"#!/bin/sh\necho x\n", mode=0o700),
        "closed": directory(0o700),
        "closed/run": program("#!/bin/sh\necho closed\n"),
    }
    runs: dict[str, tuple[str, str, str]] = {
        "a directory comes first": ("run", "/a/dir:/c", ""),
        "one that is not executable comes first": ("run", "/b/plain:/c", ""),
        "none that is executable": ("run", "/b/plain", ""),
        "a directory": ("/a", "/bin", ""),
        "no such": ("/a/no", "/bin", ""),
        "no such in the path": ("no", "/bin", ""),
        "below a file": ("/c/run/x", "/bin", ""),
        "not executable": ("/b/plain/run", "/bin", ""),
        "no such interpreter": ("/d/shebang", "/bin", ""),
        "no interpreter": ("/d/none", "/bin", ""),
        "an empty file": ("/d/empty", "/bin", ""),
        "lines of Windows": ("/d/windows", "/bin", ""),
        "an interpreter's option": ("/d/long", "/bin", ""),
        "a link": ("/d/link", "/bin", ""),
        "a dangling link": ("/d/dangling", "/bin", ""),
        "a loop": ("/d/loop", "/bin", ""),
        "a broken binary": ("/d/binary", "/bin", ""),
        "root's alone": ("/d/others", "/bin", "app"),
        "in root's directory": ("/closed/run", "/bin", "app"),
        "in root's directory by the path": ("run", "/closed:/bin", "app"),
        "past root's directory by the path": ("run", "/closed:/c:/bin", "app"),
    }
    for name, (word, path, user) in runs.items():
        config = {"Cmd": [word], "Env": [f"PATH={path}"], "User": user}
        yield Case(f"program/{name}", config, [files])


# ---- who runs it -------------------------------------------------------------------------------

WHO = shell('echo "$(id -u) $(id -g) $(id -G) $HOME"')


def users() -> Iterator[Case]:
    """The forms of User, over a passwd with root, nobody and app and a group `extra` that app is in."""
    forms = [
        "", "root", "0", "0:0", "root:root", "app", "1000", "app:app", "app:extra", "app:0",
        "1000:1001", "1000:extra", "nobody", "65534:65534", "4242", "4242:4243", "4242:extra",
        "app:", "1000:", ":extra", ":1001", ":", "unknown", "unknown:app", "app:unknown",
        "app:4242", "-1", "2147483647", "2147483648", "4294967294", "4294967295", "4294967296",
        " app", " ", "app:app:app", "01000", "0x3e8", "+5", "1e3", "APP", "0:extra", "0:-1",
    ]  # fmt: skip
    for form in forms:
        yield Case(f"user/{form}", {"User": form}, command=WHO)
    yield Case("user/null", {"User": None}, command=WHO)
    yield Case("user/a number", {"User": 1000}, command=WHO)
    for form in ["app", "1000", "4242:extra", "app:", ":extra", "0", "unknown"]:
        yield Case(f"user/given {form}", {"User": "nobody"}, command=WHO, user=form)


def passwords() -> Iterator[Case]:
    """What passwd and group may be."""
    app = "app:x:1000:1000:app:/home/app:/bin/sh\n"
    group = "root:x:0:\napp:x:1000:\nextra:x:1001:app\n"
    places: dict[str, Mapping[str, Content]] = {
        "none": {"etc/.wh.passwd": "", "etc/.wh.group": ""},
        "no group": {"etc/.wh.group": ""},
        "no etc": {".wh.etc": ""},
        "empty": {"etc/passwd": "", "etc/group": ""},
        "a name of digits": {"etc/passwd": "1000:x:77:77::/seven:/bin/sh\n" + app},
        "twice": {"etc/passwd": "app:x:5:6::/five:/bin/sh\n" + app},
        "an id twice": {"etc/passwd": "other:x:1000:7::/other:/bin/sh\n" + app},
        "broken lines": {"etc/passwd": "# x\n\nx\napp\napp:x\n::::::\n" + app, "etc/group": "\n:\nx\n" + group},
        "short": {"etc/passwd": "app:x:1000:1001\n"},
        "no home": {"etc/passwd": "app:x:1000:1000:::\n"},
        "no number": {"etc/passwd": "app:x:a:b::/home/app:\n"},
        "no end of line": {"etc/passwd": app.rstrip()},
        "lines of Windows": {"etc/passwd": app.replace("\n", "\r\n")},
        "spaces": {"etc/passwd": "  " + app},
        "a link": {"etc/passwd": symlink("../data"), "data": app},
        "an absolute link": {"etc/passwd": symlink("/data"), "data": app},
        "a link that leaves": {"etc/passwd": symlink("../../../../data"), "data": app},
        "a dangling link": {"etc/passwd": symlink("nowhere")},
        "a directory": {"etc/.wh.passwd": "", "etc/passwd/x": ""},
        "many groups": {"etc/group": group + "".join(f"g{n}:x:{2000 + n}:root,app\n" for n in range(40))},
        "a group twice": {"etc/group": group + "extra:x:1002:app\nextra2:x:1001:app\n"},
        "a member with a space": {"etc/group": "root:x:0:\nextra:x:1001: app\n"},
    }  # fmt: skip
    for name, files in places.items():
        for user in ("app", "1000", "app:extra") if name in {"none", "no etc"} else ("app", "1000"):
            config = {"User": user, "Env": [ENV]}
            yield Case(f"passwd/{name}/{user}", config, [files], command=WHO)
    for user in ("", "0", "root", "1000:1000"):
        yield Case(f"passwd/none/{user}", {"User": user}, [places["none"]], command=WHO)


# ---- where it runs -----------------------------------------------------------------------------

WHERE = shell('pwd; stat -c "%a %u:%g" . 2>/dev/null; true')

PLACES: Mapping[str, Content] = {
    "srv": None,
    "file": "",
    "closed": directory(0o700),
    "closed/in": directory(0o755),
    "others": Entry(tarfile.DIRTYPE, mode=0o700, uid=4242, gid=4242),
    "link": symlink("home/app"),
    "absolute": symlink("/home/app"),
    "out": symlink("../../../../srv"),
    "dangling": symlink("nowhere"),
    "loop": symlink("loop"),
    "magic": symlink("/proc/self/cwd"),
}


def workdirs() -> Iterator[Case]:
    forms = [
        "", "/", "/srv", "/srv/", "//srv", "/missing", "/missing/deep", "relative", "./relative",
        "relative/../x", "a/b", ".", "..", "/..", "../..", "/a/../b", "/srv/../home", "/srv/.",
        "/app//x/", "/link", "/link/sub", "/absolute", "/absolute/sub", "/out", "/out/sub",
        "/dangling", "/dangling/sub", "/loop", "/loop/x", "/file", "/file/x", "/closed/in",
        "/others", "/root", "/magic", "/proc/self", "/proc/new", "/sys", "/dev", "/dev/new",
        "/dev/shm/new", "/tmp/new", "/ space", "/späße", "~", "$HOME", "/$HOME", "C:\\\\x",
        "/etc/new", "/" + "n" * 255, "/" + "n" * 256,
    ]  # fmt: skip
    for form in forms:
        name = f"{form[:4]}… {len(form)}" if len(form) > 99 else form
        config = {"WorkingDir": form}
        yield Case(f"workdir/{name}", config, [PLACES], command=WHERE)
    for form in [
        "/root", "/closed", "/closed/in", "/closed/new", "/others", "/home/app/new", "/missing/deep",
        "/tmp/new", "/absolute/sub",
    ]:  # fmt: skip
        config = {"WorkingDir": form, "User": "app"}
        yield Case(f"workdir/{form} of app", config, [PLACES], command=WHERE)
    for form in ["/srv", "/missing/deep", "relative", "/a/../b", "/root"]:
        config = {"WorkingDir": "/srv", "User": "app"}
        yield Case(f"workdir/given {form}", config, [PLACES], command=WHERE, workdir=form)
    yield Case("workdir/null", {"WorkingDir": None}, [PLACES], command=WHERE)
    yield Case("workdir/a number", {"WorkingDir": 5}, [PLACES], command=WHERE)


# ---- its files ---------------------------------------------------------------------------------


def volumes() -> Iterator[Case]:
    """What is at a volume's place; whether it is a mount is not looked at."""
    files: dict[str, Content] = {
        "full": Entry(tarfile.DIRTYPE, mode=0o750, uid=1000, gid=1001),
        "full/file": Entry(data=b"x", mode=0o640, uid=1000, gid=1000),
        "full/link": symlink("file"),
        "sticky": directory(0o1777),
        "text": "of the image",
        "link": symlink("full"),
    }
    look = 'for f in "$@"; do stat -c "%F %a %u:%g %n" "$f"; ls "$f"; done 2>/dev/null; true'
    forms: dict[str, tuple[Any, list[str]]] = {
        "missing": ({"/vol": {}}, ["/vol"]),
        "deep": ({"/vol/a/b": {}}, ["/vol", "/vol/a", "/vol/a/b"]),
        "full": ({"/full": {}}, ["/full", "/full/file"]),
        "sticky": ({"/sticky": {}}, ["/sticky"]),
        "at the end a slash": ({"/full/": {}}, ["/full"]),
        "nested": ({"/vol": {}, "/vol/in": {}}, ["/vol", "/vol/in"]),
        "with dots": ({"/a/../b": {}}, ["/b", "/a"]),
        "with dots that leave": ({"/../../b": {}}, ["/b"]),
        "relative": ({"rel": {}}, ["/rel"]),
        "an empty name": ({"": {}}, ["/"]),
        "the root": ({"/": {}}, ["/bin/busybox"]),
        "a file": ({"/text": {}}, ["/text"]),
        "a link": ({"/link": {}}, ["/full", "/link"]),
        "below a link": ({"/link/new": {}}, ["/full/new"]),
        "in tmp": ({"/tmp/vol": {}}, ["/tmp/vol"]),
        "proc": ({"/proc": {}}, ["/proc/self/status"]),
        "in dev": ({"/dev/vol": {}}, ["/dev/vol"]),
        "a space": ({"/a b": {}}, ["/a b"]),
        "with a colon": ({"/a:b": {}}, ["/a:b"]),
        "null": (None, ["/vol"]),
        "none": ({}, ["/vol"]),
        "of null": ({"/vol": None}, ["/vol"]),
        "a list": (["/vol"], ["/vol"]),
        "of text": ({"/vol": "x"}, ["/vol"]),
        "of more": ({"/vol": {"x": 1}}, ["/vol"]),
    }
    for name, (value, places) in forms.items():
        # The links come and go with the root's own: how many there are is not looked at.
        command = ["sh", "-c", look, "sh", *places]
        yield Case(f"volume/{name}", {"Volumes": value}, [files], command=command)
    write = 'for d in "$@"; do touch $d/new && echo "written $d"; done 2>/dev/null; true'
    yield Case(
        "volume/written by app", {"Volumes": {"/vol": {}, "/full": {}, "/home/app/vol": {}}, "User": "app"},
        [files], command=["sh", "-c", write, "sh", "/vol", "/full", "/home/app/vol"],
    )  # fmt: skip


def stats(*paths: str) -> tuple[str, ...]:
    return ("stat", "-c", "%n %F %a %u:%g", *paths)


def modes() -> Iterator[Case]:
    """What a layer says, does not say, or says twice about a directory."""
    bare = ocibuild.tar([("a/b/c/file", "x")], parents=False)
    below: dict[str, Content] = {"a": directory(0o700), "a/b": directory(0o711)}
    places: dict[str, tuple[Sequence[Mapping[str, Content] | bytes], list[str]]] = {
        "as it is": ((), ["/", "/tmp", "/root", "/home/app", "/etc", "/proc", "/dev", "/sys"]),
        "the root 0700": ((ocibuild.tar([("./", directory(0o700)), ("x", "")]),), ["/", "/x"]),
        "the root 0700 as a dot": ((ocibuild.tar([(".", directory(0o700)), ("x", "")]),), ["/"]),
        "the root 0777": ((ocibuild.tar([("./", directory(0o777))]),), ["/"]),
        "the root 0555": ((ocibuild.tar([("./", directory(0o555))]),), ["/"]),
        "the root another's": (
            (ocibuild.tar([("./", Entry(tarfile.DIRTYPE, mode=0o750, uid=1000, gid=1001))]),), ["/"]
        ),
        "the root twice": (
            (ocibuild.tar([("./", directory(0o700))]), ocibuild.tar([("./", directory(0o711))])), ["/"]
        ),
        "the root with a slash": ((ocibuild.tar([("/", directory(0o700))]),), ["/"]),
        "parents not told": ((bare,), ["/a", "/a/b", "/a/b/c", "/a/b/c/file"]),
        "parents told below": ((below, bare), ["/a", "/a/b", "/a/b/c", "/a/b/c/file"]),
        "parents told above": ((bare, below), ["/a", "/a/b", "/a/b/c", "/a/b/c/file"]),
        "parents told later": (
            (ocibuild.tar([("a/file", ""), ("a", directory(0o701))], parents=False),), ["/a", "/a/file"]
        ),
        "parents through a link": (
            ({"real": directory(0o700), "link": symlink("real")}, ocibuild.tar([("link/new/file", "")], parents=False)),
            ["/real", "/link"],
        ),
        "a directory again": (({"d": directory(0o700), "d/f": ""}, {"d": directory(0o755)}), ["/d", "/d/f"]),
        "a file for a directory": (({"d/f": ""}, {"d": "file"}), ["/d"]),
        "a directory for a file": (({"d": "file"}, {"d/f": ""}), ["/d", "/d/f"]),
        "a link for a directory": (({"d/f": ""}, {"d": symlink("tmp")}), ["/d"]),
        "a directory for a link": (({"d": symlink("tmp")}, {"d": None}), ["/d"]),
        "special bits": (
            ({
                "suid": Entry(mode=0o4755), "sgid": Entry(mode=0o2755), "sgid-dir": directory(0o2775),
                "sticky": directory(0o1777), "none": Entry(mode=0), "all": Entry(mode=0o7777),
            },),
            ["/suid", "/sgid", "/sgid-dir", "/sticky", "/none", "/all"],
        ),
        "kinds": (
            ({
                "fifo": Entry(tarfile.FIFOTYPE, mode=0o620), "null": Entry(tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
                "disk": Entry(tarfile.BLKTYPE, mode=0o660, device=(7, 0)), "link": symlink("fifo"),
            },),
            ["/fifo", "/null", "/disk", "/link"],
        ),
        "a dot before": ((ocibuild.tar([("./d", directory(0o711)), ("./d/f", "")]),), ["/d", "/d/f"]),
        "a slash before": ((ocibuild.tar([("/d", directory(0o711)), ("/d/f", "")]),), ["/d", "/d/f"]),
    }  # fmt: skip
    for name, (layers, paths) in places.items():
        yield Case(f"mode/{name}", layers=layers, command=stats(*paths))
    closed = ocibuild.tar([("./", directory(0o700))])
    yield Case(
        "mode/the root 0700 and app", {"User": "app"}, [closed], command=shell("ls / | wc -w")
    )
    hard = {"file": Entry(data=b"x", mode=0o640, uid=1, gid=2)}
    links: dict[str, list[Mapping[str, Content] | bytes]] = {
        "alike": [{**hard, "link": Entry(tarfile.LNKTYPE, target="file", mode=0o640, uid=1, gid=2)}],
        "of another mode": [{**hard, "link": Entry(tarfile.LNKTYPE, target="file", mode=0o600, uid=1, gid=2)}],
        "of another owner": [{**hard, "link": Entry(tarfile.LNKTYPE, target="file", mode=0o640, uid=7, gid=8)}],
        "to a layer below": [hard, {"link": Entry(tarfile.LNKTYPE, target="file", mode=0o640, uid=1, gid=2)}],
        "to an absolute name": [{**hard, "link": Entry(tarfile.LNKTYPE, target="/file", mode=0o640, uid=1, gid=2)}],
        "to a name with a dot": [{**hard, "link": Entry(tarfile.LNKTYPE, target="./file", mode=0o640, uid=1, gid=2)}],
        "to a link": [{**hard, "s": symlink("file"), "link": Entry(tarfile.LNKTYPE, target="s", mode=0o777)}],
        "before it is there": [ocibuild.tar([("link", Entry(tarfile.LNKTYPE, target="file")), *hard.items()])],
        "to itself": [{**hard, "link": Entry(tarfile.LNKTYPE, target="link")}],
        "to nothing": [{**hard, "link": Entry(tarfile.LNKTYPE, target="nowhere")}],
        "out": [{**hard, "link": Entry(tarfile.LNKTYPE, target="../../file")}],
        "to a directory": [{**hard, "d": None, "link": Entry(tarfile.LNKTYPE, target="d")}],
    }  # fmt: skip
    for name, layers in links.items():
        command = ("stat", "-c", "%n %F %a %u:%g %h", "/file", "/link")
        yield Case(f"hard link/{name}", layers=layers, command=command)


def acl(*entries: str, kind: str = "access") -> dict[str, str]:
    return {f"SCHILY.acl.{kind}": ",".join(entries)}


def owners() -> Iterator[Case]:
    """Who may read what has an access list; the mode's group is its mask."""
    lists = {
        "a user more": (0o660, acl("user::rw-", "user:1000:rw-", "group::---", "mask::rw-", "other::---")),
        "a group more": (0o660, acl("user::rw-", "group::---", "group:1001:rw-", "mask::rw-", "other::---")),
        "a user less": (0o664, acl("user::rw-", "user:1000:---", "group::rw-", "mask::rw-", "other::r--")),
        "by names": (0o660, acl("user::rw-", "user:app:rw-:1000", "group::---", "mask::rw-", "other::---")),
        "with ids": (0o660, acl("user::rw-", "user:strange:rw-:1000", "group::---", "mask::rw-", "other::---")),
        "base only": (0o640, acl("user::rw-", "group::r--", "other::---")),
        "broken": (0o640, acl("user::rw-", "nonsense")),
    }  # fmt: skip
    who = {"owner": "4242:4242", "group": "4243:4242", "app": "1000:1000", "extra": "4244:1001"}
    read = shell("stat -c %a /f; cat /f 2>/dev/null && echo >>/f && echo written; true")
    for name, (mode, pax) in lists.items():
        entry = Entry(data=b"read\n", mode=mode, uid=4242, gid=4242, pax=pax)
        for one, user in who.items():
            yield Case(f"acl/{name}/{one}", {"User": user}, [{"f": entry}], command=read)
    default = acl(
        "user::rwx", "user:1000:rwx", "group::---", "mask::rwx", "other::---", kind="default"
    )
    yield Case(
        "acl/default", layers=[{"d": Entry(tarfile.DIRTYPE, mode=0o755, pax=default)}],
        command=shell("touch /d/f; mkdir /d/d; stat -c '%a %n' /d /d/f /d/d"),
    )  # fmt: skip


# ---- its environment ---------------------------------------------------------------------------

LIST = ("/bin/env",)


def environments() -> Iterator[Case]:
    forms: dict[str, Any] = {
        "none": [], "null": None, "no equals": [ENV, "A"], "no name": [ENV, "=x"], "empty": [ENV, ""],
        "twice": [ENV, "A=1", "A=2"], "equals in it": [ENV, "A=b=c"], "no value": [ENV, "A="],
        "path empty": ["PATH="], "path without equals": ["PATH"], "path twice": ["PATH=/nowhere", ENV],
        "home": [ENV, "HOME=/x"], "home empty": [ENV, "HOME="], "hostname": [ENV, "HOSTNAME=x"],
        "a space": [ENV, "a b=c"], "letters": [ENV, "A=späße"], "term": [ENV, "TERM=dumb"],
        "a dollar": [ENV, "A=$PATH"], "long": [ENV, "A=" + "x" * 5000], "an object": {"A": "b"},
        "a text": "A=b", "a number": [ENV, 5], "with a null": [ENV, None],
    }  # fmt: skip
    for name, value in forms.items():
        yield Case(f"env/{name}", {"Env": value}, command=LIST, ordered=False)
    yield Case("env/of app", {"User": "app"}, command=LIST, ordered=False)
    yield Case("env/of an unknown id", {"User": "4242"}, command=LIST, ordered=False)
    yield Case(
        "env/given", {"Env": [ENV, "A=1"]}, command=LIST, env={"A": "2", "B": ""}, ordered=False
    )
    yield Case("env/home given", command=LIST, env={"HOME": "/y"}, ordered=False)
    yield Case("env/a terminal", command=LIST, tty=True, ordered=False)
    yield Case("env/path found in none", {"Env": []}, command=["env"], ordered=False)
    yield Case("env/path found in empty", {"Env": ["PATH="]}, command=["env"], ordered=False)


# ---- what the engine puts into it --------------------------------------------------------------


def etc() -> Iterator[Case]:
    mine: dict[str, Content] = {
        f"etc/{name}": "of the image\n" for name in ("hosts", "hostname", "resolv.conf")
    }
    linked = {f"etc/{name}": symlink("../data") for name in ("hosts", "hostname", "resolv.conf")}
    yield Case("etc/hostname", command=shell("hostname; cat /etc/hostname"))
    yield Case(
        "etc/hostname over the image's", layers=[mine], command=shell("hostname; cat /etc/hostname")
    )
    yield Case("etc/hosts", command=shell("grep -c '127.0.0.1.*localhost' /etc/hosts"))
    yield Case(
        "etc/hosts over the image's",
        layers=[mine],
        command=shell("grep -c image /etc/hosts /etc/hostname /etc/resolv.conf; true"),
    )
    yield Case("etc/kinds", command=stats("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))
    yield Case(
        "etc/links",
        layers=[{**linked, "data": "of the image\n"}],
        command=shell("stat -c '%n %F' /etc/hosts; cat /data"),
    )
    yield Case(
        "etc/dangling",
        layers=[linked],
        command=shell("for f in hosts hostname resolv.conf; do test -s /etc/$f && echo $f; done"),
    )
    yield Case("etc/none", layers=[{".wh.etc": ""}], command=shell("ls /etc"))
    for name in ("hosts", "hostname", "resolv.conf"):
        yield Case(f"etc/write {name}", command=shell(f"echo x >>/etc/{name} && echo written"))
        yield Case(
            f"etc/as app {name}",
            {"User": "app"},
            command=shell(f"cat /etc/{name} >/dev/null && echo read; test -w /etc/{name}"),
        )
    yield Case("etc/mtab", command=shell("readlink /etc/mtab; grep -c '/proc ' /etc/mtab"))
    yield Case(
        "etc/mtab of the image",
        layers=[{"etc/mtab": "mine\n"}],
        command=shell("stat -c %F /etc/mtab; grep -c mine /etc/mtab; true"),
    )
    yield Case(
        "etc/mtab a link of the image",
        layers=[{"etc/mtab": symlink("../proc/self/mounts")}],
        command=shell("readlink /etc/mtab"),
    )
    yield Case(
        "etc/files of the engine",
        command=shell("ls -a / | grep '^\\.[a-z]'; ls /run 2>/dev/null; true"),
    )
    yield Case("etc/df", command=shell("df / | tail -n 1 | grep -o ' /$'"))


def devices() -> Iterator[Case]:
    nodes = ["null", "zero", "full", "random", "urandom", "tty"]
    stat = ("stat", "-c", "%n %F %a %u:%g %t:%T")
    for tty in (False, True):
        kind = " of a terminal" if tty else ""
        yield Case(
            f"dev/list{kind}", command=shell("ls -1 /dev | grep -vx core"), tty=tty, ordered=False
        )
        yield Case(f"dev/console{kind}", command=shell("stat -c '%F %a %u' /dev/console"), tty=tty)
        yield Case(
            f"dev/tty opened{kind}",
            command=shell("(: </dev/tty) 2>/dev/null && echo opened"),
            tty=tty,
        )
        yield Case(
            f"dev/console opened{kind}",
            command=shell("(: >/dev/console) 2>/dev/null && echo opened"),
            tty=tty,
        )
        yield Case(
            f"dev/stdio{kind}",
            command=shell("for n in 0 1 2; do test -t $n && echo tty; done; tty"),
            tty=tty,
        )
        yield Case(
            f"dev/stdio of app{kind}",
            {"User": "app"},
            command=shell("echo out >/dev/stdout; echo err >/dev/stderr"),
            tty=tty,
        )
    yield Case("dev/nodes", command=[*stat, *(f"/dev/{name}" for name in nodes)])
    yield Case(
        "dev/directories",
        command=("stat", "-c", "%n %F %a %u:%g", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"),
    )
    yield Case(
        "dev/links",
        command=shell(
            "cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done"
        ),
    )
    yield Case("dev/ptmx", command=("stat", "-L", "-c", "%F %a %u:%g %t:%T", "/dev/ptmx"))
    yield Case(
        "dev/null as app",
        {"User": "app"},
        command=shell("echo x >/dev/null && head -c 1 /dev/zero | wc -c"),
    )
    yield Case("dev/full", command=shell("echo x 2>/dev/null >/dev/full || echo full"))
    yield Case(
        "dev/shm",
        command=shell(
            "df -m /dev/shm | tail -n 1 | awk '{print $2, $6}'; grep ' /dev/shm ' /proc/mounts | grep -o 'noexec'"
        ),
    )
    yield Case(
        "dev/shm as app", {"User": "app"}, command=shell("echo x >/dev/shm/x && cat /dev/shm/x")
    )
    yield Case(
        "dev/mqueue as app", {"User": "app"}, command=shell("touch /dev/mqueue/x && echo made")
    )
    yield Case("dev/write", command=shell("touch /dev/x && mkdir /dev/y && echo made"))
    yield Case(
        "dev/mknod", command=shell("mknod /tmp/null c 1 3 && echo x >/tmp/null && echo made")
    )
    yield Case(
        "dev/mknod of a disk",
        command=shell("mknod /tmp/disk b 7 0 && (head -c 1 /tmp/disk | wc -c) 2>/dev/null"),
    )
    yield Case(
        "dev/of the image",
        layers=[{"dev/mine": "x", "dev/null": "a file"}],
        command=shell("ls /dev/mine; stat -c %F /dev/null"),
    )
    yield Case("dev/fds", command=shell("ls /proc/self/fd | wc -w; readlink /proc/1/fd/0"))


SYSCTLS = [
    "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range", "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range", "net/core/somaxconn", "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/disable_ipv6", "net/ipv4/tcp_syncookies", "kernel/hostname",
    "kernel/domainname", "kernel/shmmni", "kernel/sem", "kernel/msgmax", "kernel/shm_rmid_forced",
    "fs/mqueue/msg_max", "fs/mqueue/queues_max",
]  # fmt: skip


def kernel() -> Iterator[Case]:
    """/proc and /sys: what is seen of the kernel, and what may be written."""
    for name in SYSCTLS:
        yield Case(f"sysctl/{name}", command=("cat", f"/proc/sys/{name}"))
    yield Case("sysctl/bind 80", {"User": "app"}, command=shell(
        "nc -l -p 80 -s 127.0.0.1 -w 1 2>&1 | grep -o 'ermission denied'; true"))  # fmt: skip
    write = 'for f in "$@"; do (: >>"$f") 2>/dev/null && echo "$f opens"; done; true'
    paths = [
        "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern", "/proc/irq/default_smp_affinity", "/proc/sys/vm/drop_caches",
        "/proc/self/oom_score_adj", "/proc/self/comm", "/proc/self/coredump_filter", "/sys/kernel/mm/transparent_hugepage/enabled",
    ]  # fmt: skip
    yield Case("proc/opened to write", command=["sh", "-c", write, "sh", *paths])
    hidden = [
        "kcore",
        "keys",
        "timer_list",
        "latency_stats",
        "sched_debug",
        "acpi",
        "scsi",
        "asound",
    ]
    look = 'for f in "$@"; do echo "$f $(cat /proc/$f 2>/dev/null | head -c 1 | wc -c) $(ls /proc/$f 2>/dev/null | grep -v ^/proc | wc -w)"; done'
    yield Case("proc/hidden", command=["sh", "-c", look, "sh", *hidden])
    for path in ["bus", "fs", "irq", "sys", "sysrq-trigger"]:
        yield Case(
            f"proc/read-only {path}",
            command=shell(f"grep ' /proc/{path} ' /proc/mounts | grep -o ' ro,'"),
        )
    yield Case("sys/read", command=shell("ls /sys; ls /sys/class/net"), ordered=False)
    yield Case("sys/firmware", command=shell("ls -A /sys/firmware | wc -l"))
    yield Case("sys/write", command=shell("mkdir /sys/fs/cgroup/x 2>/dev/null || echo no"))


def groups() -> Iterator[Case]:
    """Control groups as programs look for their limits."""
    limit = 64 << 20
    first = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    yield Case("cgroup/memory", command=shell(first), memory=limit)
    yield Case("cgroup/memory as app", {"User": "app"}, command=shell(first), memory=limit)
    yield Case("cgroup/there", command=shell('test -n "$(ls /sys/fs/cgroup)" && echo there'))
    yield Case(
        "cgroup/memory.stat",
        command=shell(
            "cd /sys/fs/cgroup; grep -c . memory.stat memory/memory.stat 2>/dev/null | grep -v ':0' | wc -l"
        ),
    )
    yield Case(
        "cgroup/written",
        command=shell(
            "cd /sys/fs/cgroup; mkdir x memory/x 2>/dev/null; (echo 1 >cgroup.procs) 2>/dev/null && echo written; true"
        ),
    )
    yield Case(
        "cgroup/path", command=shell("grep -c ':/$' /proc/self/cgroup | sed 's/[1-9][0-9]*/some/'")
    )
    yield Case("cgroup/by its path", memory=limit, command=shell(
        "p=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup); m=/sys/fs/cgroup/memory; "
        "cat $m$p/memory.limit_in_bytes 2>/dev/null || cat $m/memory.limit_in_bytes"))  # fmt: skip
    yield Case(
        "cgroup/mountinfo",
        command=shell(
            "awk '$5 ~ \"^/sys/fs/cgroup\" {print substr($6, 1, 2)}' /proc/self/mountinfo | sort -u"
        ),
    )


def mounts() -> Iterator[Case]:
    """What is mounted where: kind, and whether it is read-only."""
    for place in [
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/etc/hosts",
    ]:
        script = (
            f'awk \'$5 == "{place}" {{for (i = 7; $i != "-"; i++); k = $(i + 1); o = "," $6 ","; '
            'r = substr($6, 1, 2); n = ""; split("nosuid nodev noexec", w, " "); '
            'for (j = 1; j < 4; j++) if (index(o, "," w[j] ",")) n = n " " w[j]; print k, r n}\' /proc/self/mountinfo'
        )
        yield Case(f"mount{place}", command=shell(script))
    yield Case(
        "mount/propagation",
        command=shell(
            "awk '{for (i = 7; $i != \"-\"; i++) print $i}' /proc/self/mountinfo | grep -c shared; true"
        ),
    )
    yield Case(
        "mount/umount",
        command=shell("umount /proc/sys 2>/dev/null || umount /dev/shm 2>/dev/null || echo no"),
    )


def rights() -> Iterator[Case]:
    for user in ("", "app"):
        kind = " of app" if user else ""
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"):
            yield Case(
                f"status/{name}{kind}",
                {"User": user},
                command=("grep", f"{name}:", "/proc/self/status"),
            )
    yield Case("rights/umask", command=shell("umask"))
    yield Case("rights/oom", command=("cat", "/proc/self/oom_score_adj"))
    yield Case("rights/nice", command=shell("awk '{print $19}' /proc/self/stat"))
    yield Case(
        "rights/su",
        layers=[{"bin/id4755": Entry(mode=0o4755)}],
        command=shell("chown 1:1 /tmp && stat -c %u /tmp"),
    )
    yield Case(
        "rights/ping", command=shell("ping -c 1 -W 1 127.0.0.1 | grep -o '1 packets received'")
    )
    yield Case(
        "rights/ping of app",
        {"User": "app"},
        command=shell("ping -c 1 -W 1 127.0.0.1 2>/dev/null | grep -o '1 packets received'"),
    )
    yield Case("rights/chroot", command=("chroot", "/", "/bin/echo", "in"))
    yield Case("rights/mount", command=shell("mount -t tmpfs x /tmp 2>/dev/null || echo no"))
    yield Case("rights/hostname", command=shell("hostname x 2>/dev/null || echo no"))
    yield Case(
        "rights/lo",
        command=shell(
            "ip addr show lo | grep -o 'inet 127.0.0.1/8'; ip addr show lo | grep -o 'UP'"
        ),
    )
    yield Case(
        "rights/interfaces",
        command=shell("ls /sys/class/net /proc/sys/net/ipv4/conf"),
        ordered=False,
    )


def endings() -> Iterator[Case]:
    for code in (0, 1, 3, 125, 126, 127, 128, 255, 256):
        yield Case(f"end/exit {code}", command=shell(f"exit {code}"))
    yield Case("end/not found by the shell", command=shell("nonesuch 2>/dev/null"))
    for name in ("TERM", "KILL", "SEGV", "INT"):
        yield Case(f"end/{name} of itself", command=shell(f"kill -{name} $$; echo lives"))
        yield Case(
            f"end/{name} of a child", command=shell(f"sh -c 'kill -{name} $$' 2>/dev/null; exit $?")
        )
    yield Case("end/a child is left", command=shell("sleep 100 & echo left"))
    yield Case("end/an orphan is reaped by none", command=shell("(sleep 0 &) ; echo done"))


# ---- configs that `docker build` never writes ---------------------------------------------------


def documents() -> Iterator[Case]:
    say = ["echo", "ran"]
    second = 1_000_000_000
    forms: dict[str, dict[str, Any]] = {
        "labels a list": {"Labels": ["a=b"]},
        "labels of numbers": {"Labels": {"a": 1}},
        "labels null": {"Labels": None},
        "label empty": {"Labels": {"": ""}},
        "stop signal unknown": {"StopSignal": "SIGNONE"},
        "stop signal a number": {"StopSignal": "9"},
        "stop signal without SIG": {"StopSignal": "quit"},
        "stop signal real-time": {"StopSignal": "SIGRTMIN+3"},
        "stop signal empty": {"StopSignal": ""},
        "stop timeout": {"StopTimeout": 3},
        "stop timeout negative": {"StopTimeout": -3},
        "ports": {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}},
        "ports odd": {"ExposedPorts": {"http": {}, "0": {}, "99999/tcp": {}}},
        "ports a list": {"ExposedPorts": ["80"]},
        "hostname": {"Hostname": "mine", "Domainname": "example"},
        "unknown members": {"Foo": 1, "Image": "sha256:x", "OnBuild": ["RUN x"], "AttachStdin": True},
        "tty": {"Tty": True, "OpenStdin": True},
        "network disabled": {"NetworkDisabled": True},
        "mac address": {"MacAddress": "nonsense"},
        "health": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": second}},
        "health of the shell": {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}},
        "health none": {"Healthcheck": {"Test": ["NONE"]}},
        "health empty": {"Healthcheck": {}},
        "health null": {"Healthcheck": None},
        "health of no words": {"Healthcheck": {"Test": []}},
        "health of CMD alone": {"Healthcheck": {"Test": ["CMD"]}},
        "health of an unknown word": {"Healthcheck": {"Test": ["true"]}},
        "health an empty word": {"Healthcheck": {"Test": [""]}},
        "health a text": {"Healthcheck": {"Test": "true"}},
        "health without a test": {"Healthcheck": {"Interval": second}},
        "health negative": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": -1, "Timeout": -1}},
        "health of a nanosecond": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1}},
        "health of negative retries": {"Healthcheck": {"Test": ["CMD", "true"], "Retries": -1}},
        "health of text times": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": "1s"}},
        "health none with more": {"Healthcheck": {"Test": ["NONE", "x"]}},
        "members in small letters": {"cmd": ["echo", "small"], "Cmd": None},
    }  # fmt: skip
    for name, config in forms.items():
        yield Case(f"config/{name}", {"Cmd": say, **config})

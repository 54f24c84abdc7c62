"""Paths that something else chose are resolved in one place: the sources, walked.

In C that is ck_path.c.  In Python, the modules that work on the files of containers and layers use
`path_open`, a descriptor, or one name in a directory's descriptor; what they take by text is listed
here, and why it may be.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src" / "_native"
PACKAGE = ROOT / "src" / "containerkit"

BENEATH = [
    "archive",
    "beneath",
    "changes",
    "commit",
    "compare",
    "contents",
    "copies",
    "execute",
    "export",
    "extract",
    "fileinfo",
    "files",
    "hands",
    "helper",
    "opening",
    "parked",
    "paths",
    "rootfiles",
    "rootplan",
    "sameness",
    "top",
    "transfer",
    "trees",
    "whole",
    "written",
]

CALLS = frozenset(
    [
        "chmod",
        "chown",
        "getxattr",
        "link",
        "listdir",
        "listxattr",
        "lstat",
        "makedirs",
        "mkdir",
        "mkfifo",
        "mknod",
        "open",
        "readlink",
        "remove",
        "removedirs",
        "removexattr",
        "rename",
        "renames",
        "replace",
        "rmdir",
        "scandir",
        "setxattr",
        "stat",
        "statvfs",
        "symlink",
        "truncate",
        "unlink",
        "utime",
        "walk",
    ]
)

BY_TEXT = {
    "beneath": {"open(path)": "`Side`: the host's, as the caller means it"},
    "compare": {
        "open(upper)": "ROOT/containers/ID/upper/N: the engine's own directories",
        "open(path)": "ROOT/layers/CHAINID, or what the caller named",
        "listdir(directory)": "a descriptor",
    },
    "sameness": {"listxattr(where)": "/proc/self/fd/N", "getxattr(where)": "/proc/self/fd/N"},
    "archive": {"listxattr(where)": "/proc/self/fd/N"},
    "copies": {"listxattr(source)": "a descriptor"},
    "execute": {"open(memfd)": "a descriptor"},
    "export": {"open(parent)": "the host's", "open(fd)": "a descriptor"},
    "extract": {"open(tar)": "the host's"},
    "hands": {
        "open(_path(fd))": "/proc/self/fd/N",
        "chmod(_path(fd))": "/proc/self/fd/N",
        "getxattr(_path(fd))": "/proc/self/fd/N",
        "setxattr(fd)": "a descriptor",
        "utime(fd)": "a descriptor",
    },
    "helper": {
        "open('/proc/self/mountinfo')": "the kernel's",
        "open(_path(fd))": "/proc/self/fd/N",
        "chmod(_path(fd))": "/proc/self/fd/N",
        "chown(_path(fd))": "/proc/self/fd/N",
        "getxattr(_path(fd))": "/proc/self/fd/N",
        "setxattr(_path(fd))": "/proc/self/fd/N",
        "utime(_path(fd))": "/proc/self/fd/N",
    },
    "opening": {"open(fd)": "a descriptor"},
    "rootfiles": {
        "open(tree)": "ROOT/layers/CHAINID, or what the caller named",
        "getxattr(directory)": "a descriptor",
        "open(fd)": "a descriptor",
    },
    "top": {
        "listdir('/proc')": "the kernel's",
        "walk(top)": "a control group",
        "open(path)": "/proc/PID/…",
    },
    "trees": {"scandir(directory)": "a descriptor"},
}


def by_text(module: str) -> Iterator[str]:
    """Yield the calls of a module that take a path as a text, or might."""
    source = (PACKAGE / "runtime" / f"{module}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func)
        if name.removeprefix("os.") not in CALLS or name not in {"open", f"os.{name[3:]}"}:
            continue
        first = ast.unparse(node.args[0])
        if any((word.arg or "").endswith("dir_fd") for word in node.keywords):
            continue
        if not first.startswith(("f'/proc/", "f'{directory}/cgroup.")):
            yield f"{name.removeprefix('os.')}({first})"


def test_python_has_descriptors() -> None:
    found = {module: set(by_text(module)) for module in BENEATH}
    known = {module: set(BY_TEXT.get(module, {})) for module in BENEATH}
    assert {m: calls - known[m] for m, calls in found.items() if calls - known[m]} == {}
    assert {m: calls - found[m] for m, calls in known.items() if calls - found[m]} == {}


def test_a_new_one_would_be_seen() -> None:
    assert "open(path)" in set(by_text("beneath"))


def test_c_resolves_in_one_place() -> None:
    callers = {
        path.name
        for path in NATIVE.glob("*.c")
        if re.search(r"\bck_openat2\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"ck_path.c", "ck_sys.c"}


def test_ops_name_nothing_of_a_plan_by_text() -> None:
    """Before the pivot a text of the plan goes to ck_path_open, ck_path_mkdirs and those who do so."""
    text = (NATIVE / "ck_ops_mount.c").read_text(encoding="utf-8")
    constants = {"CK_NEW_ROOT", "CK_OWN_DEV", "own", "nothing", "flat"}
    named = set(re.findall(r"AT_FDCWD,\s*(\w+)", text))
    assert named <= constants, named - constants

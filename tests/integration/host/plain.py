"""Enter a host image with plain tools: mount(8) in a mount namespace of its own, then chroot.

What the image gives is so seen without containerkit's launcher in between.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from containerkit.images import host_python
from containerkit.images.host import HostImage
from containerkit.images.host_python import PythonFacts
from containerkit.model.rootfs import HostBind, Overlay

_FACTS = """
import json, runpy, sys
print(json.dumps(runpy.run_path(sys.argv[1])["PythonFacts"].running()))
"""


def facts_of(python: str) -> PythonFacts:
    """Return the facts of another interpreter, found out by itself."""
    answer = subprocess.run(
        [python, "-I", "-c", _FACTS, host_python.__file__],
        check=True,
        capture_output=True,
        text=True,
    )
    *directories, executables = json.loads(answer.stdout)
    prefix, base_prefix, exec_prefix, base_exec_prefix, stdlib = directories
    return PythonFacts(
        prefix, base_prefix, exec_prefix, base_exec_prefix, stdlib, tuple(executables)
    )


def interpreters() -> list[str]:
    """Return this machine's Pythons that are new enough: its own, the tests' base, pyenv's."""
    found = [str(Path(sys.base_prefix, "bin", "python3")), "/usr/bin/python3"]
    found += sorted(map(str, Path("~/.pyenv/versions").expanduser().glob("3.1[1-9]*/bin/python3")))
    unique = {os.path.realpath(path): path for path in found if os.path.exists(path)}
    return [
        path
        for path in unique.values()
        if subprocess.run(
            [path, "-I", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False
        ).returncode
        == 0
    ]


@contextmanager
def directory(mode: int = 0o755) -> Iterator[Path]:
    """A directory on a real file system, as overlay needs it."""
    path = Path(tempfile.mkdtemp(prefix="ck-host-", dir="/var/tmp"))
    path.chmod(mode)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run(
    root: Path, image: HostImage, command: Sequence[str], *, uid: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command in an image; nothing of it, mounts nor files, is left."""
    with directory() as work:
        script = work / "script"
        script.write_text(_script(root, image, work, command, uid))
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-e", str(script)],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": os.defpath + ":/usr/sbin:/sbin", "CK_HOST_SECRET": "of the environment"},
        )


def _script(root: Path, image: HostImage, work: Path, command: Sequence[str], uid: int) -> str:
    new = work / "new"
    lines = [f"mkdir {new} {work}/rw", f"mount -t tmpfs tmpfs {work}/rw"]
    for number, mount in enumerate(image._rootfs.mounts):
        target = shlex.quote(f"{new}{mount.target}")
        if isinstance(mount, Overlay):
            lowers = ":".join(os.path.join(root, lower) for lower in mount.lowers)
            upper, aside = f"{work}/rw/{number}", f"{work}/rw/{number}.work"
            lines.append(f"mkdir {upper} {aside}")
            options = f"lowerdir={lowers},upperdir={upper},workdir={aside}"
            lines.append(f"mount -t overlay -o {shlex.quote(options)} overlay {target}")
        else:
            lines.append(_bind(mount, target))
    lines.append(f"mount -t proc proc {new}/proc")
    lines.append(f"mount -t tmpfs tmpfs {new}/dev")
    for device in ("null", "zero", "urandom", "random"):
        lines.append(f"touch {new}/dev/{device}; mount --bind /dev/{device} {new}/dev/{device}")
    environment = " ".join(shlex.quote(entry) for entry in image.config.env)
    words = " ".join(map(shlex.quote, command))
    ids = f"--userspec={uid}:{uid} --groups={uid}"
    lines.append(f"exec chroot {ids} {new} /usr/bin/env -i {environment} {words}")
    return "\n".join(lines)


def _bind(mount: HostBind, target: str) -> str:
    bind = f"mount --bind {shlex.quote(mount.source)} {target}"
    return f"{bind}; mount -o remount,bind,ro {target}" if mount.read_only else bind

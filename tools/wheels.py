"""Build the wheels that a package index takes: one for glibc (manylinux), one for musl (musllinux).

    python tools/wheels.py [--into dist]

Each has the extension for every Python from 3.11 on, with musl from 3.13 on, and the static launcher.
auditwheel reads which libc, and which version of it, the extension needs, and names the wheel after
that: nothing here claims its platform.  Without `musl-gcc` (Debian: musl-tools) only the wheel for glibc is built.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src" / "_native"))

import build_native  # noqa: E402  (found through the line above)

FIRST_WITH_MUSL = "cp313"
"""Built with musl, an older Python has no `os.getxattr`, without which no image of a registry can be used."""

TOOLS = Path(sys.executable).parent
"""Where pip puts the programs of the environment that runs this."""


def run(*command: object, **environment: str) -> None:
    """Run a command in the project; say what it said if it fails."""
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"  # auditwheel looks for patchelf there
    done = subprocess.run(
        list(map(str, command)),
        cwd=PROJECT,
        env=os.environ | {"PATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{shlex.join(map(str, command))} failed ({done.returncode})")


def build(libc: str, into: Path) -> Path:
    """Build the wheel for "glibc" or "musl" into a directory, under the tag of auditwheel."""
    compilers = {}
    if libc == "musl":
        compiler = shlex.join(build_native.musl_compiler())
        compilers = {"CC": compiler, "LDSHARED": f"{compiler} -shared"}
    with tempfile.TemporaryDirectory() as place:
        base, parts, plain = f"{place}/build", f"{place}/parts", f"{place}/plain"
        run(sys.executable, "setup.py", "build", f"--build-base={base}", **compilers)
        if libc == "musl":
            # Debian's musl is named libc.so.  Each musl finds itself under any "libc.*"; auditwheel
            # knows the name that it has in Alpine.
            [extension] = Path(base).glob("lib*/containerkit/_ck*.so")
            name = f"libc.musl-{platform.machine()}.so.1"
            run("patchelf", "--replace-needed", "libc.so", name, extension)
        run(
            *(sys.executable, "setup.py", "build", f"--build-base={base}"),
            *("bdist_wheel", "--skip-build", f"--bdist-dir={parts}", f"--dist-dir={plain}"),
            **compilers,
        )
        [wheel] = Path(plain).glob("*.whl")
        run("auditwheel", "repair", "--wheel-dir", f"{place}/out", wheel)
        [repaired] = Path(place, "out").glob("*.whl")
        if libc == "musl":
            run("wheel", "tags", "--remove", f"--python-tag={FIRST_WITH_MUSL}", repaired)
            [repaired] = Path(place, "out").glob("*.whl")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(repaired, into / repaired.name))


def main() -> None:
    """Build both, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=PROJECT / "dist")
    into = parser.parse_args().into.resolve()
    for libc in ("glibc", "musl"):
        if libc == "musl" and not shutil.which("musl-gcc"):
            print("no wheel for musl: it needs musl-gcc (Debian: apt install musl-tools)")
        else:
            print(build(libc, into), flush=True)


if __name__ == "__main__":
    main()

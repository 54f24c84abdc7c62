"""An engine's root on an overlay, as in a container of Docker's without a volume.

The kernel takes no overlay for what is written (overlayfs, upperdir).  `run` writes into memory; what
is to stay has no place, and the error says which one to give.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    print(engine.run(None, ["echo", "ran"], text=True, check=True).stdout, end="")
    try:
        engine.start(None, ["sleep", "100000"])
    except ck.LaunchError as error:
        print(error.hint)
    print(len(engine.containers.list()))
"""
MOUNT = """
mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" "$1/lower" "$1/all" &&
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" none "$1/all" &&
shift && exec "$@"
"""


@pytest.mark.needs("mounts")
def test_what_is_to_stay_says_where_it_can(tmp_path: Path) -> None:
    words = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", str(tmp_path)]
    words += [sys.executable, "-c", PROGRAM, str(tmp_path / "all" / "root")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    ran, hint, kept = done.stdout.splitlines() or ("", "", done.stderr)
    assert (ran, kept) == ("ran", "0")
    assert "CONTAINERKIT_ROOT" in hint
    assert "docker run -v" in hint

"""A caller that is in namespaces of its own already: what containers mount, it may mount as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    for network in (None, "host"):
        show = "ls /sys/class/net; cat /proc/1/comm"
        print(engine.run(None, show, network=network, text=True, check=True).stdout.split())
"""


@pytest.mark.parametrize("around", [(), ("--net",), ("--net", "--pid", "--fork", "--mount-proc")])
def test_root_of_a_user_namespace(tmp_path: Path, around: tuple[str, ...]) -> None:
    """``unshare -rm``, and with a network that is its own, to which the launcher may come back."""
    words = ["unshare", "--user", "--map-root-user", "--mount", *around, sys.executable, "-c"]
    done = subprocess.run(
        [*words, PROGRAM, str(tmp_path / "root")], capture_output=True, text=True, check=False
    )
    first = done.stdout.splitlines()[:1]
    assert first == ["['lo', 'sh']"], done.stderr
    assert done.returncode == 0, done.stderr

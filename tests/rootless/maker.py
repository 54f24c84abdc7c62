"""A process that starts a container and is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

_PROGRAM: Final = """
import sys
import containerkit as ck
engine = ck.Engine.open(sys.argv[1])
how = {"lifetime": sys.argv[3], %s}
print(engine.start(sys.argv[2], ["sleep", "100000"], **how).id, flush=True)
sys.stdin.read()
"""


def killed(root: Path, image: str, lifetime: str, options: str = "") -> str:
    """Return the id of the container that it has left.

    Args:
        root: of the engine.
        image: by name.
        lifetime: of the container.
        options: more of them, as items of a dict's text.
    """
    words = [sys.executable, "-c", _PROGRAM % options, str(root), image, lifetime]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        identity = maker.stdout.readline().strip()
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    return identity

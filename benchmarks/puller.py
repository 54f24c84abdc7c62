"""A fresh Python process that pulls one image: what the pull section measures.

    python -m benchmarks.puller ROOT REFERENCE

prints "pulled" when the image is there, then the interpreter's peak memory before containerkit was
imported and at the end, in KiB.
The peak is VmHWM: ru_maxrss would count what the parent had before exec.
"""

from __future__ import annotations

import sys
from pathlib import Path


def peak_kib() -> int:
    """Return the peak resident size of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise SystemExit("no VmHWM in /proc/self/status")


def main() -> None:
    idle = peak_kib()
    import containerkit as ck

    with ck.Engine.open(sys.argv[1]) as engine:
        engine.images.pull(sys.argv[2], insecure=True)
        print("pulled", flush=True)
    print(idle, peak_kib())


if __name__ == "__main__":
    main()

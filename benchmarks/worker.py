"""A fresh Python process that starts containers on request: what the start section measures.

    python -m benchmarks.worker ROOT REFERENCE TOUCHED_MIB [SECURITY]

speaks the line protocol of limit.c: "COUNT GAP_US" on standard input, for each start one line of
nanoseconds, then ".".  TOUCHED_MIB of memory are written first: a parent of that size.
SECURITY is "default", "strict", or "unconfined": the default without a filter of system calls.
"""

from __future__ import annotations

import sys
import time

import containerkit as ck
from benchmarks import host

_PAGE = 4096
_SECURITIES: dict[str, ck.Security | None] = {
    "default": None,
    "strict": ck.Security.strict(),
    "unconfined": ck.Security(seccomp="unconfined"),
}


def main() -> None:
    host.enter_cgroup("engine")
    root, reference, touched = sys.argv[1], sys.argv[2], int(sys.argv[3]) << 20
    security = _SECURITIES[sys.argv[4] if len(sys.argv) > 4 else "default"]
    ballast = bytearray(touched)
    ballast[::_PAGE] = b"\1" * len(range(0, touched, _PAGE))
    with ck.Engine.open(root) as engine:
        image = engine.images.pull(reference, insecure=True)
        engine.run(image, ["/bin/true"], network="none", check=True, security=security)
        print("ready", flush=True)
        for line in sys.stdin:
            words = line.split()
            count, gap = int(words[0]), int(words[1]) / 1e6
            times = []
            for _ in range(count):
                if gap:
                    time.sleep(gap)
                begin = time.perf_counter_ns()
                result = engine.run(image, ["/bin/true"], network="none", security=security)
                times.append(time.perf_counter_ns() - begin)
                if result.returncode != 0:
                    raise SystemExit(f"/bin/true exited with {result.returncode}")
            print("\n".join(f"{ns} {ns}" for ns in times))
            print(".", flush=True)
    del ballast


if __name__ == "__main__":
    main()

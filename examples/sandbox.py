"""Run programs that nobody trusts, such as those that a model wrote, and take back one file.

Run it with ``.venv/bin/python examples/sandbox.py``, as root.  Each program has a strict container of
its own: no network, no capabilities, a read-only root, little memory, little time, little output.
"""

from __future__ import annotations

import containerkit as ck

LIMITS = ck.Limits(memory="128m", cpus=1, pids=32)
MAX_OUTPUT = 1024
PROGRAMS = {
    "honest": "print(sum(range(101)))",
    "endless": "while True: pass",
    "greedy": "bytearray(1 << 30)",
    "chatty": "while True: print('again and again')",
    "curious": "open('/etc/passwd', 'a')",
}


def run(program: str) -> str:
    """Run a program of Python; return in one line what came of it."""
    try:
        done = ck.run(
            None,
            ["python3", "-I", "-c", program],
            text=True,
            timeout=2,
            max_output=MAX_OUTPUT,
            limits=LIMITS,
            security=ck.Security.strict(),
        )
    except ck.Timeout as error:
        done = error.result
        if not done.truncated:
            return "ran too long"
    if done.truncated:
        return f"{len(done.stdout)} characters, truncated"
    last = (done.stdout or done.stderr).strip().rpartition("\n")[2]
    return f"{done.exit}: {last}" if last else str(done.exit)


if __name__ == "__main__":
    for name, text in PROGRAMS.items():
        print(f"{name:8} {run(text)}")

"""What the kernel says of a process: its rights, its masks.

Owns the reading of that one file.  Must not: judge what stands there.

Spec: proc_pid_status(5).
"""

from __future__ import annotations

from pathlib import Path


def status_of(process: int | str = "self") -> dict[str, str]:
    """Return the lines of a process's status: name → value.

    Raises:
        OSError: there is no such process any more, or no /proc.
    """
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    # A process's name may hold any other character that ends a line.
    return dict(line.partition(":\t")[::2] for line in text.split("\n"))


def effective_capabilities() -> int:
    """Return the bits of those that this process holds (capabilities(7)).

    Raises:
        OSError: there is no /proc.
    """
    return int(status_of().get("CapEff", "0"), 16)

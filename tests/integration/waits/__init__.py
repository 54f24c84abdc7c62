"""What is waited for and looked at in a running container."""

from __future__ import annotations


def deadline() -> float:
    """Seconds after which something that should have happened will not happen any more."""
    return 120.0

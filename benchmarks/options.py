"""What the command line asked for."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """Options common to all sections."""

    quick: bool = False
    """A few rounds only: does it run, not what does it measure."""
    peers_only: bool = False
    """Leave containerkit out."""
    rounds: int | None = None
    """Rounds instead of a section's own number."""
    containers: int = 1000
    """How many the density section keeps alive."""
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell on standard error what goes on."""
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", file=sys.stderr, flush=True)

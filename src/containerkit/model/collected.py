"""What a garbage collection removed.

Owns: the value.  Must not: collect; `snapshots.gc` does, for `images` and the engine.
"""

from __future__ import annotations

from typing import NamedTuple


class Collected(NamedTuple):
    """How much a collection removed.

    Attributes:
        blobs: stored bytes by digest.
        layers: unpacked trees.
        size: bytes freed; of trees, the sizes of their files.
    """

    blobs: int = 0
    layers: int = 0
    size: int = 0

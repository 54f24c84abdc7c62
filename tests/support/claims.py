"""Claims of ranges of ids, as they are on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from containerkit.runtime import idclaims


def of(root: Path) -> dict[str, str]:
    """Return who holds the ranges that containers of a root have, by the claims' names."""
    found = {}
    place = idclaims.place_of(root)
    if place.is_dir():
        for name in filter(idclaims.span_of, os.listdir(place)):
            claim = idclaims.read(place, name)
            if claim is not None and claim[0] == str(root):
                found[name] = claim[1]
    return found

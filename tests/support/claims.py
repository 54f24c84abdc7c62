"""Claims of ranges of ids, as they are on the disk."""

from __future__ import annotations

from pathlib import Path

from containerkit.runtime import idranges


def of(root: Path) -> dict[int, str]:
    """Return who holds the ranges that containers of a root have, by their first id."""
    found = {}
    if idranges.PLACE.is_dir():
        for name in (path.name for path in idranges.PLACE.iterdir()):
            claim = idranges._read(idranges.PLACE, int(name)) if name.isdigit() else None
            if claim is not None and claim[0] == str(root):
                found[int(name)] = claim[1]
    return found

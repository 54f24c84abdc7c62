"""Capabilities as the kernel sees them: sets as masks, and masks as text.

Owns the mapping of names to bits.  Which set a container gets is `model.security`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from containerkit.model.security import CAPABILITIES, DEFAULT_CAPABILITIES

_BITS: Final = {name: 1 << number for number, name in enumerate(CAPABILITIES)}
ALL_MASK: Final = sum(_BITS.values())


@lru_cache(maxsize=64)
def _mask(names: frozenset[str]) -> int:
    return sum(_BITS[name] for name in names)


def mask_of(names: Iterable[str]) -> int:
    """Return the mask of canonical names (see `model.security.capability`)."""
    return _mask(names if isinstance(names, frozenset) else frozenset(names))


def names_of(mask: int) -> tuple[str, ...]:
    """Return the names of a mask's bits, by number; unknown bits as ``#N``."""
    return tuple(
        CAPABILITIES[bit] if bit < len(CAPABILITIES) else f"#{bit}"
        for bit in range(mask.bit_length())
        if mask >> bit & 1
    )


def explain_mask(mask: int) -> str:
    """Say a mask in words: none, all, the default set, or the names."""
    if mask == 0:
        return "none"
    if mask & ALL_MASK == ALL_MASK:
        return "all"
    names = " ".join(names_of(mask))
    return f"the default ({names})" if mask == mask_of(DEFAULT_CAPABILITIES) else names

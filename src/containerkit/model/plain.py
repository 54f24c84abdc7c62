"""Values as what JSON has: dictionaries, lists, numbers and text.

Owns the one translation; it is not read back (`runtime.codec` keeps what is).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """Return a value, and all that is in it, so that ``json.dumps`` takes it.

    Times are texts of ISO 8601, durations seconds, paths text, sets sorted lists; bytes are text in
    UTF-8, what is none replaced.  What JSON has no form for is its text.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, AbstractSet):
        return sorted((plain(one) for one in value), key=str)
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    fields = getattr(type(value), "__attrs_attrs__", None)
    if fields:
        return {one.name: plain(getattr(value, one.name)) for one in fields}
    return str(value)

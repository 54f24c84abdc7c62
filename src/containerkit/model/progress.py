"""Progress events: what a pull says while it works.

Owns: the event.  Must not: draw; `containerkit.progress` does.  Flow: `images.pull` makes them and
calls the caller's function, always in the thread that called ``pull``.
"""

from __future__ import annotations

from typing import Literal

import attrs

from containerkit.model.digest import Digest

Action = Literal["resolve", "exists", "download", "extract", "verify", "done"]


@attrs.frozen
class Progress:
    """One step of an operation on an image.

    Args:
        action: "resolve" (the image was found, ``detail`` is its pinned reference), "exists" (a
            layer is here already), "download" and "extract" (bytes of one layer), "verify" (its
            digests held), "done" (a layer; or, without digest, the whole image).
        reference: what was asked for, canonical.
        digest: of the layer's blob, None for the whole image.
        current: bytes of the layer as stored so far: fetched for "download", unpacked for
            "extract".
        total: bytes in the end; None for the whole image.
        detail: text for people.
    """

    action: Action
    reference: str
    digest: Digest | None = None
    current: int = 0
    total: int | None = None
    detail: str = ""

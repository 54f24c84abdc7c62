"""How the bytes of a stream become text, and text bytes.

Owns the value and what a caller may ask for.  Neighbours: `stdio.pipes` and `model.result` use it.
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

from containerkit.errors import ConfigError


class Coding(NamedTuple):
    """An encoding, and what becomes of what is none of it.

    Attributes:
        encoding: a name that `codecs.lookup` knows.
        errors: as `codecs.lookup_error` knows it; None: what cannot be decoded is replaced, what
            cannot be encoded is an error.
    """

    encoding: str = "utf-8"
    errors: str | None = None

    def decode(self, data: bytes) -> str:
        """Return the text of a whole stream."""
        return data.decode(self.encoding, self.errors or "replace")

    def encode(self, text: str) -> bytes:
        """Return the bytes of a text."""
        return text.encode(self.encoding, self.errors or "strict")


UTF8: Final = Coding()


def coding_of(*, text: bool, encoding: str | None, errors: str | None) -> Coding | None:
    """Return how text is coded; None: bytes are asked for.

    Raises:
        ConfigError: there is no such encoding or error handler, or errors without text.
    """
    if encoding is None and errors is None:
        return UTF8 if text else None
    if errors is not None and not text and encoding is None:
        raise ConfigError(f"errors {errors!r} without text has no meaning", hint="text=True")
    try:
        if encoding is not None and not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError
        codecs.lookup_error(errors or "strict")
    except (LookupError, TypeError, ValueError):
        raise ConfigError(
            f"there is no encoding {encoding!r} with errors {errors!r}",
            hint="as encoding='latin-1', errors='replace' (codecs)",
        ) from None
    return Coding(encoding or "utf-8", errors)


def needs_lines(coding: Coding | None) -> None:
    """Refuse what cannot be cut into lines by the byte of a newline.

    Raises:
        ConfigError: it is such an encoding, as UTF-16 is.
    """
    if coding is not None and "\n".encode(coding.encoding) != b"\n":
        raise ConfigError(
            f"cannot cut a stream of {coding.encoding} into lines",
            hint="read bytes and decode them",
        )

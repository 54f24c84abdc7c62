"""Digests: the names of content, and the chain identifiers made of them.

Owns: the digest grammar, the allow-list of algorithms, the hash objects.  Must not: read files.
Flow: references, descriptors and manifests carry digests; `content` names blobs by them, `layers`
checks diff ids against them, `snapshots` names trees by chain id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Protocol

import attrs

from containerkit.errors import InvalidSpec

# A digest becomes a file name and a part of URLs, so nothing but an exact match may ever pass:
# `re.fullmatch` (a `$` would let a final newline through), lower-case hex of the exact length.
_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """What `Digest.hasher` gives: the part of a hashlib object that streams need."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far."""

    def copy(self) -> Hasher:
        """Return an independent hash object of the same state."""


@attrs.frozen
class Digest:
    """The name of some bytes: an algorithm and their hash in lower-case hex.

    Args:
        algorithm: "sha256" or "sha512".
        encoded: 64 or 128 lower-case hex digits.

    Raises:
        InvalidSpec: another algorithm, or anything else than the right number of hex digits.

    Spec: image-spec descriptor.md, Digests.
    """

    algorithm: str
    encoded: str

    def __attrs_post_init__(self) -> None:
        length = _LENGTHS.get(self.algorithm)
        if length is None:
            raise InvalidSpec(
                f"cannot read digest of algorithm {_shown(self.algorithm)}: not known",
                hint="containerkit reads sha256 and sha512",
            )
        if len(self.encoded) != length or _HEX.fullmatch(self.encoded) is None:
            raise InvalidSpec(
                f"cannot read digest {_shown(self.encoded)}: {self.algorithm} has"
                f" {length} lower-case hex digits"
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.

        Raises:
            InvalidSpec: the text is not a digest of a known algorithm.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidSpec(
                f"cannot read digest {_shown(text)}: no colon", hint="sha256:<64 hex digits>"
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """Return the sha256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha512()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the chain id of each layer: what names the tree of it and all layers below.

    Args:
        diff_ids: of the layers, lowest first.

    Returns:
        As many digests, in the same order; all of sha256: they become names in one directory.

    Spec: image-spec config.md, Layer ChainID; the first is not its diff id if that is of sha512.
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()))
        else:
            short = diff_id.algorithm == "sha256"
            chain.append(diff_id if short else Digest.of(str(diff_id).encode()))
    return tuple(chain)


def _shown(text: str) -> str:
    """Return *text* as it may stand in a message: quoted, escaped and short."""
    return ascii(text if len(text) <= 100 else text[:100] + "...")

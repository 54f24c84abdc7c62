"""Digests name files and URLs: nothing but the exact grammar may pass."""

from __future__ import annotations

import hashlib

import pytest

from containerkit.errors import InvalidSpec
from containerkit.model.digest import Digest, chain_ids

HEX = "ab" * 32


def test_round_trip() -> None:
    assert str(Digest.parse(f"sha256:{HEX}")) == f"sha256:{HEX}"


def test_of_bytes_and_of_a_stream_agree() -> None:
    digest = Digest.of(b"layer")
    hasher = digest.hasher()
    hasher.update(b"la")
    hasher.update(memoryview(b"yer"))
    assert hasher.hexdigest() == digest.encoded


def test_sha512() -> None:
    encoded = hashlib.sha512(b"x").hexdigest()
    hasher = Digest("sha512", encoded).hasher()
    hasher.update(b"x")
    assert hasher.hexdigest() == encoded


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256:",
        f"sha256:{HEX[1:]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}\n",
        f"sha256:{HEX[:-1]}\u0663",
        f" sha256:{HEX}",
        f"SHA256:{HEX}",
        "sha256:../../../../../../../../../../../../../../../../../etc/passwd/////",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        f"sha512:{HEX}",
        f"sha256:sha256:{HEX}",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="cannot read digest"):
        Digest.parse(text)


def test_a_message_stays_short_and_plain() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Digest.parse("sha256:\x1b[31m" + "x" * 5000)
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)


def test_chain_ids_follow_the_specification() -> None:
    one, two, three = (Digest.of(text) for text in (b"1", b"2", b"3"))
    second = Digest.of(f"{one} {two}".encode())
    assert chain_ids([one, two, three]) == (one, second, Digest.of(f"{second} {three}".encode()))
    assert chain_ids([]) == ()

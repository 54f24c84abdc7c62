"""A layer of what was written, on the layers below, shows what an overlay of them showed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerkit.layers.apply import apply_layer
from containerkit.model.digest import Digest
from containerkit.runtime.written import Room, Upper
from containerkit.snapshots.copy import merge
from tests.property.test_copies import LAYERS, Node, build, described, overlay, place

pytestmark = pytest.mark.needs("host root")  # mounts, owners, and devices of every kind

ROOM = Room(1000, 1 << 20)


def shown(top: Path) -> dict[str, tuple[Any, ...]]:
    """A description without sockets, which no layer has, the time of the root, and what of its mode a
    layer's root always has.
    """
    found = {name: told for name, told in described(top).items() if told[0] != stat.S_IFSOCK}
    kind, (uid, gid, mode), _, *rest = found["."]
    return {**found, ".": (kind, (uid, gid, mode | 0o755), 0, *rest)}


@settings(max_examples=60)
@given(LAYERS, st.sampled_from(["trusted", "user"]))
def test_what_was_written_is_seen_again(
    layers: list[Node], marks: Literal["trusted", "user"]
) -> None:
    with place() as top:
        upper, *lowers = (top / str(number) for number in range(len(layers)))
        for node, lower in zip(layers, (upper, *lowers), strict=True):
            build(node, lower, marks, [])
        with overlay([upper, *lowers], top / "merged", marks) as merged:
            expected = shown(merged)
        written = Upper(str(upper), tuple(map(str, lowers)), "/", (), marks)
        data = b"".join(written.pieces(ROOM))
        assert b"".join(written.pieces(ROOM)) == data
        (top / "made").mkdir(mode=0o755)
        if data:
            apply_layer(
                [data],
                media_type="application/vnd.oci.image.layer.v1.tar",
                diff_id=Digest.of(data),
                destination=top / "made",
                whiteout_format="overlay-trusted" if marks == "trusted" else "overlay-user",
            )
            lowers = [top / "made", *lowers]
        merge(lowers, top / "copy")
        assert shown(top / "copy") == expected

"""What a layer says of owners, rights and capabilities of a container with ids of its own."""

from __future__ import annotations

import struct
import tarfile

import pytest

from containerkit.model.idmap import IdMap
from containerkit.runtime.archive import XATTR
from containerkit.runtime.written import _fit

IDS = IdMap.of_range(100_000)
REVISION_2 = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
NAME = f"{XATTR}security.capability"


def of_root(number: int) -> bytes:
    """The same capabilities, in a user namespace whose root is so numbered."""
    return struct.pack("<I", 0x03000001) + REVISION_2[4:] + struct.pack("<I", number)


def fitted(uid: int, gid: int, ids: IdMap | None, capability: bytes = b"") -> tarfile.TarInfo:
    info = tarfile.TarInfo("program")
    info.uid, info.gid, info.mode = uid, gid, 0o6755
    if capability:
        info.pax_headers = {NAME: capability.decode("utf-8", "surrogateescape")}
    _fit(info, ids)
    return info


@pytest.mark.parametrize(
    ("uid", "gid", "ids", "wanted"),
    [
        (100_000, 101_000, IDS, (0, 1000, 0o6755)),
        (1000, 1000, None, (1000, 1000, 0o6755)),
        (0, 100_007, IDS, (65534, 7, 0o2755)),  # the host's root is nobody, and lends no rights
        (100_007, 0, IDS, (7, 65534, 0o4755)),
        (165_536, 165_536, IDS, (65534, 65534, 0o755)),
    ],
)
def test_owners(uid: int, gid: int, ids: IdMap | None, wanted: tuple[int, int, int]) -> None:
    info = fitted(uid, gid, ids)
    assert (info.uid, info.gid, info.mode) == wanted


@pytest.mark.parametrize(
    ("found", "ids", "wanted"),
    [
        (REVISION_2, None, REVISION_2),
        (REVISION_2, IDS, REVISION_2),
        (of_root(100_000), IDS, REVISION_2),
        (of_root(100_001), IDS, None),  # some other namespace's, within its own
        (of_root(0), IDS, None),
        (of_root(100_000), None, None),
    ],
)
def test_capabilities(found: bytes, ids: IdMap | None, wanted: bytes | None) -> None:
    said = fitted(100_000, 100_000, ids, found).pax_headers.get(NAME)
    assert (None if said is None else said.encode("utf-8", "surrogateescape")) == wanted

"""Root file systems as values."""

from __future__ import annotations

import pytest

from containerkit.errors import InvalidSpec
from containerkit.model.rootfs import HostBind, Overlay, Rootfs

ROOT = Overlay("/", ("layers/a",))


def test_a_list_becomes_a_tuple() -> None:
    assert Rootfs([ROOT]).mounts == (ROOT,)


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [HostBind("/a", "/")],
        [Overlay("/usr", ("layers/a",))],
        [Overlay("/", ())],
        [ROOT, ROOT],
        [ROOT, HostBind("a", "/a")],
        [ROOT, HostBind("/a", "a")],
        [ROOT, HostBind("/a", "/b/../a")],
    ],
)
def test_impossible_ones(mounts: list[Overlay | HostBind]) -> None:
    with pytest.raises(InvalidSpec):
        Rootfs(mounts)

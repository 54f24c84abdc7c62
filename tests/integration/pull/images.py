"""The images that the pull tests pull, and what their trees must be."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping

from containerkit.images.image import Image
from tests.support import ocibuild
from tests.support.store import Store, tree

LAYERED = (1_500_000, 3_000_000, 5_000, 400_000)
"""Bytes of the file in each layer of `layered`; the largest is not the first."""
SMALL = 3
"""How many images `small` makes."""


def noise(size: int, seed: int) -> bytes:
    """Return bytes that do not compress, always the same."""
    return random.Random(seed).randbytes(size)


KNOWN = {
    hashlib.sha256(noise(size, seed)).hexdigest()
    for size, seed in (
        *((size, seed) for seed, size in enumerate(LAYERED)),
        (200_000, 100),
        *((300_000, number) for number in range(SMALL)),
    )
}
"""Digests of every file that an image made here may hold."""


def layered(*, compression: ocibuild.Compression = "gzip") -> ocibuild.Image:
    """Return an image of four layers."""
    files: list[Mapping[str, ocibuild.Content]] = [
        {f"dir{number}/file": noise(size, number), f"dir{number}/link": ocibuild.symlink("file")}
        for number, size in enumerate(LAYERED)
    ]
    return ocibuild.image(files, config={"Cmd": ["true"]}, compression=compression)


def small(number: int) -> ocibuild.Image:
    """Return one of several images that share their lowest layer."""
    return ocibuild.image(
        [
            {"dir0/file": noise(200_000, 100), "dir0/link": ocibuild.symlink("file")},
            {"dir1/file": noise(300_000, number), "dir1/link": ocibuild.symlink("file")},
        ]
    )


def check_trees(store: Store, image: Image) -> None:
    """Check that each layer of an image made here holds what its config says."""
    for number, chain_id in enumerate(image._chain_ids):
        found = tree(store.snapshots.path(chain_id))
        kind, mode, data = found[f"dir{number}/file"]
        assert (kind, mode) == ("-", 0o644)
        assert hashlib.sha256(data).hexdigest() in KNOWN
        assert found[f"dir{number}/link"][2] == b"file"
        assert len(found) == 3


def check_layered(store: Store, reference: str) -> None:
    """Check that the image under *reference* is here, and every byte of it."""
    image = store.images.get(reference)
    assert image.config.cmd == ("true",)
    check_trees(store, image)
    for number, chain_id in enumerate(image._chain_ids):
        data = (store.snapshots.path(chain_id) / f"dir{number}/file").read_bytes()
        assert data == noise(LAYERED[number], number)
    store.check_blobs()


def blob_path(digest: str) -> str:
    """Return a pattern of the request for a blob."""
    return f"GET .*/blobs/{digest}$"

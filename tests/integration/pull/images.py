"""The images that the pull tests pull, and what their trees must be."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.support import ocibuild
from tests.support.store import Store, tree

SIZES = (3_000_000, 1_500_000, 400_000, 5_000)


def noise(size: int, seed: int) -> bytes:
    """Return bytes that do not compress, always the same."""
    return random.Random(seed).randbytes(size)


def layered(*, compression: ocibuild.Compression = "gzip") -> ocibuild.Image:
    """Return an image of four layers; the largest is not the first."""
    sizes = (SIZES[1], SIZES[0], SIZES[3], SIZES[2])
    files: list[Mapping[str, ocibuild.Content]] = [
        {f"dir{number}/file": noise(size, number), f"dir{number}/link": ocibuild.symlink("file")}
        for number, size in enumerate(sizes)
    ]
    return ocibuild.image(files, config={"Cmd": ["true"]}, compression=compression)


def check_layered(store: Store, reference: str) -> None:
    """Check that the image under *reference* is here, and every byte of it."""
    image = store.images.get(reference)
    assert image.config.cmd == ("true",)
    for number, chain_id in enumerate(image.chain_ids):
        size = (SIZES[1], SIZES[0], SIZES[3], SIZES[2])[number]
        found = tree(store.snapshots.path(chain_id))
        assert found[f"dir{number}/file"] == ("-", 0o644, noise(size, number))
        assert found[f"dir{number}/link"][2] == b"file"
        assert len(found) == 3
    store.check_blobs()


def blob_path(digest: str) -> str:
    """Return a pattern of the request for a blob."""
    return f"GET .*/blobs/{digest}$"

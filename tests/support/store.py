"""A root directory with its parts wired as the engine does, and looks at what it holds.

Owns: opening, closing, and the questions that many tests ask of a store.  Must not: work around
the store's own interface where there is one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from containerkit.content.store import ContentStore
from containerkit.images.images import Images
from containerkit.model.image_limits import ImageLimits
from containerkit.registry.client import RegistryClient
from containerkit.registry.credentials import Credentials
from containerkit.registry.retry import Policy
from containerkit.snapshots.overlay import Snapshots
from containerkit.state.catalog import Catalog
from containerkit.state.root import StoreRoot

IMPATIENT = Policy(tries=3, first_delay=0.001, longest_delay=0.001, longest_retry_after=0.1)
"""Tries again as the default does, without its pauses."""


@attrs.frozen
class Store:
    """The parts of one opened root."""

    root: StoreRoot
    catalog: Catalog
    content: ContentStore
    snapshots: Snapshots
    images: Images

    # ---- what is in it

    def blobs(self) -> set[str]:
        return {path.name for path in (self.root.path / "blobs/sha256").iterdir()}

    def trees(self) -> set[str]:
        return {path.name for path in self.root.layers.iterdir() if path.name[0] != "."}

    def debris(self) -> list[str]:
        """Return everything that only an operation under way, or a killed one, has."""
        ingest = [f"ingest/{path.name}" for path in self.root.ingest.iterdir()]
        layers = [f"layers/{path.name}" for path in self.root.layers.iterdir()]
        rows = [f"lease {row[0]}" for row in self.catalog.rows("SELECT lease FROM leases")]
        hidden = [name for name in layers if name.startswith("layers/.") and ".empty" not in name]
        return sorted(ingest + hidden + rows)

    def is_empty(self) -> bool:
        """Return whether no pull left anything here."""
        return not (self.blobs() or self.trees() or self.debris() or self.images.list())

    def check_blobs(self) -> None:
        """Hash every blob."""
        for path in (self.root.path / "blobs/sha256").iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@contextmanager
def opened(
    path: Path, *, policy: Policy = IMPATIENT, limits: ImageLimits | None = None
) -> Iterator[Store]:
    """Open the root at *path*; no logins of this machine are looked at."""
    root = StoreRoot.open(path)
    catalog = Catalog(root.catalog)
    content = ContentStore(root.path)
    snapshots = Snapshots(root, catalog, content)
    client = RegistryClient(Credentials(use_docker=False), policy=policy, limits=limits)
    try:
        yield Store(
            root,
            catalog,
            content,
            snapshots,
            Images(root, catalog, content, snapshots, lambda: client, limits=limits),
        )
    finally:
        snapshots.close()
        catalog.close()
        client.close()


def tree(directory: Path) -> Mapping[str, tuple[str, int, bytes]]:
    """Return kind, mode and content of everything beneath *directory*, by path."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            path = Path(parent) / name
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            else:
                content = b""
            kind = stat.filemode(status.st_mode)[0]
            found[str(path.relative_to(directory))] = kind, stat.S_IMODE(status.st_mode), content
    return found

"""The stores of one root, each made on first use: catalog, content, layers, images, registry.

Owns putting them together and closing them.  Must not: know containers.
Neighbours: `engine` makes one; what outlives an engine's variable, such as a handle, holds it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from containerkit.images.image import Image
    from containerkit.images.images import Images
    from containerkit.model.engine_config import Pace
    from containerkit.model.image_limits import ImageLimits
    from containerkit.registry.client import RegistryClient
    from containerkit.registry.credentials import Credentials
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot


class Stores:
    """What one engine keeps in its root.

    Args:
        root: the opened root directory.
        mirrors: registries asked before docker.io.
        limits: what an image that is pulled may be; None: the usual ones.
        realms: hosts that the login of any registry may be sent to, for a token.
        reopen: a function of a module, for pickles of images: (root, digest) → image.
        pace: bytes a second, and the seconds to count them over, that a registry has to keep.
    """

    __slots__ = (
        "_catalog",
        "_closers",
        "_credentials",
        "_guard",
        "_images",
        "_limits",
        "_mirrors",
        "_pace",
        "_realms",
        "_reopen",
        "_root",
    )

    def __init__(
        self,
        root: StoreRoot,
        *,
        mirrors: tuple[str, ...] = (),
        limits: ImageLimits | None = None,
        realms: tuple[str, ...] = (),
        pace: Pace | None = None,
        reopen: Callable[[str, str], Image] | None = None,
    ) -> None:
        self._root = root
        self._mirrors = mirrors
        self._limits = limits
        self._realms = realms
        self._pace = pace
        self._reopen = reopen
        self._catalog: Catalog | None = None
        self._images: Images | None = None
        self._credentials: Credentials | None = None
        self._closers: list[Callable[[], object]] = []
        self.forked()

    def forked(self) -> None:
        """In a forked child: the lock may have been held."""
        self._guard = threading.RLock()

    @property
    def path(self) -> Path:
        """The root directory."""
        return self._root.path

    @property
    def catalog(self) -> Catalog:
        """What Python changes about this root."""
        with self._guard:
            if self._catalog is None:
                from containerkit.state.catalog import Catalog

                self._catalog = Catalog(self._root.catalog)
                self._closers.append(self._catalog.close)
            return self._catalog

    @property
    def images(self) -> Images:
        """The images."""
        with self._guard:
            if self._images is None:
                self._images = self._wire()
            return self._images

    def _wire(self) -> Images:
        from containerkit.content.store import ContentStore
        from containerkit.images.images import Images
        from containerkit.snapshots.overlay import Snapshots

        catalog = self.catalog
        content = ContentStore(self.path)
        snapshots = Snapshots(self._root, catalog, content)
        self._closers.append(snapshots.close)
        images = Images(
            self._root,
            catalog,
            content,
            snapshots,
            self._client,
            mirrors=self._mirrors,
            limits=self._limits,
        )
        images._reopen = self._reopen
        return images

    def _client(self) -> RegistryClient:
        from containerkit.registry.client import RegistryClient

        client = RegistryClient(
            self.logins(), limits=self._limits, realms=self._realms, pace=self._pace
        )
        self._closers.append(client.close)
        return client

    def logins(self) -> Credentials:
        """Return the logins of this engine."""
        from containerkit.registry.credentials import Credentials

        with self._guard:
            if self._credentials is None:
                self._credentials = Credentials()
            return self._credentials

    def close(self) -> None:
        """Close all of them."""
        while self._closers:
            self._closers.pop()()

"""The images of a root, in the asyncio face; see `containerkit.images` for what they are.

Owns nothing: every call is the blocking one, in a thread of the engine.  A cancelled pull ends
within moments, keeps what it has verified, and names nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from containerkit.aio.face import face_of
from containerkit.aio.progress import with_progress
from containerkit.images import image as blocking_image
from containerkit.images import images as blocking_images
from containerkit.model.html import Listing

if TYPE_CHECKING:
    from datetime import datetime

    from containerkit.images.host import HostImage
    from containerkit.images.image import Layer
    from containerkit.model.collected import Collected
    from containerkit.model.image_config import HistoryEntry, ImageConfig
    from containerkit.model.platform import Platform
    from containerkit.model.progress import Progress
    from containerkit.model.reference import Reference
    from containerkit.registry.session import Auth, Certificates
    from containerkit.stdio.threads import Workers


@face_of(blocking_image.Image)
class Image:
    """An image that is here, under whatever names it has."""

    __slots__ = ("_core", "_workers")

    def __init__(self, core: blocking_image.Image, workers: Workers) -> None:
        self._core = core
        self._workers = workers

    @property
    def id(self) -> str:
        """Config digest, "sha256:…"."""
        return self._core.id

    @property
    def digest(self) -> str:
        """Manifest digest, "sha256:…"."""
        return self._core.digest

    @property
    def references(self) -> tuple[str, ...]:
        """Canonical names, sorted."""
        return self._core.references

    @property
    def size(self) -> int:
        """Bytes of manifest, config and layers as stored."""
        return self._core.size

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Lowest first."""
        return self._core.layers

    @property
    def config(self) -> ImageConfig:
        """What the image says of the process to start; read once, verified."""
        return self._core.config

    @property
    def pinned(self) -> str:
        """A name that means exactly this image for ever: "registry/repository@sha256:…"."""
        return self._core.pinned

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return self._core.platform

    @property
    def created(self) -> datetime | None:
        """When the image was made, if it says so."""
        return self._core.created

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """How the layers came to be, lowest first."""
        return self._core.history

    async def tag(self, reference: str | Reference) -> Image:
        """Give the image another name, taking it from whatever has it; return it so named."""
        named = await self._workers.call(lambda: self._core.tag(reference))
        return Image(named, self._workers)

    async def untag(self, reference: str | Reference) -> None:
        """Take a name away; the image stays, even without any."""
        await self._workers.call(lambda: self._core.untag(reference))

    async def remove(self, *, force: bool = False) -> None:
        """Remove the image; see ``Images.remove``."""
        await self._workers.call(lambda: self._core.remove(force=force))

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, Image) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._core)

    def __reduce__(self) -> tuple[Callable[[str, str], Image], tuple[str, str]]:
        from containerkit.aio.engine import image_of

        return image_of, self._core.__reduce__()[1]

    def __repr__(self) -> str:
        return repr(self._core)

    def _row_of_table(self) -> dict[str, object]:
        return self._core._row_of_table()

    def _repr_html_(self) -> str:
        return self._core._repr_html_()


@face_of(blocking_images.Images)
class Images:
    """The collection ``engine.images``; usable from every thread."""

    __slots__ = ("_core", "_workers")

    def __init__(self, core: Callable[[], blocking_images.Images], workers: Workers) -> None:
        self._core = core
        self._workers = workers

    async def get(self, name: str | Reference | Image) -> Image:
        """Return an image that is here."""
        return self._wrap(await self._workers.call(lambda: self._core().get(plain(name))))

    async def list(self) -> tuple[Image, ...]:
        """Return all images, the newest first."""
        found = await self._workers.call(lambda: self._core().list())
        return Listing(self._wrap(one) for one in found)

    async def _ensure(
        self,
        name: str | Reference | Image,
        *,
        pull: blocking_images.PullPolicy = "missing",
        platform: str | Platform | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Image:
        """Return an image, pulling it as *pull* says."""

        def work(tell: Callable[[Progress], object] | None) -> blocking_image.Image:
            return self._core()._ensure(
                plain(name),
                pull=pull,
                platform=platform,
                progress=tell,
            )

        return self._wrap(await with_progress(self._workers, work, progress))

    async def pull(
        self,
        reference: str | Reference,
        *,
        platform: str | Platform | None = None,
        progress: Callable[[Progress], object] | None = None,
        mirrors: Sequence[str] = (),
        auth: Auth = None,
        insecure: bool | None = None,
        ca: Certificates = None,
    ) -> Image:
        """Bring an image here from its registry; resumable, parallel, verified."""

        def work(tell: Callable[[Progress], object] | None) -> blocking_image.Image:
            return self._core().pull(
                reference,
                platform=platform,
                progress=tell,
                mirrors=mirrors,
                auth=auth,
                insecure=insecure,
                ca=ca,
            )

        return self._wrap(await with_progress(self._workers, work, progress))

    async def resolve(
        self,
        reference: str | Reference,
        *,
        mirrors: Sequence[str] = (),
        auth: Auth = None,
        insecure: bool | None = None,
        ca: Certificates = None,
    ) -> str:
        """Return the name that means for ever what *reference* means now, without pulling."""
        return await self._workers.call(
            lambda: self._core().resolve(
                reference, mirrors=mirrors, auth=auth, insecure=insecure, ca=ca
            )
        )

    async def host(
        self,
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        site_packages: bool = True,
    ) -> HostImage:
        """Return this host's own programs and running Python as an image: no download, no copy."""
        return await self._workers.call(
            lambda: self._core().host(paths=paths, site_packages=site_packages)
        )

    async def tag(self, image: Image, reference: str | Reference) -> Image:
        """Let *reference* mean *image*, whatever it meant; see ``Image.tag``."""
        return await image.tag(reference)

    async def untag(self, image: Image, reference: str | Reference) -> None:
        """Take a name of *image* away; see ``Image.untag``."""
        await image.untag(reference)

    async def remove(self, name: str | Reference | Image, *, force: bool = False) -> None:
        """Remove a name and, with its last one, the image and what only it needed."""
        await self._workers.call(lambda: self._core().remove(plain(name), force=force))

    async def prune(self) -> tuple[str, ...]:
        """Remove the images that have no name; return their digests."""
        return await self._workers.call(lambda: self._core().prune())

    async def gc(self, *, debris: bool = True) -> Collected:
        """Remove content that nothing refers to; never what a pull or a container needs."""
        return await self._workers.call(lambda: self._core().gc(debris=debris))

    def _wrap(self, core: blocking_image.Image) -> Image:
        return Image(core, self._workers)


def plain(name: str | Reference | Image) -> str | Reference | blocking_image.Image:
    """Return what the blocking face takes."""
    return name._core if isinstance(name, Image) else name

"""The images of one root: looked up, pulled, named, removed.

Owns: what a name, an id or a prefix means; the cache of lookups; the lease with which a container
uses an image.  Must not: hold SQL (`records`), HTTP or archive code.
Neighbours: `engine` makes it and calls ``get`` or ``ensure``, then ``lease``, on every start.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from containerkit.errors import Conflict, ImageNotFound, InUse, InvalidReference
from containerkit.images import records
from containerkit.images.image import Image
from containerkit.model.digest import Digest
from containerkit.model.html import Listing
from containerkit.model.image_config import DOCUMENT_MAX, LAYERS_MAX, ImageConfig
from containerkit.model.reference import Reference

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.images.host import HostImage
    from containerkit.images.snapshotter import Lease, Snapshotter
    from containerkit.images.source import Source
    from containerkit.model.collected import Collected
    from containerkit.model.image_limits import ImageLimits
    from containerkit.model.platform import Platform
    from containerkit.model.progress import Progress
    from containerkit.registry.client import RegistryClient
    from containerkit.registry.session import Auth, Certificates
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

PullPolicy = Literal["missing", "always", "never"]

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


class Images:
    """The collection ``engine.images``; usable from every thread.

    Args:
        root: the opened root directory.
        catalog: its catalog.
        content: its blobs.
        snapshots: its unpacked layers.
        client: makes the registry client, on the first pull or resolve.
        mirrors: registries asked before docker.io, for pulls that name none themselves.
        limits: what an image that is pulled may be; None: the usual ones.
    """

    def __init__(
        self,
        root: StoreRoot,
        catalog: Catalog,
        content: ContentStore,
        snapshots: Snapshotter,
        client: Callable[[], RegistryClient],
        *,
        mirrors: Sequence[str] = (),
        limits: ImageLimits | None = None,
    ) -> None:
        self._root = root
        self._catalog = catalog
        self._content = content
        self._snapshots = snapshots
        self._make_client = client
        self._clients: dict[int, RegistryClient] = {}
        self._reopen: Callable[[str, str], Image] | None = None  # what a pickle of an image calls
        self._mirrors = tuple(mirrors)
        self._limits = limits

    # ---- look up

    def get(self, name: str | Reference | Image) -> Image:
        """Return an image that is here.

        Args:
            name: a reference, a config or manifest digest, or at least four digits of one; a name
                wins over digits.

        Raises:
            ImageNotFound: none is called so.
            Conflict: the digits fit several images.
        """
        if isinstance(name, Image):
            return name
        memo = self._catalog.memo()
        found: Image | None = memo.get(name)
        if found is None:
            found = memo[name] = self._load(self._find(name), str(name))
        return found

    def list(self) -> tuple[Image, ...]:
        """Return all images, the newest first."""
        return Listing(Image(self, record) for record in records.load(self._catalog))

    def _ensure(
        self,
        name: str | Reference | Image,
        *,
        pull: PullPolicy = "missing",
        platform: str | Platform | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Image:
        """Return an image, pulling it as *pull* says.

        Raises:
            ImageNotFound: it is not here for that platform, and *pull* is "never"; or no registry
                has it.
        """
        if isinstance(name, Image):
            return name
        if pull != "always":
            memo = self._catalog.memo()
            key = ("for", name, platform)
            try:
                found: Image | None = memo.get(key)
                if found is None:
                    found = memo[key] = self._fitting(name, platform)
            except ImageNotFound:
                if pull == "never":
                    raise
            else:
                return found
        return self.pull(name, platform=platform, progress=progress)

    def _lease(self, image: Image) -> Lease:
        """Keep the layers of *image* until the lease is released, making sure they are whole.

        A layer that the disk may not have kept over a reboot is unpacked again from its blob.

        Raises:
            ImageNotFound: the image was removed.
            CorruptContent: the disk changed a blob that was needed.
        """
        memo = self._catalog.memo()
        key = ("whole", image.digest)
        if key not in memo:
            self._restore(image)
            memo[key] = True
        return self._snapshots.lease(image._chain_ids)

    # ---- bring in

    def pull(
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
        """Bring an image here from its registry; resumable, parallel, verified.

        Args:
            reference: "alpine", "ghcr.io/owner/name:tag", "…@sha256:…".
            platform: "linux/arm64"; None: this host's.  An image of another platform does not take
                the name from this host's: it is held beside it, under its own digest.
            progress: called with every event, in this thread; what it raises ends the pull.
            mirrors: registries that are asked first.
            auth: a login for this call, instead of those known.
            insecure: True: plain HTTP and any certificate will do; False: not even on loopback.
            ca: certificate authorities in PEM, text or file, beside the host's.

        Returns:
            The image, recorded under *reference* or beside it, its layers unpacked.

        Raises:
            InvalidReference: the text is no reference.
            ImageNotFound: the registry has no such image, or none for the platform.
            RegistryError: the registry refused or failed; what came so far is kept.
            CorruptContent: it sent something else than it promised; nothing of it is kept.
            InvalidSpec, UnsupportedMediaType: the image is not one that containerkit understands.
            HostError: the disk is full or broken.

        Blocking: until all is here; interrupted, or with an error from *progress*, it ends within
        moments and the next pull goes on where this one stopped.
        """
        from containerkit.images.pull import Pull, in_context
        from containerkit.state.cancel import cancellable

        wanted = _reference(reference)
        with in_context(f"cannot pull {wanted}"), cancellable() as cancelled:
            pull = Pull(
                root=self._root,
                catalog=self._catalog,
                content=self._content,
                snapshots=self._snapshots,
                reference=wanted,
                platform=None if platform is None else _platform(platform),
                source=self._source(
                    wanted, mirrors, cancelled, auth=auth, insecure=insecure, ca=ca
                ),
                limits=self._limits,
                deliver=progress or (lambda _: None),
                cancelled=cancelled,
            )
            return self._load(pull.run(), str(wanted))

    def resolve(
        self,
        reference: str | Reference,
        *,
        mirrors: Sequence[str] = (),
        auth: Auth = None,
        insecure: bool | None = None,
        ca: Certificates = None,
    ) -> str:
        """Return the name that means for ever what *reference* means now, without pulling.

        For an index it is the digest of that: it fits every platform.

        Raises:
            ImageNotFound: the registry has no such image.
            RegistryError: it refused or failed.
        """
        from containerkit.images.pull import in_context
        from containerkit.state.cancel import cancellable

        wanted = _reference(reference)
        with in_context(f"cannot resolve {wanted}"), cancellable() as event:
            source = self._source(wanted, mirrors, event, auth=auth, insecure=insecure, ca=ca)
            return f"{wanted.registry}/{wanted.repository}@{source.resolve().digest}"

    def host(
        self,
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        site_packages: bool = True,
    ) -> HostImage:
        """Return this host's own programs and running Python as an image: no download, no copy.

        Args:
            paths: further directories and files to show, each at its own path.
            site_packages: False: the standard library alone.

        Raises:
            ConfigError: a path is missing, or one that the image has of its own.
        """
        from containerkit.images.host import host_image

        return host_image(self._root.path, paths=paths, site_packages=site_packages)

    # ---- name and remove

    def tag(self, image: Image, reference: str | Reference) -> Image:
        """Let *reference* mean *image*, whatever it meant; see ``Image.tag``."""
        wanted = _reference(reference)
        if wanted.digest is not None:
            raise InvalidReference(
                f"cannot tag {image.id} {wanted}: it is pinned", hint="name it without @sha256:…"
            )
        digest = Digest.parse(image.digest)
        with self._catalog.transaction() as db:
            records.name(db, wanted, digest, digest)
        return self._load(digest, str(wanted))

    def untag(self, image: Image, reference: str | Reference) -> None:
        """Take a name of *image* away; see ``Image.untag``."""
        wanted = _reference(reference)
        if not records.forget_name(self._catalog, str(wanted), Digest.parse(image.digest)):
            raise ImageNotFound(f"cannot untag {wanted}: it is not a name of {image.id}")

    def remove(self, name: str | Reference | Image, *, force: bool = False) -> None:
        """Remove a name and, with its last one, the image and what only it needed.

        What a running container uses stays until that ends and ``gc`` is called again.

        Args:
            name: a reference removes that name; an image, its id or digest removes the image.
            force: remove an image given by id although it has several names.

        Raises:
            ImageNotFound: none is called so.
            InUse: it has several names, and *force* is not given.
        """
        digest = Digest.parse(self.get(name).digest)
        image = self._load(digest, str(name))  # with the names that it has now
        reference = None if isinstance(name, Image) else _reference_or_none(name)
        known = None if reference is None else records.find_name(self._catalog, str(reference))
        whole = known is None or known.image != digest
        if not whole and len(image.references) > 1:
            records.forget_name(self._catalog, str(reference), digest)
            image._tell("untag", str(reference))
            return
        names = None if whole and force else image.references
        if names is not None and len(names) > 1:
            raise InUse(
                f"cannot remove image {image.id}: it has the names {', '.join(names)}",
                hint="remove them one by one, or use force=True",
            )
        if not records.forget(self._catalog, digest, names):
            raise InUse(f"cannot remove image {image.id}: it was given another name meanwhile")
        image._tell("delete", None if reference is None else str(reference))
        self.gc(debris=False)

    def prune(self) -> tuple[str, ...]:
        """Remove the images that have no name; return their digests."""
        gone = records.forget_nameless(self._catalog)
        self.gc(debris=False)
        return tuple(map(str, gone))

    def gc(self, *, debris: bool = True) -> Collected:
        """Remove content that nothing refers to; never what a pull or a container needs.

        Args:
            debris: also throw away what killed pulls left and the next one could resume.
        """
        return self._snapshots.collect(debris=debris)

    # ---- inside

    def _find(self, name: str | Reference) -> Digest:
        reference = _reference_or_none(name)
        if reference is not None:
            known = records.find_name(self._catalog, str(reference))
            if known is not None:
                return known.image
            if reference.digest is not None:
                repository = f"{reference.registry}/{reference.repository}"
                inside = records.find_in_repository(self._catalog, repository, reference.digest)
                if inside is not None:
                    return inside
        digits = _PREFIX.fullmatch(str(name))
        found = records.find_by_id(self._catalog, f"sha256:{digits[1]}") if digits else ()
        if len(found) > 1 and len({one.id for one in records.load(self._catalog, found)}) > 1:
            raise Conflict(f"cannot choose image {name}: {len(found)} digests begin so")
        if not found:
            raise ImageNotFound(
                f"cannot find image {name}: it is not in this root", hint="pull it first"
            )
        return found[0]

    def _fitting(self, name: str | Reference, platform: str | Platform | None) -> Image:
        """Return the image that *name* means on a platform; None: this host's.

        Without a platform an image is taken as it is, unless it was chosen from an index.

        Raises:
            ImageNotFound: it is not here, or for other platforms only.
        """
        from containerkit.model.platform import Platform

        found = self.get(name)
        reference = _reference_or_none(name)
        known = None if reference is None else records.find_name(self._catalog, str(reference))
        chosen = (
            known is not None
            and reference is not None
            and known.image not in (known.source, reference.digest)
        )
        if platform is None and not chosen:
            return found
        wanted = Platform.host() if platform is None else _platform(platform)
        if wanted.matches(found.platform):
            return found
        if chosen and known is not None and reference is not None:
            variants = records.find_variants(self._catalog, reference.name, known.source)
            for digest, offered in variants:
                if wanted.matches(offered):
                    return self._load(digest, str(name))
        raise ImageNotFound(
            f"cannot find image {name} for {wanted}: it is in this root for {found.platform}",
            hint=f'pull it with platform="{wanted}", or start it with platform="{found.platform}"',
        )

    def _load(self, digest: Digest, name: str) -> Image:
        found = records.load(self._catalog, [digest])
        if not found:
            raise ImageNotFound(f"cannot find image {name}: it was removed meanwhile")
        return Image(self, found[0])

    def _read_config(self, digest: Digest) -> ImageConfig:
        data = self._content.read(digest, DOCUMENT_MAX)
        return ImageConfig.parse(data, limit=DOCUMENT_MAX, layers=LAYERS_MAX)

    def _restore(self, image: Image) -> None:
        missing = set(image._chain_ids) - self._snapshots.usable(image._chain_ids)
        if missing:
            from containerkit.images.layer import Store, restore_layer

            self._load(Digest.parse(image.digest), image.id)
            store = Store(self._content, self._snapshots)
            for layer in image._record.layers:
                if layer.chain_id in missing:
                    restore_layer(layer, store)

    def _source(
        self,
        reference: Reference,
        mirrors: Sequence[str],
        cancelled: threading.Event,
        **options: Any,
    ) -> Source:
        from containerkit.images.source import Source

        # By process: a forked child must not speak on its parent's connections.
        client = self._clients.get(os.getpid())
        if client is None:
            client = self._clients.setdefault(os.getpid(), self._make_client())
        if not mirrors and reference.registry == "docker.io":
            mirrors = self._mirrors
        return Source(client, reference, mirrors=mirrors, options=options, cancelled=cancelled)


def _reference(text: str | Reference) -> Reference:
    return text if isinstance(text, Reference) else Reference.parse(text)


def _reference_or_none(text: str | Reference) -> Reference | None:
    try:
        return _reference(text)
    except InvalidReference:
        return None


def _platform(text: str | Platform) -> Platform:
    from containerkit.model.platform import Platform

    return text if isinstance(text, Platform) else Platform.parse(text)

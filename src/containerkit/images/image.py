"""One image that is here: what its manifest and config say, and what can be done with it.

Owns: the handle.  Must not: query the catalog or touch files; the collection does.
Neighbours: `images.images` makes them, `launch` reads ``config`` and ``rootfs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from containerkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from containerkit.images.images import Images
    from containerkit.images.records import ImageRecord
    from containerkit.model.digest import Digest
    from containerkit.model.image_config import HistoryEntry, ImageConfig
    from containerkit.model.platform import Platform
    from containerkit.model.reference import Reference
    from containerkit.model.rootfs import Rootfs


class Layer(NamedTuple):
    """One layer of an image.

    Attributes:
        digest: of the bytes as stored and transferred.
        diff_id: of the uncompressed tar.
        chain_id: of the stack up to and with this layer.
        media_type: how the stored bytes are to be read.
        size: of the stored bytes.

    Spec: image-spec config.md, Layer DiffID and Layer ChainID.
    """

    digest: str
    diff_id: str
    chain_id: str
    media_type: str
    size: int


class Image:
    """An image in this root.

    Equal when root and manifest digest are.  What it says was true when it was got: names may have
    moved since; manifest, config and layers can not change.

    Attributes:
        id: config digest, "sha256:…".
        digest: manifest digest, "sha256:…".
        references: canonical names, sorted.
        size: bytes of manifest, config and layers as stored.
        layers: lowest first.
    """

    __slots__ = (
        "_chain_ids",
        "_config",
        "_images",
        "_mounts",
        "_record",
        "digest",
        "id",
        "layers",
        "references",
        "size",
    )

    def __init__(self, images: Images, record: ImageRecord) -> None:
        self._images = images
        self._record = record
        self._config: ImageConfig | None = None
        self._mounts: Rootfs | None = None
        self.id = str(record.id)
        self.digest = str(record.digest)
        self.references = record.references
        self.size = record.size
        self._chain_ids: tuple[Digest, ...] = tuple(layer.chain_id for layer in record.layers)
        self.layers = tuple(
            Layer(str(one.digest), str(one.diff_id), str(one.chain_id), one.media_type, one.size)
            for one in record.layers
        )

    @property
    def config(self) -> ImageConfig:
        """What the image says of the process to start; read once, verified.

        Raises:
            BlobNotFound: the image was removed meanwhile.
            CorruptContent: the disk changed it.
        """
        if self._config is None:
            self._config = self._images._read_config(self._record.id)
        return self._config

    @property
    def _rootfs(self) -> Rootfs:
        """The layers as mounts; usable while a lease on them is held."""
        if self._mounts is None:
            self._mounts = self._images._snapshots.rootfs(self._chain_ids)
        return self._mounts

    @property
    def pinned(self) -> str:
        """A name that means exactly this image for ever: "registry/repository@sha256:…".

        Raises:
            ConfigError: the image has no name that a registry would know.
        """
        if not self.references:
            raise ConfigError(
                f"cannot pin image {self.id}: it has no name", hint="give it one with tag()"
            )
        repository = self.references[0].partition("@")[0]
        # After the last slash a colon begins the tag; before it, a port.
        head, slash, last = repository.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}@{self.digest}"

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        from containerkit.model.platform import Platform

        return Platform.parse(self._record.platform)

    @property
    def created(self) -> datetime | None:
        """When the image was made, if it says so."""
        return self.config.created

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """How the layers came to be, lowest first."""
        return self.config.history

    def tag(self, reference: str | Reference) -> Image:
        """Give the image another name, taking it from whatever has it; return it so named."""
        named = self._images.tag(self, reference)
        self._tell("tag", str(reference))
        return named

    def untag(self, reference: str | Reference) -> None:
        """Take a name away; the image stays, even without any.

        Raises:
            ImageNotFound: it is not a name of this image.
        """
        self._images.untag(self, reference)
        self._tell("untag", str(reference))

    def remove(self, *, force: bool = False) -> None:
        """Remove the image; see ``Images.remove``."""
        self._images.remove(self, force=force)

    def _tell(self, kind: str, reference: str | None = None) -> None:
        """Append an event about this image, under one of its names, to those of its root."""
        from containerkit.model.reference import Reference
        from containerkit.state import events

        known = self.digest if reference is None else str(Reference.parse(reference))
        events.append(self._images._root.path, kind, self.id, image=known)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return (self._images._root.path, self.digest) == (other._images._root.path, other.digest)

    def __hash__(self) -> int:
        return hash((self._images._root.path, self.digest))

    def __reduce__(self) -> tuple[Callable[[str, str], Image] | None, tuple[str, str]]:
        return self._images._reopen, (str(self._images._root.path), self.digest)

    def __repr__(self) -> str:
        name = self.references[0] if self.references else "no name"
        return f"<Image {name} {self.id[:19]}>"

    def _row_of_table(self) -> dict[str, object]:
        from containerkit.model.usage import size_text

        return {
            "names": ", ".join(self.references) or None,
            "id": self.id[:19],
            "platform": self.platform,
            "layers": len(self.layers),
            "size": size_text(self.size),
        }

    def _repr_html_(self) -> str:
        from containerkit.model import html

        rows = self._row_of_table() | {"id": self.id, "digest": self.digest}
        return html.facts(rows.items(), title="Image")

"""Descriptors: how one document points at the bytes of another, and the media types they use.

Owns: `Descriptor`, the media types containerkit reads.  Must not: fetch or follow.
Flow: `manifest` makes them, `registry` fetches what they name, `content` verifies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import attrs

from containerkit.errors import InvalidSpec, UnsupportedMediaType
from containerkit.model.digest import Digest
from containerkit.model.document import MAX_INTEGER, as_texts, copied
from containerkit.model.platform import Platform

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_SCHEMA_1: Final = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

INDEX_TYPES: Final = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIG_TYPES: Final = (OCI_CONFIG, DOCKER_CONFIG)

Compression = Literal["none", "gzip", "zstd"]
_COMPRESSIONS: Final[dict[str, Compression]] = {
    OCI_LAYER: "none",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    DOCKER_LAYER: "none",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
}
# Their content lies at URLs that the image's author chose, beyond the registry.
_FOREIGN_PREFIXES = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


@attrs.frozen
class Descriptor:
    """What some bytes are, their digest and their number.

    Args:
        media_type: says how to read them.
        size: bytes, at least 0.
        urls: other places of the content; kept, never fetched.
        annotations: free text by name.
        platform: in an index, what the content runs on.

    Raises:
        InvalidSpec: the size is out of range.

    Spec: image-spec descriptor.md, Properties.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = attrs.field(default=(), converter=as_texts)
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=copied, hash=False)
    platform: Platform | None = None

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.size <= MAX_INTEGER:
            raise InvalidSpec(f"cannot describe {self.digest}: {self.size} is not a size")


def layer_compression(media_type: str) -> Compression:
    """Return how a layer of *media_type* is compressed.

    Raises:
        UnsupportedMediaType: not a layer that containerkit reads.

    Spec: image-spec layer.md, media types.
    """
    compression = _COMPRESSIONS.get(media_type)
    if compression is not None:
        return compression
    if media_type.startswith(_FOREIGN_PREFIXES):
        raise unsupported(
            "layer",
            media_type,
            "its content is not in the registry but at an address the image names;"
            " containerkit does not fetch those",
        )
    raise unsupported(
        "layer", media_type, "layers are tar, uncompressed or compressed with gzip or zstd"
    )


def check_media_type(what: str, media_type: str, known: Iterable[str], hint: str) -> None:
    """Raise UnsupportedMediaType unless *media_type* is one of *known*."""
    if media_type not in known:
        raise unsupported(what, media_type, hint)


def unsupported(what: str, media_type: str, hint: str) -> UnsupportedMediaType:
    """Return the error for a thing whose media type containerkit does not read."""
    return UnsupportedMediaType(
        f"cannot read {what}: media type {media_type[:120]!a} is not supported",
        hint=hint,
        media_type=media_type,
    )

"""Manifests and indexes: what an image consists of, and which image of several to take.

Owns: parsing (OCI image-spec 1.1 and Docker schema 2), what is refused, the choice by platform.
Must not: fetch, nor check that the bytes have the digest they were asked by (`registry` does).
Flow: `registry` gives the bytes, `images/pull` walks index → manifest → config and layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from containerkit.errors import LIMIT_HINT, ConfigError, ImageNotFound
from containerkit.model.descriptor import (
    CONFIG_TYPES,
    DOCKER_SCHEMA_1,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    check_media_type,
    layer_compression,
    unsupported,
)
from containerkit.model.document import Fields, copied, load
from containerkit.model.image_limits import MANIFEST_BYTES, ImageLimits
from containerkit.model.platform import Platform

MAX_MANIFEST_SIZE: Final = MANIFEST_BYTES
MAX_INDEX_ENTRIES: Final = 2048
MAX_ANNOTATIONS: Final = 4096
MAX_URLS: Final = 32

_MEMBERS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers")
_SCHEMA_1_HINT = (
    "Docker image manifest schema 1 is obsolete; push the image again with a current tool,"
    " e.g. skopeo copy"
)


@attrs.frozen
class Manifest:
    """One image: its config and its layers, lowest first.

    Spec: image-spec manifest.md; Docker Image Manifest V 2, Schema 2.
    """

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=copied, hash=False)

    @property
    def size(self) -> int:
        """Bytes of the config and of the layers as stored."""
        return self.config.size + sum(layer.size for layer in self.layers)


@attrs.frozen
class Index:
    """Several images under one name, told apart by platform.

    Spec: image-spec image-index.md; Docker manifest list.
    """

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=copied, hash=False)

    def select(self, platform: Platform, *, of: str = "the index") -> Descriptor:
        """Return the manifest that fits *platform* best: exact, else the newest older variant.

        Entries without a platform are taken only when the index has nothing else.  Among equals
        the first wins, as the specification asks.

        Args:
            platform: what the image shall run on.
            of: how the message names the index, e.g. the reference.

        Raises:
            ImageNotFound: none fits; the message lists the platforms there are.
        """
        best: tuple[int, Descriptor] | None = None
        images = [one for one in self.manifests if one.media_type in MANIFEST_TYPES + INDEX_TYPES]
        for entry in images:
            distance = None if entry.platform is None else platform.distance(entry.platform)
            if distance is not None and (best is None or distance < best[0]):
                best = distance, entry
        if best is not None:
            return best[1]
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        there = sorted({str(one.platform) for one in images if one.platform is not None})
        there = [name for name in there if not name.startswith("unknown/")]
        raise ImageNotFound(
            f"cannot find {platform} in {of}: it has {', '.join(there[:40]) or 'no platforms'}",
            hint="ask for one of these with platform=" if there else None,
        )


def parse_manifest(
    data: bytes, media_type: str | None, *, limits: ImageLimits | None = None
) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        data: the document.
        media_type: what the transport or the descriptor called it; None when it said nothing.
            Parameters (``; charset=…``) are ignored, and so are generic types (JSON, text).

        limits: None: the usual ones.

    Raises:
        InvalidSpec: malformed, ambiguous or beyond a limit; or the document calls itself another
            type than *media_type*.
        UnsupportedMediaType: schema 1, an artifact that is not an image, a layer compressed in
            another way, or one whose content lies outside of the registry.

    Spec: image-spec manifest.md, image-index.md; CVE-2021-41190 for the ambiguities.
    """
    limits = limits or ImageLimits()
    fields = load(data, what="manifest", limit=limits.manifest)
    fields.refuse_lookalikes(*_MEMBERS)
    kind = _kind(fields, _known_type(media_type))
    annotations = fields.text_map("annotations", most=MAX_ANNOTATIONS)
    if kind in INDEX_TYPES:
        entries = fields.objects("manifests", most=MAX_INDEX_ENTRIES)
        return Index(kind, tuple(_descriptor(entry) for entry in entries), annotations)
    config_fields = fields.member("config")
    if config_fields is None:
        fields.refuse("config is missing")
    config = _descriptor(config_fields)
    check_media_type(
        "config", config.media_type, CONFIG_TYPES, "the manifest is of an artifact, not of an image"
    )
    if config.size > limits.config:
        fields.refuse(f"its config has {config.size} bytes, more than {limits.config}")
    layers = tuple(_descriptor(entry) for entry in fields.objects("layers", most=limits.layers))
    stored = sum(layer.size for layer in layers)
    if stored > limits.stored:
        fields.refuse(f"its layers have {stored} bytes, more than {limits.stored}", hint=LIMIT_HINT)
    for layer in layers:
        layer_compression(layer.media_type)
    return Manifest(kind, config, layers, annotations)


def _known_type(media_type: str | None) -> str | None:
    """Return *media_type* bare when it says something, None when it is generic."""
    bare = (media_type or "").partition(";")[0].strip().lower()
    generic = ("", "application/json", "text/plain", "application/octet-stream", "text/json")
    return None if bare in generic else bare


def _kind(fields: Fields, announced: str | None) -> str:
    """Return the one media type that the transport, the document and its members agree on."""
    if announced in DOCKER_SCHEMA_1 or "fsLayers" in fields or _is_schema_1(fields):
        raise unsupported("manifest", announced or DOCKER_SCHEMA_1[0], _SCHEMA_1_HINT)
    if fields.integer("schemaVersion") not in (2, None):
        fields.refuse("schemaVersion is not 2")
    has_images, has_layers = "manifests" in fields, "layers" in fields or "config" in fields
    if has_images and has_layers:
        fields.refuse("it is a manifest and an index at once")
    own = fields.text("mediaType", limit=256)
    if own is not None and announced is not None and own != announced:
        fields.refuse(f"it calls itself {own!a} but was given as {announced!a}")
    kind = own or announced or (OCI_INDEX if has_images else OCI_MANIFEST)
    check_media_type(
        "manifest",
        kind,
        MANIFEST_TYPES + INDEX_TYPES,
        "containerkit reads OCI and Docker schema 2 manifests",
    )
    if (kind in INDEX_TYPES) != has_images:
        fields.refuse(f"its members are not those of {kind!a}")
    return kind


def _is_schema_1(fields: Fields) -> bool:
    return fields.integer("schemaVersion") == 1


def _descriptor(fields: Fields) -> Descriptor:
    media_type = fields.text("mediaType", limit=256)
    size = fields.integer("size")
    if not media_type or size is None:
        fields.refuse("mediaType or size is missing")
    return Descriptor(
        media_type=media_type,
        digest=fields.digest("digest"),
        size=size,
        urls=fields.texts("urls", most=MAX_URLS, limit=4096),
        annotations=fields.text_map("annotations", most=MAX_ANNOTATIONS),
        platform=_platform(fields.member("platform")),
    )


def _platform(fields: Fields | None) -> Platform | None:
    if fields is None:
        return None
    system, architecture = fields.text("os", limit=64), fields.text("architecture", limit=64)
    if not system or not architecture:
        return None
    try:
        return Platform(system, architecture, fields.text("variant", limit=64) or None)
    except ConfigError as error:
        fields.refuse(error.message)

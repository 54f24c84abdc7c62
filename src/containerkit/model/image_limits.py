"""How much an image may declare, and how much it may expand to.

Owns the value `ImageLimits`.  Must not measure: `images.pull` and the parsers do, and `layers` while
it unpacks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from containerkit.errors import ConfigError
from containerkit.model.image_config import DOCUMENT_MAX, LAYERS_MAX, MAX_CONFIG_SIZE, MAX_LAYERS

MANIFEST_BYTES: Final = 4 << 20
ZSTD_WINDOW: Final = 128 << 20
"""Bytes of history a zstd frame may ask for: what `zstd -d` and other engines accept."""


class _Range(NamedTuple):
    least: int
    most: int


_MOST: Final = (1 << 63) - 1
_RANGES: Final = {
    "manifest": _Range(1024, DOCUMENT_MAX),
    "config": _Range(1024, DOCUMENT_MAX),
    "layers": _Range(0, LAYERS_MAX),
    "stored": _Range(0, _MOST),
    "size": _Range(0, _MOST),
    "entries": _Range(0, _MOST),
    "ratio": _Range(1, _MOST),
    "ratio_free": _Range(0, _MOST),
    "depth": _Range(1, 256),  # ck_apply.c holds a descriptor of each
    "xattrs": _Range(0, 1 << 30),
    "header": _Range(512, 1 << 30),
    "window": _Range(1 << 10, 1 << 31),
}
_COUNTS: Final = ("layers", "entries", "ratio", "depth")


def _size(value: int | str) -> int:
    if not isinstance(value, str):
        return value
    from containerkit.model.limits import parse_size

    return parse_size(value, what="image limit")


@attrs.frozen(kw_only=True)
class ImageLimits:
    """What an image is allowed to be; one that is more is refused, and nothing of it is kept.

    Sizes are an int of bytes, or a text as "64m" or "1GiB".  What no image needs has no setting:
    a path or a link's text has at most 4095 bytes, an id is below 2**32 - 1, and of the passwd and
    group files 1 MiB is read.

    Args:
        manifest: bytes of a manifest or an index.
        config: bytes of a config.
        layers: how many there may be.
        stored: bytes of the layers together, as they are stored and downloaded.
        size: bytes of the files of all layers together, holes included.
        entries: files, directories, links and whiteouts of all layers together.
        ratio: how many times its stored bytes a layer may unpack to.
        ratio_free: bytes that each layer may unpack to whatever their ratio.
        depth: directories below each other.
        xattrs: bytes of the names and values of one entry's extended attributes.
        header: bytes of one extended header of a layer's archive.
        window: bytes of history that a zstd frame may ask for; two of them may be in memory.

    Raises:
        ConfigError: a limit that is no number, or out of range.
    """

    manifest: int = attrs.field(default=MANIFEST_BYTES, converter=_size)
    config: int = attrs.field(default=MAX_CONFIG_SIZE, converter=_size)
    layers: int = MAX_LAYERS
    stored: int = attrs.field(default=64 << 30, converter=_size)
    size: int = attrs.field(default=64 << 30, converter=_size)
    entries: int = 2_000_000
    ratio: int = 250
    ratio_free: int = attrs.field(default=10 << 30, converter=_size)
    depth: int = 256
    xattrs: int = attrs.field(default=1 << 20, converter=_size)
    header: int = attrs.field(default=1 << 20, converter=_size)
    window: int = attrs.field(default=ZSTD_WINDOW, converter=_size)

    def __attrs_post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value: object = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(
                    f"image limit {name}: {value!r} is not a whole number from {least} to {most}",
                    hint=None if name in _COUNTS else 'bytes, or as "64m" or "1GiB"',
                )


def widest() -> ImageLimits:
    """Return limits for what was found to be within some, once: it is verified, and here."""
    return ImageLimits(**{name: most for name, (_, most) in _RANGES.items()})

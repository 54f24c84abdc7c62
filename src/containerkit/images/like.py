"""What is taken for an image, as a type.

Owns `ImageLike`.  Must not: look anything up.
"""

from __future__ import annotations

from containerkit.images.host import HostImage
from containerkit.images.image import Image

ImageLike = str | Image | HostImage | None
"""A reference, an image, or None for the host's own programs and the running Python."""

"""What is taken for an image in the asyncio face, as a type.

Owns `ImageLike`.  Must not: look anything up.
"""

from __future__ import annotations

from containerkit.aio.images import Image
from containerkit.images import image as blocking
from containerkit.images.host import HostImage

ImageLike = str | Image | blocking.Image | HostImage | None
"""A reference, an image of either face, or None for the host's own programs and the running Python."""

"""The worker's side: a picture in, a small JPEG out.

``cbw worker --handler thumbnail=thumbnails:thumbnail``
"""

from __future__ import annotations

import re
from io import BytesIO

from PIL import Image, ImageOps

SIZE = 256
SIZE_MAX = 4096
QUALITY = 85


class NotAPicture(ValueError):
    """The body is no picture that Pillow can read to its end."""


def thumbnail(body: bytes) -> bytes:
    """A JPEG of the picture in ``body``, no wider or higher than 256 pixels.

    A first line of digits asks for another size: ``b"128\\n" + picture``. (No picture begins like that.)
    """
    asked = re.match(rb"(\d{1,4})\n", body)
    size = int(asked[1]) if asked else SIZE
    if not 1 <= size <= SIZE_MAX:
        raise ValueError(f"a size of {size}; 1 to {SIZE_MAX} are possible")
    try:
        with Image.open(BytesIO(body[asked.end() :] if asked else body)) as picture:
            picture.draft("RGB", (size, size))  # a JPEG is decoded no larger than needed
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((size, size))
            small = _on_white(upright)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NotAPicture(str(error)) from error
    out = BytesIO()
    small.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    """JPEG has no transparency."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")

"""Pictures to try it with: ``python sample_pictures.py FOLDER [COUNT]``. The last one is cut off in the middle."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

SIZE = (1600, 1200)


def make(folder: Path, count: int) -> None:
    """``count`` pictures, in turn PNG and JPEG, and ``broken.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    gradient = Image.radial_gradient("L").resize(SIZE)
    for number in range(1, count + 1):
        layers = [ImageChops.offset(gradient, number * step, 0) for step in (40, 110, 270)]
        picture = Image.merge("RGB", layers)
        ImageDraw.Draw(picture).text((100, 100), str(number), "white", font_size=400)
        picture.save(folder / f"picture-{number:03}.{'png' if number % 2 else 'jpg'}", compress_level=1)
    whole = (folder / "picture-001.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)

"""The client's side: thumbnails of a folder of pictures, made by however many workers there are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cbw

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
WINDOW = 32
"""Pictures on their way at once: enough for many workers, few enough for the memory."""


def main() -> int:
    """Make them; 1 if any could not be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with pictures")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the thumbnails go, as <name>.jpg")
    parser.add_argument("--broker", metavar="HOST:PORT", help="default: BROKER_HOST and BROKER_PORT, or this machine")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="longer side (default: 256)")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    paths = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    options.out.mkdir(parents=True, exist_ok=True)
    errors = Console(stderr=True, highlight=False)
    failed = 0
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with cbw.Client(options.broker, timeout=300) as client, Progress(*bar, console=errors) as progress:
        task = progress.add_task("thumbnails", total=len(paths))
        bodies = read(paths, options.size)
        for position, answer in client.map(bodies, "thumbnail", window=WINDOW, is_ordered=False, return_errors=True):
            path = paths[position]
            if isinstance(answer, Exception):
                failed += 1
                errors.print(f"{path.name}: {answer}", markup=False)
            else:
                (options.out / f"{path.name}.jpg").write_bytes(answer)
            progress.advance(task)
    print(f"{len(paths) - failed} thumbnails in {options.out}, {failed} failed")
    return 1 if failed else 0


def read(paths: list[Path], size: int) -> Iterator[bytes]:
    """The request for each picture, read when its turn comes."""
    for path in paths:
        yield b"%d\n" % size + path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())

"""``examples/thumbnails`` with real processes: every picture has its thumbnail, also when a worker is killed meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from examples.thumbnails import sample_pictures, thumbnails
from PIL import Image

from cbw.observe.trace import read

EXAMPLE = Path(sample_pictures.__file__).parent
PATIENCE_S = 30.0
COUNT = 40


class ExampleSystem:
    """A broker, and workers as they are started."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("CBW_", "BROKER_", "LOGGER_"))
        } | {"CBW_STATUS_PORT": "0"}
        self._processes: list[subprocess.Popen[str]] = []
        self.trace = folder / "broker.jsonl"
        broker = self.start("-m", "cbw", "broker", "0", "0", "--trace", str(self.trace))
        assert broker.stdout is not None
        line = broker.stdout.readline()
        found = re.search(r"clients on port (\d+), workers on port (\d+)", line)
        assert found, line
        self.client_port, self.worker_port = found.groups()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=EXAMPLE,
            env=self._environment,
        )
        self._processes.append(process)
        return process

    def worker(self, name: str) -> subprocess.Popen[str]:
        handler = "thumbnail=thumbnails:thumbnail"
        return self.start("-m", "cbw", "worker", name, "127.0.0.1", self.worker_port, "--handler", handler)

    def make_thumbnails(self, pictures: Path, out: Path, *options: str) -> subprocess.Popen[str]:
        broker = f"127.0.0.1:{self.client_port}"
        return self.start("make_thumbnails.py", str(pictures), str(out), "--broker", broker, *options)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ExampleSystem]:
    one = ExampleSystem(tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, the last of which is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    sample_pictures.make(folder, COUNT)
    return folder


def output_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    return output


def sizes_in(folder: Path) -> dict[str, tuple[int, int]]:
    sizes = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            picture.load()
            sizes[path.name] = picture.size
    return sizes


def test_every_picture_has_its_thumbnail_and_the_broken_one_a_clear_error(
    system: ExampleSystem, pictures: Path, tmp_path: Path
) -> None:
    system.worker("W1")
    program = system.make_thumbnails(pictures, tmp_path / "out", "--size", "64")
    output = output_of(program)
    assert program.returncode == 1, output
    assert "broken.png: NotAPicture: " in output
    assert f"{COUNT} thumbnails in {tmp_path / 'out'}, 1 failed" in output
    whole = [path.name for path in pictures.iterdir() if path.name != "broken.png"]
    assert sizes_in(tmp_path / "out") == {f"{name}.jpg": (64, 48) for name in whole}


def test_a_worker_killed_in_the_middle_loses_nothing(system: ExampleSystem, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    victim = system.worker("W1")
    program = system.make_thumbnails(pictures, out)
    deadline = time.monotonic() + PATIENCE_S
    while not (out.is_dir() and any(out.iterdir())):  # so it is at work, and more waits in its hand
        assert time.monotonic() < deadline
        time.sleep(0.002)
    victim.kill()
    system.worker("W2")
    output = output_of(program)
    assert f"{COUNT} thumbnails in {out}, 1 failed" in output
    assert len(sizes_in(out)) == COUNT
    failed = [record.request for record in read(str(system.trace)) if record.event == "attempt_failed"]
    assert failed, "the worker was killed, but not in the middle of anything"
    answers = [record.request for record in read(str(system.trace)) if record.event == "answered"]
    assert len(answers) == len(set(answers)) == COUNT


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("P", "GIF"), ("L", "PNG"), ("CMYK", "JPEG"), ("1", "TIFF")]
)
def test_every_kind_of_picture_becomes_a_jpeg(mode: str, kind: str) -> None:
    body = BytesIO()
    Image.new(mode, (300, 100)).save(body, kind)
    with Image.open(BytesIO(thumbnails.thumbnail(body.getvalue()))) as small:
        assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (256, 85))


def test_what_is_transparent_becomes_white() -> None:
    body = BytesIO()
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(body, "PNG")
    with Image.open(BytesIO(thumbnails.thumbnail(body.getvalue()))) as small:
        assert small.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("body", [b"", b"hello", b"128\n", b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_picture_is_called_so(body: bytes) -> None:
    with pytest.raises(thumbnails.NotAPicture):
        thumbnails.thumbnail(body)


@pytest.mark.parametrize("size", [0, 9999])
def test_a_size_out_of_bounds(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 4096"):
        thumbnails.thumbnail(b"%d\n" % size)

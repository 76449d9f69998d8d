"""Reading a log of 1 GB: searched, the story of a request, figures, and judged in bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cbw.core.events import Record

LOG_BYTES = 1_000_000_000
"""``python -m benchmarks.logs BYTES`` takes another."""
START = 1_700_000_000.0
RATE = 2000
"""Requests a second in the log; their records are in the order in which the batches of such a system arrive."""


def write(path: Path, size: int) -> int:
    """A log of about ``size`` bytes, as a broker, four workers and eight clients make it; how many requests it holds."""
    encode = msgspec.json.Encoder().encode_lines
    number = written = 0
    with path.open("wb") as file:
        while written < size:
            batch: list[list[Record]] = [[], [], []]
            for number in range(number + 1, number + 501):  # noqa: B020 - goes on where the last batch ended
                for records, record in zip(batch, _life(number), strict=True):
                    records += record
            data = b"".join(map(encode, batch))
            written += len(data)
            file.write(data)
    return number


def _life(number: int) -> tuple[list[Record], list[Record], list[Record]]:
    """Of client, broker and worker."""
    at = START + number / RATE
    client, worker = f"CLI_{number % 8}", f"WOR_{number % 4}"
    request, task, boot = f"{client}/{number}", (number + 1) << 40, "acf0d8671698fc58"
    broker = ("broker", "BRO_host", request, client, "echo")
    ours = ("worker", worker, request, "", "echo", worker, task)
    text = f"{client}-{number}"
    return (
        [
            Record(at, "sent", "client", client, request, client, "echo", text=text, boot=boot, seq=2 * number - 1),
            Record(at + 0.01, "got", "client", client, request, client, "echo", text=text, boot=boot, seq=2 * number),
        ],
        [
            Record(at + 0.001, "accepted", *broker, boot=boot, seq=3 * number - 2),
            Record(at + 0.002, "handed_out", *broker, worker, task, 1, boot=boot, seq=3 * number - 1),
            Record(at + 0.009, "answered", *broker, worker, task, 1, boot=boot, seq=3 * number),
        ],
        [
            Record(at + 0.003, "begun", *ours, boot=boot, seq=2 * number - 1),
            Record(at + 0.008, "done", *ours, boot=boot, seq=2 * number),
        ],
    )


def timed(*arguments: str) -> float:
    """Seconds that the program takes, all of it; the best of three, of which the first brings the file into memory."""
    best = float("inf")
    for _ in range(3):
        began_at = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cbw", *arguments], stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - began_at)
    return best


def grep(word: str, path: Path) -> float:
    """The same of grep."""
    best = float("inf")
    for _ in range(3):
        began_at = time.perf_counter()
        subprocess.run(["grep", "-F", word, path], stdout=subprocess.DEVNULL, check=False)
        best = min(best, time.perf_counter() - began_at)
    return best


def rows(size: int = LOG_BYTES) -> Iterator[tuple[str, str, str, str]]:
    """Speed where the whole log is read, seconds where it is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs"
        count = write(path, size)
        total = path.stat().st_size
        file = str(path)
        middle, late = f"CLI_{count // 2 % 8}/{count // 2}", f"CLI_{(count - 5000) % 8}/{count - 5000}"

        def speed(name: str, seconds: float, peer: float) -> tuple[str, str, str, str]:
            figures = f"{total / seconds / 1e6:,.0f} MB/s", f"grep -F: {total / peer / 1e6:,.0f} MB/s"
            return (f"log of {total / 1e9:.1f} GB, {name}", *figures, f"{peer / seconds:.2f}")

        yield speed("a word", timed("logs", file, "--grep", "no such word"), grep("no such word", path))
        literal = f'"request":"{middle}"'
        yield speed("--request", timed("logs", file, "--request", middle, "--json"), grep(literal, path))
        since = str(time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(START + count / RATE - 120)))
        for name, arguments in (
            (
                "--event worker_lost --since, its last two minutes",
                ("logs", file, "--event", "worker_lost", "--since", since),
            ),
            ("the last 10 lines", ("logs", file, "-n", "10")),
            ("story of a recent request", ("logs", "story", late, file)),
            ("story of one in the middle", ("logs", "story", middle, file)),
        ):
            yield f"log, {name}", f"{timed(*arguments):.2f} s", f"cbw --version: {timed('--version'):.2f} s", ""
        for name, whole in (("stats", ["logs", "stats", file]), ("verify --trace", ["verify", "--trace", file])):
            seconds, memory = once(*whole)
            figures = f"{count * 7 / seconds:,.0f} records/s, {memory / 1e6:.0f} MB of memory"
            yield f"log of {count * 7 / 1e6:.1f} M records, {name}", figures, "", ""


def once(*arguments: str) -> tuple[float, int]:
    """Seconds and bytes of memory that the program takes; it is the largest so far, so put the hungriest last."""
    began_at = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cbw", *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_at, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


if __name__ == "__main__":
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else LOG_BYTES):
        print(*row, sep=" | ", flush=True)

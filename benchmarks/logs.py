"""Reading a log of 1 GB: searched, the story of a request, figures, and judged in bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.figure import Row, fastest_s, print_rows
from cbw.core import catalogue
from cbw.core.record import Record

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
    text = f"{client}-{number}"
    of_client = partial(
        Record, role="client", sender=client, request=request, client=client, service="echo", text=text, boot=boot
    )
    of_broker = partial(
        Record, role="broker", sender="BRO_host", request=request, client=client, service="echo", boot=boot
    )
    of_worker = partial(
        Record,
        role="worker",
        sender=worker,
        request=request,
        service="echo",
        worker=worker,
        task=task,
        boot=boot,
    )
    return (
        [of_client(at, catalogue.SENT, seq=2 * number - 1), of_client(at + 0.01, catalogue.GOT, seq=2 * number)],
        [
            of_broker(at + 0.001, catalogue.ACCEPTED, seq=3 * number - 2),
            of_broker(at + 0.002, catalogue.HANDED_OUT, worker=worker, task=task, attempt=1, seq=3 * number - 1),
            of_broker(at + 0.009, catalogue.ANSWERED, worker=worker, task=task, attempt=1, seq=3 * number),
        ],
        [
            of_worker(at + 0.003, catalogue.BEGUN, seq=2 * number - 1),
            of_worker(at + 0.008, catalogue.DONE, seq=2 * number),
        ],
    )


def timed(*arguments: str) -> float:
    """Seconds that ``cbw`` takes with these arguments, from its start to its end."""
    return _timed([sys.executable, "-m", "cbw", *arguments], exit_codes=[0])


def grep(word: str, path: Path) -> float:
    """Seconds that grep takes to look for ``word``, which it may find or not."""
    return _timed(["grep", "-F", word, str(path)], exit_codes=[0, 1])


def _timed(command: list[str], exit_codes: list[int]) -> float:
    """The best of three tries, of which the first brings the file into memory."""

    def run() -> None:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        assert code in exit_codes, f"exit code {code}: {' '.join(command)}"

    return fastest_s(run, 3)


def rows(size: int = LOG_BYTES) -> Iterator[Row]:
    """Speed where the whole log is read, seconds where it is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs"
        count = write(path, size)
        total = path.stat().st_size
        file = str(path)
        middle, late = f"CLI_{count // 2 % 8}/{count // 2}", f"CLI_{(count - 5000) % 8}/{count - 5000}"

        def speed(name: str, seconds: float, peer: float) -> Row:
            figures = f"{total / seconds / 1e6:,.0f} MB/s", f"grep -F: {total / peer / 1e6:,.0f} MB/s"
            return Row(f"log of {total / 1e9:.1f} GB, {name}", *figures, f"{peer / seconds:.2f}")

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
            yield Row(f"log, {name}", f"{timed(*arguments):.2f} s", f"cbw --version: {timed('--version'):.2f} s")
        for name, whole in (("stats", ["logs", "stats", file]), ("verify --trace", ["verify", "--trace", file])):
            seconds, memory = once(*whole)
            figures = f"{count * 7 / seconds:,.0f} records/s, {memory / 1e6:.0f} MB of memory"
            yield Row(f"log of {count * 7 / 1e6:.1f} M records, {name}", figures)


def once(*arguments: str) -> tuple[float, int]:
    """Seconds and bytes of memory that the program takes; it is the largest so far, so put the hungriest last."""
    began_at = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cbw", *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_at, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


if __name__ == "__main__":
    print_rows(rows(int(sys.argv[1]) if len(sys.argv) > 1 else LOG_BYTES))

"""Logs for tests: lines of a small system, and files of them as the logger leaves them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cbw.core.events import Record

START = 1_700_000_000.0


def line(record: Record) -> bytes:
    """The line of ``record``."""
    return msgspec.json.encode(record) + b"\n"


def life(
    number: int, at: float, *, client: str = "C1", worker: str = "W1", took: float = 0.01, boot: str = "b"
) -> list[Record]:
    """The records of a request that is answered: its first at ``at``, its last ``took`` seconds later."""
    request, step = f"{client}/{number}", took / 6
    return [
        Record(at, "sent", "client", client, request, client, "echo", boot=f"{boot}{client}", seq=2 * number - 1),
        Record(at + step, "accepted", "broker", "BRO", request, client, "echo", boot=f"{boot}BRO", seq=3 * number - 2),
        Record(
            at + 2 * step, "handed_out", "broker", "BRO", request, client, "echo", worker, number, 1,
            boot=f"{boot}BRO", seq=3 * number - 1,
        ),
        Record(
            at + 3 * step, "begun", "worker", worker, request, "", "echo", worker, number,
            boot=f"{boot}{worker}", seq=2 * number - 1,
        ),
        Record(
            at + 4 * step, "done", "worker", worker, request, "", "echo", worker, number,
            boot=f"{boot}{worker}", seq=2 * number,
        ),
        Record(
            at + 5 * step, "answered", "broker", "BRO", request, client, "echo", worker, number, 1,
            boot=f"{boot}BRO", seq=3 * number,
        ),
        Record(at + took, "got", "client", client, request, client, "echo", boot=f"{boot}{client}", seq=2 * number),
    ]  # fmt: skip


def written(path: Path, *files: Sequence[Record | bytes], rotated_at: Iterable[float] = ()) -> Path:
    """The log at ``path``: the last of ``files`` is the current one; of the others all but the newest are compressed."""
    times = list(rotated_at) or [START + 1000.0 * number for number in range(1, len(files))]
    for number, content in enumerate(files):
        data = b"".join(item if isinstance(item, bytes) else line(item) for item in content)
        if number == len(files) - 1:
            path.write_bytes(data)
            continue
        rotated = Path(f"{path}.{datetime.fromtimestamp(times[number], UTC):%Y%m%dT%H%M%S.%f}")
        if number < len(files) - 2:
            Path(f"{rotated}.gz").write_bytes(gzip.compress(data, 1))
        else:
            rotated.write_bytes(data)
    return path

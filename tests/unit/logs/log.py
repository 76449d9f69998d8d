"""Logs for tests: lines of a small system, and files of them as the logger leaves them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from cbw.core import catalogue
from cbw.core.record import Record

START = 1_700_000_000.0


def line(record: Record) -> bytes:
    """The line of ``record``."""
    return msgspec.json.encode(record) + b"\n"


def life(
    number: int, at: float, *, client: str = "C1", worker: str = "W1", took: float = 0.01, boot: str = "b"
) -> list[Record]:
    """The records of a request that is answered: its first at ``at``, its last ``took`` seconds later."""
    request, step = f"{client}/{number}", took / 6
    of_client = partial(
        Record, role="client", sender=client, request=request, client=client, service="echo", boot=f"{boot}{client}"
    )
    of_broker = partial(
        Record, role="broker", sender="BRO", request=request, client=client, service="echo", boot=f"{boot}BRO"
    )
    of_worker = partial(
        Record, role="worker", sender=worker, request=request, service="echo", worker=worker, boot=f"{boot}{worker}"
    )
    return [
        of_client(at, catalogue.SENT, seq=2 * number - 1),
        of_broker(at + step, catalogue.ACCEPTED, seq=3 * number - 2),
        of_broker(at + 2 * step, catalogue.HANDED_OUT, worker=worker, task=number, attempt=1, seq=3 * number - 1),
        of_worker(at + 3 * step, catalogue.BEGUN, task=number, seq=2 * number - 1),
        of_worker(at + 4 * step, catalogue.DONE, task=number, seq=2 * number),
        of_broker(at + 5 * step, catalogue.ANSWERED, worker=worker, task=number, attempt=1, seq=3 * number),
        of_client(at + took, catalogue.GOT, seq=2 * number),
    ]


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

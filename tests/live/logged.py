"""What a test sends to a logger, and what then stands in the log."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.logger.logfile import files_of
from cbw.observe.sender import LogSender

from .conftest import HOST


@contextlib.contextmanager
def sending(port: int, name: str = "S", **options: Any) -> Iterator[LogSender]:
    sender = LogSender(name, HOST, port + 1, spool_bytes=options.get("spool_bytes", 64 << 20))
    try:
        yield sender
    finally:
        sender.close()


def records(path: Path) -> list[dict[str, Any]]:
    """All records of the log, rotated files first."""
    lines: list[bytes] = []
    for file in files_of(path):
        data = file.read_bytes()
        lines += (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def sent(path: Path, boot: str) -> list[int]:
    """The numbers of the records of ``boot``, as they stand in the log."""
    return [record["seq"] for record in records(path) if record.get("boot") == boot]


def record(number: int) -> Record:
    return Record(time.time(), catalogue.LOG, role="app", sender="S", request=f"C1/{number}")

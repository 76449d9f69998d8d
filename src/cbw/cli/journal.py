"""``cbw journal``."""

from __future__ import annotations

import base64
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec

from cbw.cli import output
from cbw.core.broker.replay import Replay
from cbw.core.journal_records import TICKET, Batch
from cbw.errors import JournalDamaged
from cbw.journal.backend import Backend
from cbw.journal.places import existing_journal_at
from cbw.journal.writer import RETRY_S, UNKNOWN_S, append_for_certain
from cbw.wire.journal import decode_batch, encode_batch

_DAMAGED_SHOWN = 20
"""Damaged batches that are named; the others are only counted."""
_COMPACT_RECORDS = 1000
"""Records of a batch that a compaction writes."""


@click.group("journal", context_settings={"max_content_width": 110})
def command() -> None:
    """Look into the journal of a broker that does not run: JOURNAL is what was given to cbw broker --journal.

    \b
    cbw journal info /var/lib/cbw
    cbw journal check /var/lib/cbw && cp -a /var/lib/cbw /backup
    """


def _journal(function: Callable[..., None]) -> Callable[..., None]:
    argument = click.argument("where", metavar="JOURNAL")
    return command.command(function.__name__.removesuffix("_command"))(argument(function))


@contextlib.contextmanager
def _opened(where: str) -> Iterator[tuple[Backend, Iterator[tuple[int, bytes]]]]:
    journal = existing_journal_at(where)
    try:
        with contextlib.closing(journal.open()) as batches:
            yield journal, batches
    finally:
        journal.close()


def _read(batches: Iterator[tuple[int, bytes]]) -> Replay:
    replay = Replay()
    for position, data in batches:
        replay.read(position, data)
    return replay


@_journal
@click.option("--json", "is_json", is_flag=True, help="Print it as JSON.")
def info_command(where: str, is_json: bool) -> None:
    """Tell what is in it: requests that wait, run, and are answered, by service; dead letters; and what it takes on the disk."""
    with _opened(where) as (journal, batches):
        replay = _read(batches)
        size = journal.size_bytes
    waiting = Counter(record.service for number, record in replay.accepted.items() if number not in replay.begun)
    running = Counter(replay.accepted[number].service for number in replay.begun)
    delayed = [n for n, delay in replay.delayed.items() if delay.until > replay.at and n not in replay.begun]
    results = sum(stored.asker.dialect == TICKET for stored in replay.answers.values())
    figures: dict[str, Any] = {
        "requests": len(replay.accepted),
        "running": len(replay.begun),
        "delayed": len(delayed),
        "answers": len(replay.answers) - results,
        "results": results,
        "dead_letters": len(replay.dead),
        "workers": len(replay.workers),
        "services": {name: {"waiting": waiting[name], "running": running[name]} for name in sorted(waiting | running)},
        "batches": len(replay.sizes),
        "first_position": replay.sizes[0][0] if replay.sizes else 0,
        "last_position": replay.position,
        "size_bytes": size,
    }
    if is_json:
        output.json(figures)
        return
    output.line(f"requests   {figures['requests']}, {figures['running']} of them with a worker when the broker ended")
    output.line(f"           {figures['delayed']} of them not to be handed out yet")
    for name, counts in figures["services"].items():
        output.line(f"           {counts['waiting'] + counts['running']:>8} {name or '(no service)'}")
    output.line(f"answers    {figures['answers']} that their clients have not acknowledged")
    output.line(f"dead       {figures['dead_letters']} requests that were given up and are kept")
    output.line(f"results    {figures['results']} that are kept under tickets")
    output.line(f"batches    {figures['batches']}, from {figures['first_position']} to {figures['last_position']}")
    output.line(f"on disk    {size / 1e6:.1f} MB")


@_journal
def check_command(where: str) -> None:
    """Read all of it, and compare every checksum. Exit code 1: it is damaged."""
    damaged: list[str] = []
    count = 0
    with _opened(where) as (_, batches):
        for position, data in batches:
            count += 1
            try:
                decode_batch(position, data)
            except JournalDamaged as error:
                damaged.append(str(error))
    for text in damaged[:_DAMAGED_SHOWN]:
        output.line(text, err=True)
    if damaged:
        raise JournalDamaged(
            f"{len(damaged)} of {count} batches are damaged",
            advice=f"Take the journal from a backup, or save what can be read: cbw journal export {where}",
        )
    output.line(f"all {count} batches are as they were written")


@_journal
def compact_command(where: str) -> None:
    """Write what is still needed again, and drop everything else. A running broker does this by itself."""
    with _opened(where) as (journal, batches):
        before = journal.size_bytes
        replay = _read(batches)
        records = list(replay.records())
        first = position = journal.next_position
        for start in range(0, len(records), _COMPACT_RECORDS):
            batch = Batch(replay.at, records[start : start + _COMPACT_RECORDS])
            _append(journal, position, encode_batch(batch))
            position += 1
        while journal.compact(first):
            pass
        after = journal.size_bytes
    output.line(f"{before / 1e6:.1f} MB became {after / 1e6:.1f} MB; {len(records)} records are needed")


def _append(journal: Backend, position: int, batch: bytes) -> None:
    until = time.monotonic() + UNKNOWN_S
    append_for_certain(journal, position, [batch], lambda: time.monotonic() >= until, lambda: time.sleep(RETRY_S))


@_journal
def export_command(where: str) -> None:
    """Print all records, one JSON object a line, oldest first. Batches that cannot be read are named on stderr and left out.

    Bodies are lists of their parts in base64. The proofs of sessions, which are secrets, are left out.
    """
    count = 0
    with _opened(where) as (_, batches):
        for position, data in batches:
            try:
                batch = decode_batch(position, data)
            except JournalDamaged as error:
                count += 1
                output.line(str(error), err=True)
                continue
            for record in batch.records:
                line = {"position": position, "at": batch.at, "kind": type(record).__name__, **_plain(record)}
                output.json(line)
    if count:
        raise JournalDamaged(f"{count} batches could not be read")


def _plain(record: msgspec.Struct) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in record.__struct_fields__ if name != "proof"}
    return {name: _printable(value) for name, value in fields.items()}


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple | list):
        return [_printable(one) for one in value]
    return _plain(value) if isinstance(value, msgspec.Struct) else value

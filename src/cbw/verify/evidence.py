"""What a deployment tells about itself, as records that can be judged: from what its containers print, and from its log.

A demonstration worker prints ``<id> begins <message>``, and a broker prints that it has fenced an answer. That is not much:
the time when a worker was done is taken from the client's answer, and which worker was given what is unknown. The log of a
logger has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cbw.core import catalogue
from cbw.core.record import Record

_BEGINS = re.compile(r"(\S+) begins (\S+)")
_FENCED = re.compile(r" fenced (?:\S+ )?worker (\S+)")
_decode = msgspec.json.Decoder(Record).decode


class Line(NamedTuple):
    """A line that a container printed, and when Docker had it: seconds since 1970."""

    at: float
    container: str
    text: str


def begun_in(lines: Iterable[Line], request: str) -> list[tuple[str, Line]]:
    """The workers that printed that they begin ``request``, each with the line in which it says so; oldest first."""
    found = []
    for line in lines:
        begins = _BEGINS.search(line.text)
        if begins is not None and begins[2] == request:
            found.append((begins[1], line))
    return sorted(found, key=lambda pair: pair[1].at)


def logged_in(content: bytes, since: float) -> list[Record]:
    """The records of a log file from the time ``since`` on. Lines of text and incomplete lines are passed over."""
    records = []
    for line in content.split(b"\n"):
        if line.startswith(b"{"):
            try:
                record = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if record.at >= since:
                records.append(record)
    return records


def deployed(lines: Iterable[Line], logged: Iterable[Record], called: Iterable[Record], *, prefix: str) -> list[Record]:
    """The records of a deployment, in the order of time, to be judged together with ``called``.

    ``called`` are the records of the verification's own clients, whose ids begin with ``prefix``. From ``logged``, the
    records of the log, those of other clients are left out. What the log does not tell about the workers is taken from
    ``lines``, which the containers printed, and from the answers in ``called``.
    """
    records: list[Record] = []
    requests: dict[int, str] = {}  # task: request
    tasks: dict[tuple[str, str], int] = {}  # worker, request: task
    told: dict[tuple[str, str, str], None] = {}  # worker, request, event
    has_broker = False
    for record in sorted(logged, key=lambda record: record.at):
        if record.role == "broker":
            has_broker = True
            if record.event == catalogue.HANDED_OUT:
                requests[record.task] = record.request
                tasks[record.worker, record.request] = record.task
        elif record.role == "worker" and record.task:
            record.request = record.request or requests.get(record.task, "")
            told[record.worker, record.request, record.event] = None
        elif record.role == "client":
            continue  # it belongs to somebody else, and is not judged here
        records.append(record)

    def tell(at: float, event: catalogue.EventName, worker: str, request: str) -> None:
        if (worker, request, event) not in told:
            task = tasks.get((worker, request), 0)
            records.append(Record(at, event, role="worker", sender=worker, request=request, worker=worker, task=task))

    for line in lines:
        begins = _BEGINS.search(line.text)
        if begins is not None and begins[2].startswith(prefix):
            tell(line.at, catalogue.BEGUN, begins[1], begins[2])
        fenced = _FENCED.search(line.text)
        if fenced is not None and not has_broker:
            records.append(Record(line.at, catalogue.FENCED, role="broker", worker=fenced[1]))
    for record in called:
        if record.event == catalogue.GOT and record.text.startswith(record.request + " "):
            tell(record.at, catalogue.DONE, record.text.rpartition(" ")[2], record.request)
    return sorted(records, key=lambda record: record.at)

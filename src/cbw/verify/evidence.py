"""What a deployment tells of itself, as records that can be judged: what its containers print, and what its logger has.

A demonstration worker prints ``<id> begins <message>``, a broker that it has fenced an answer off. That is little: when a
worker was done is taken from the client's answer, and who was given what is unknown. A logger has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cbw.core.events import Record

_BEGINS = re.compile(r"(\S+) begins (\S+)")
_FENCED = re.compile(r" fenced worker (\S+)")
_decode = msgspec.json.Decoder(Record).decode


class Line(NamedTuple):
    """A line that a container printed, and when Docker had it: seconds since 1970."""

    at: float
    container: str
    text: str


def begun_in(lines: Iterable[Line], request: str) -> list[tuple[str, Line]]:
    """Which workers say that they have begun ``request``, oldest first, and where they say it."""
    found = []
    for line in lines:
        begins = _BEGINS.search(line.text)
        if begins is not None and begins[2] == request:
            found.append((begins[1], line))
    return sorted(found, key=lambda pair: pair[1].at)


def logged_in(content: bytes, since: float) -> list[Record]:
    """The records of a log file from the time ``since`` on. Lines of text, and what is torn, are passed over."""
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
    """The records to judge beside ``called``, those of the verification's clients, whose ids begin with ``prefix``.

    Of ``logged`` all but what other clients recorded; whatever the log does not tell of the workers is taken from ``lines``
    and from the answers.
    """
    records: list[Record] = []
    requests: dict[int, str] = {}  # task: request
    tasks: dict[tuple[str, str], int] = {}  # worker, request: task
    told: dict[tuple[str, str, str], None] = {}  # worker, request, event
    has_broker = False
    for record in sorted(logged, key=lambda record: record.at):
        if record.role == "broker":
            has_broker = True
            if record.event == "handed_out":
                requests[record.task] = record.request
                tasks[record.worker, record.request] = record.task
        elif record.role == "worker" and record.task:
            record.request = record.request or requests.get(record.task, "")
            told[record.worker, record.request, record.event] = None
        elif record.role == "client":
            continue  # somebody else's: nothing is owed to it here
        records.append(record)

    def tell(at: float, event: str, worker: str, request: str) -> None:
        if (worker, request, event) not in told:
            task = tasks.get((worker, request), 0)
            records.append(Record(at, event, "worker", worker, request, worker=worker, task=task))

    for line in lines:
        begins = _BEGINS.search(line.text)
        if begins is not None and begins[2].startswith(prefix):
            tell(line.at, "begun", begins[1], begins[2])
        fenced = _FENCED.search(line.text)
        if fenced is not None and not has_broker:
            records.append(Record(line.at, "fenced", "broker", worker=fenced[1]))
    for record in called:
        if record.event == "got" and record.text.startswith(record.request + " "):
            tell(record.at, "done", record.text.rpartition(" ")[2], record.request)
    return sorted(records, key=lambda record: record.at)

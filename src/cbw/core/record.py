"""One line of a trace: a record of something that happened."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core.catalogue import EVENTS, EventName

HAS_JOURNAL = "has_journal"
"""Among the ``fields`` of ``started``: the broker has a journal, so that requests are ``stored`` before they are handed out."""


class _Happening(msgspec.Struct, gc=False):
    """What every record has. Of its own, because only these two are given without their names."""

    at: float
    event: EventName  #: one of :mod:`cbw.core.catalogue`; in a log it may be of a later version


class Record(_Happening, gc=False, omit_defaults=True, kw_only=True):
    """What happened, when, and to whom. Made with its time and its event, and all else by keyword::

        Record(now, catalogue.HANDED_OUT, role="broker", sender=name, request="C1/7", worker="W1", task=12)

    ``at`` is monotonic in the cores; whoever writes a record turns it into seconds since 1970.

    ``boot`` and ``seq`` are set by whoever sends it to the logger: they tell one start of the sender from another, and number
    its records since then, from 1. They stay last, where the logger finds them without decoding the line.
    """

    role: str = ""
    sender: str = ""  #: the id of the role that recorded it
    request: str = ""  #: ``<client>/<request id>``
    client: str = ""
    service: str = ""
    worker: str = ""
    task: int = 0
    attempt: int = 0
    text: str = ""
    level: str = ""  #: of records that are no trace: ``debug`` ``info`` ``warning`` ``error`` ``critical``
    count: int = 0  #: of what ``text`` says: lines lost, duplicates, bytes repaired
    fields: dict[str, Any] | None = (
        None  #: what a user's program adds to its own records; ``delay_s`` of a sent request
    )
    boot: str = ""
    seq: int = 0


def level_of(record: Record) -> str:
    """The level of ``record``: its own if it has one, else that of its event; ``warning`` for an event that is unknown."""
    if record.level:
        return record.level
    meaning = EVENTS.get(record.event)
    return meaning.level if meaning is not None else "warning"

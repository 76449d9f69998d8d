"""Finds requests that have not ended: by the names that the trace gives them, or all that meet a filter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Literal

import msgspec

from cbw.core.broker.snapshot import Rooms
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry, ServiceRow
from cbw.core.identities import ticket_name
from cbw.core.messages import OWN_PREFIXES

LOOKED_MAX = 50_000
"""Most requests that are looked at for one answer: the broker does nothing else meanwhile (about 10 ms)."""
TICKETS = ticket_name("")

State = Literal["waiting", "running", "delayed"]


class RequestFilter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which requests are meant: those that meet all that is given. Ages are in seconds since a request was accepted."""

    service: str | None = None
    client: str | None = None
    older_than_s: Annotated[float, msgspec.Meta(ge=0)] | None = None

    @property
    def is_any(self) -> bool:
        """Whether all requests are meant that have not ended."""
        return self.service is None and self.client is None and not self.older_than_s

    def chooses(self, entry: Entry, now: float) -> bool:
        """Whether ``entry`` meets it, which has not ended."""
        return (
            entry.state is not RequestState.ENDED
            and (self.service is None or entry.request.service == self.service)
            and (self.client is None or entry.client.name == self.client)
            and now - entry.accepted_at >= (self.older_than_s or 0.0)
        )


def client_of(rooms: Rooms, name: str) -> tuple[ClientRow, int] | None:
    """Whose request it is that the trace calls ``name``, and its number there; None: nobody's that is known."""
    if name.startswith(TICKETS) and (row := rooms.tickets.rows.get(name.removeprefix(TICKETS))) is not None:
        return row, next(iter(row.entries), 0)
    who, _, number = name.rpartition("/")
    if not (number.isascii() and number.isdigit()) or len(number) > 19:
        return None
    for client in rooms.clients.all:
        if client.name == who and (int(number) in client.entries or int(number) in client.parked):
            return client, int(number)
    return None


def entry_of(rooms: Rooms, name: str) -> Entry | None:
    """The request that the trace calls ``name``, if it has not ended. Those that the broker answers itself are not meant: one may
    name itself.
    """
    found = client_of(rooms, name)
    entry = found[0].entries.get(found[1]) if found is not None else None
    if entry is None or entry.state is RequestState.ENDED or entry.request.service.startswith(OWN_PREFIXES):
        return None
    return entry


def waiting(rooms: Rooms, service: str | None = None) -> Iterator[Entry]:
    """What waits for a worker, of one service or of all, dead or alive."""
    services = rooms.requests.dispatcher.services
    rows: Iterable[ServiceRow] = services.values() if service is None else filter(None, [services.get(service)])
    return chain.from_iterable(chain(row.suspects, row.waiting) for row in list(rows))


def running(rooms: Rooms) -> Iterator[Entry]:
    """What is with a worker, also with one that has not come back yet after the broker's start; dead or alive."""
    workers = chain(rooms.workers.by_peer.values(), rooms.workers.recovering)
    return chain.from_iterable(worker.in_hand.values() for worker in workers)


def delayed(rooms: Rooms) -> Iterator[Entry]:
    """What is not to be handed out yet, dead or alive."""
    return iter(rooms.requests.dispatcher.delays)


def find(
    rooms: Rooms, chosen: RequestFilter, states: Iterable[State], now: float, most: float = math.inf
) -> tuple[list[Entry], bool]:
    """The requests in ``states`` that ``chosen`` means, at most ``most``; and whether all were looked at."""
    places = {
        "running": lambda: running(rooms),
        "waiting": lambda: waiting(rooms, chosen.service),
        "delayed": lambda: delayed(rooms),
    }
    looked_at = islice(chain.from_iterable(places[state]() for state in states), LOOKED_MAX)
    count, found = 0, []
    is_any, ended = chosen.is_any, RequestState.ENDED  # the page asks for any, once a second: that saves 50,000 calls
    for entry in looked_at:
        count += 1
        if entry.state is not ended if is_any else chosen.chooses(entry, now):
            found.append(entry)
            if len(found) >= most:
                return found, False
    return found, count < LOOKED_MAX

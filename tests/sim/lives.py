"""The trace tells the whole life of each request: it is where its last record says, and each record can follow the one before."""

from __future__ import annotations

from collections.abc import Mapping

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.states import RequestState
from cbw.core.record import Record

from .account import Accepted, entries_of, number_in, number_of
from .world import ViolationError

WAITING, RUNNING, DELAYED = "waiting", "running", "delayed"
FOLLOWS: Mapping[str, tuple[tuple[str, ...], str]] = {
    catalogue.DELAYED: ((WAITING,), DELAYED),
    catalogue.DUE: ((DELAYED,), WAITING),
    catalogue.RETRIED: ((RUNNING,), DELAYED),
    catalogue.HANDED_OUT: ((WAITING,), RUNNING),
    catalogue.RETURNED: ((RUNNING,), WAITING),
    catalogue.ATTEMPT_FAILED: ((RUNNING,), WAITING),
}
"""Events, where a request can be when one is told of it, and where it is then."""
PLACES = {
    RequestState.STORING: WAITING,
    RequestState.WAITING: WAITING,
    RequestState.SUSPECT: WAITING,
    RequestState.RUNNING: RUNNING,
    RequestState.ALONE: RUNNING,
    RequestState.DELAYED: DELAYED,
}


class Lives:
    """Of the requests that are in one broker."""

    def __init__(self) -> None:
        self._places: dict[int, str] = {}

    def clear(self) -> None:
        """The broker has died."""
        self._places.clear()

    def recovered(self, core: BrokerCore) -> None:
        """It goes on with what it has read in its journal."""
        self._places = {number_of(entry): PLACES[entry.state] for entry in entries_of(core) if entry.state in PLACES}

    def heard(self, record: Record) -> None:
        """
        Raises:
            ViolationError: something is told that cannot happen to the request where it is.
        """
        if record.event == catalogue.ACCEPTED:
            self._places[number_in(record.request)] = WAITING
        elif record.event in FOLLOWS:
            before, after = FOLLOWS[record.event]
            number = number_in(record.request)
            place = self._places.get(number)
            if place not in before:
                raise ViolationError(f"trace: {record.event} of {record.request}, which is {place}")
            self._places[number] = after

    def check(self, core: BrokerCore, accepted: Mapping[int, Accepted]) -> None:
        """
        Raises:
            ViolationError: a request is somewhere else than the trace has told.
        """
        places = self._places
        for entry in entries_of(core):
            request = number_of(entry)
            if request in accepted and PLACES.get(entry.state) != places.get(request):
                told = places.get(request)
                raise ViolationError(
                    f"trace: {accepted[request].token} is told to be {told}, and is {entry.state.name}"
                )

"""The broker's own service ``cbw.services``: which services there are, who serves them, and what their functions take and return.

A signature is a text that a worker says in its hello; the broker does not look into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cbw.core.broker.durations import Durations
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.own_services import Serve
from cbw.core.broker.tables import ClientRow, ServiceRow, WorkerRow, running_of
from cbw.core.messages import Answer, Status

SERVICES = "cbw.services"
"""Answers a request of any body with an array of :class:`ListedService`."""
SIGNATURE_CHARS_MAX = 4000
"""Longest signature of a service that is kept, in characters: a page of JSON Schema."""
SIGNATURES_CHARS_MAX = 64 * 1024
"""Most characters of all signatures of a worker that are kept. It may serve 1000 services; the others are listed without."""
_encode = msgspec.json.Encoder().encode


class ListedService(msgspec.Struct):
    """A service as ``cbw.services`` tells of it. ``signature`` is what a worker has said of it; empty: none has.

    It has answered so many requests, and so many have ``failed``: they ended with an error of their handler, or were given up.
    ``rate`` is its answers a second lately; of the requests of the minute up to its last answer, half took no longer than
    ``p50_s`` from their acceptance, and 99 % no longer than ``p99_s``. It is known since ``age_s``. None: that is not counted, as
    it is one of too many services; or nothing was answered yet.
    """

    service: str
    workers: int
    waiting: int
    signature: str = ""
    running: int = 0
    answered: int | None = None
    failed: int | None = None
    rate: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    age_s: float = 0.0


class ServiceList:
    """Tells of ``services``, whose ``workers`` stand there by their connections."""

    def __init__(
        self,
        services: Mapping[str, ServiceRow],
        workers: Mapping[bytes, WorkerRow],
        durations: Durations,
        outbox: Outbox,
    ) -> None:
        self._services = services
        self._workers = workers
        self._durations = durations
        self._outbox = outbox

    @property
    def all(self) -> dict[str, Serve]:
        """The services that the broker answers, by name."""
        return {SERVICES: self._list}

    def _list(self, _client: ClientRow, _body: bytes) -> Answer:
        self._durations.count()
        running = running_of(self._workers.values())
        listed = [self._listed(service, running[name]) for name, service in sorted(self._services.items())]
        return Answer(0, Status.OK, _encode(listed))

    def _listed(self, service: ServiceRow, running: int) -> ListedService:
        told = (worker.signatures.get(service.name, "") for worker in service.workers.values() if worker.signatures)
        now, name = self._outbox.now, service.name
        return ListedService(
            name,
            len(service.workers),
            service.waiting_count,
            next(filter(None, told), ""),
            running,
            **msgspec.structs.asdict(self._durations.figures(name, now)),
            age_s=now - self._durations.known_since(service),
        )


def kept_signatures(said: Mapping[str, str] | None, services: Iterable[str]) -> dict[str, str] | None:
    """The signatures that a worker has ``said`` of its ``services``, as far as they are kept."""
    if not said:
        return None
    kept: dict[str, str] = {}
    left = SIGNATURES_CHARS_MAX
    for service in services:
        text = said.get(service, "")
        if text and len(text) <= min(left, SIGNATURE_CHARS_MAX):
            kept[service] = text
            left -= len(text)
    return kept

"""The broker's own service ``cbw.services``: which services there are, who serves them, and what their functions take and return.

A signature is a text that a worker says in its hello; the broker does not look into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cbw.core.broker.own_services import Serve
from cbw.core.broker.tables import ClientRow, ServiceRow
from cbw.core.messages import Answer, Status

SERVICES = "cbw.services"
"""Answers a request of any body with an array of :class:`ListedService`."""
SIGNATURE_CHARS_MAX = 4000
"""Longest signature of a service that is kept, in characters: a page of JSON Schema."""
SIGNATURES_CHARS_MAX = 64 * 1024
"""Most characters of all signatures of a worker that are kept. It may serve 1000 services; the others are listed without."""
_encode = msgspec.json.Encoder().encode


class ListedService(msgspec.Struct):
    """A service as ``cbw.services`` tells of it. ``signature`` is what a worker has said of it; empty: none has."""

    service: str
    workers: int
    waiting: int
    signature: str = ""


class ServiceList:
    """Tells of ``services``."""

    def __init__(self, services: Mapping[str, ServiceRow]) -> None:
        self._services = services

    @property
    def all(self) -> dict[str, Serve]:
        """The services that the broker answers, by name."""
        return {SERVICES: self._list}

    def _list(self, _client: ClientRow, _body: bytes) -> Answer:
        listed = [_listed(service) for _, service in sorted(self._services.items())]
        return Answer(0, Status.OK, _encode(listed))


def kept_signatures(said: Mapping[str, str] | None, services: Iterable[str]) -> dict[str, str] | None:
    """Those that a worker has ``said`` of its ``services``, as far as they are kept."""
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


def _listed(service: ServiceRow) -> ListedService:
    told = (worker.signatures.get(service.name, "") for worker in service.workers.values() if worker.signatures)
    return ListedService(service.name, len(service.workers), service.waiting_count, next(filter(None, told), ""))

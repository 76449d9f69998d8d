"""Answers of ended requests that have not left the broker: a client that asks again must get them (G7)."""

from __future__ import annotations

from cbw.core.record import Record

from .world import World


class UnsentAnswers:
    """The requests, as ``client/number``, whose answers the broker has and still owes."""

    def __init__(self, world: World, liveness_s: float) -> None:
        self._world = world
        self._liveness_s = liveness_s
        self._requests: dict[str, None] = {}
        self._back_at: dict[str, float] = {}  # client → when it was last back

    def __contains__(self, request: str) -> bool:
        return request in self._requests

    def add(self, request: str) -> None:
        self._requests[request] = None

    def discard(self, request: str) -> None:
        self._requests.pop(request, None)

    def clear(self) -> None:
        """The broker has died."""
        self._requests.clear()

    def heard(self, record: Record) -> None:
        """A client that is gone loses them; one that is back loses those that it does not ask for within the liveness."""
        if record.event == "client_gone":
            self._forget(record.client)
        elif record.event == "client_back":
            now = self._back_at[record.client] = self._world.now
            self._world.after(self._liveness_s, self._did_not_ask, record.client, now)

    def _did_not_ask(self, client: str, back_at: float) -> None:
        if self._back_at[client] == back_at:
            self._forget(client)

    def _forget(self, client: str) -> None:
        for request in [request for request in self._requests if request.startswith(client + "/")]:
            del self._requests[request]

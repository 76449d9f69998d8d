"""Requests that have ended for their client, and of which no broker may have been told yet that nobody wants their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CANCELLED_MAX = 10_000
"""Most of them that are remembered; the oldest are forgotten first."""


class Unwanted:
    """Requests that nobody wants any more. The broker is told of them with the next hello, or it would run them.

    An answer in parts would wait for ever, as nobody takes them. So of such a request, a *stream*, the broker is told with each
    hello until it is certain that it has heard that: what comes behind a hello may be lost with its connection, although the
    hello was answered. It has heard it when it answers the request, or the beat that is sent last.
    """

    def __init__(self) -> None:
        self._are_streams: dict[int, bool] = {}
        self._told: list[int] = []  # over this connection, before its last beat
        self._beats = 0  # sent over this connection and not answered

    def __iter__(self) -> Iterator[int]:
        return iter(self._are_streams)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._are_streams

    def add(self, request_ids: Iterable[int], *, are_streams: bool = False) -> None:
        """Remember these, which may be here already."""
        for request_id in request_ids:
            self._are_streams[request_id] = are_streams or self._are_streams.get(request_id, False)
        while len(self._are_streams) > CANCELLED_MAX:
            del self._are_streams[next(iter(self._are_streams))]

    def connected(self) -> None:
        """Nobody answers what was sent over an earlier connection."""
        self._told, self._beats = [], 0

    def told(self) -> bool:
        """The broker is told of all; whether it is to be sent a beat, as there are streams among them."""
        self._told = list(self._are_streams)
        has_streams = any(self._are_streams.values())
        self._beats += has_streams
        return has_streams

    def not_sent(self, beats: int) -> None:
        """Note that ``beats`` of the beats that :meth:`told` wanted were not sent."""
        self._beats -= beats

    def beat_came(self) -> None:
        """The broker has answered a beat: if that was the last one, it has heard what was sent before."""
        self._beats -= 1
        if self._beats == 0:
            for request_id in self._told:
                self.answered(request_id)

    def greeted(self) -> None:
        """A hello was answered."""
        self._are_streams = {request_id: True for request_id, is_stream in self._are_streams.items() if is_stream}

    def answered(self, request_id: int) -> None:
        """The broker has told how this one has ended there."""
        self._are_streams.pop(request_id, None)

"""Requests that have ended for their client, and of which no broker may have been told yet that nobody wants their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CANCELLED_MAX = 10_000
"""Most of them that are remembered; the oldest are forgotten first."""


class Unwanted:
    """Of these the broker is told with the next hello, or it would run what nobody wants.

    An answer in parts would wait for ever, as nobody takes them. So of such a request, a *stream*, the broker is told with each
    hello until it has answered: what comes behind a hello may be lost with its connection, although the hello was answered.
    """

    def __init__(self) -> None:
        self._are_streams: dict[int, bool] = {}

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

    def greeted(self) -> None:
        """A hello was answered."""
        self._are_streams = {request_id: True for request_id, is_stream in self._are_streams.items() if is_stream}

    def answered(self, request_id: int) -> None:
        """The broker has told how this one has ended there."""
        self._are_streams.pop(request_id, None)

"""An answer in parts, as a program reads it: with ``for``, or with ``async for``."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from cbw.client.progress import OnProgress, progress_of
from cbw.client.result import decode_answer, exception_for
from cbw.core.client.events import Ended
from cbw.core.identities import name_of_request
from cbw.core.messages import AnswerPart, ProgressMade, Status
from cbw.core.parts import BROKEN_STREAM, parts_of
from cbw.errors import StreamBroken

T = TypeVar("T")
TOLD_AT = 8
"""Parts that a program takes before the client is told of them, if others wait: it would cost each part a lock."""


class Reading:
    """What a stream knows of its answer. ``returns`` is the type of a part."""

    def __init__(self, client: str, service: str, returns: Any, on_progress: OnProgress) -> None:
        self.parts = 0
        self.attempt = 1
        self.is_over = False
        self.request_id = 0
        self.untold = 0  # parts that were taken, and of which the client was not told
        self._client = client
        self._service = service
        self._returns = returns
        self._on_progress = on_progress

    def take(self, news: AnswerPart | ProgressMade | Ended) -> list[Any]:
        """What the program gets of ``news``: one part, or none.

        Raises:
            RequestError: it ended with an error.
        """
        if isinstance(news, ProgressMade):
            if self._on_progress is not None:
                self._on_progress(progress_of(news))
            return []
        if isinstance(news, AnswerPart):
            if news.number == 1 and self.parts:
                self.attempt += 1
                self.parts = 0
            self.parts += 1
            self.untold += 1
            return [self._read(news.body)]
        self.is_over = True
        return self._end(news)

    def take_untold(self) -> int:
        """How many parts were taken since the last call."""
        count, self.untold = self.untold, 0
        return count

    def _read(self, body: Any) -> Any:
        return decode_answer(body, self._returns, self.request_id, self._service, self._client)

    def _end(self, ended: Ended) -> list[Any]:
        answer = ended.answer
        if answer.status is Status.OK:  # of a handler that does not yield, or the last part of a Majordomo worker
            if self.parts and not answer.body:
                return []
            self.parts += 1
            return [self._read(answer.body)]
        if answer.status is not Status.STREAMED:
            error = exception_for(ended)
            if isinstance(error, StreamBroken):
                error.parts = self.parts
            raise error
        made = parts_of(answer.body)
        if made != self.parts:
            text = f"the answer has {made} parts, of which {self.parts} came: the others were lost with a connection"
            raise self._broken(text)
        return []

    def _broken(self, text: str) -> StreamBroken:
        name = name_of_request(self._client, self.request_id)
        whose: dict[str, Any] = {"request_id": self.request_id, "service": self._service, "request": name}
        broken = StreamBroken(text, kind=BROKEN_STREAM, **whose)
        broken.parts = self.parts
        return broken


@dataclass
class StreamLine:
    """What a stream needs of its client: to ``ask`` for it, with a sink for its news, which returns its id; to tell of parts that
    its program ``took``; to ``cancel`` it; and to note that it is ``unread``, and by whom, while its program does something else.
    """

    ask: Callable[[Callable[[Any], None]], int]
    took: Callable[[int, int], None]
    cancel: Callable[[list[int]], None]
    unread: dict[int, object] = field(default_factory=dict)


class _CountedParts:
    """What both kinds of streams tell of themselves."""

    _reading: Reading

    @property
    def parts(self) -> int:
        """How many parts of this attempt have come."""
        return self._reading.parts

    @property
    def attempt(self) -> int:
        """Counts from 1. One more: the worker was lost, and the answer has begun anew, with its first part."""
        return self._reading.attempt


class AnswerStream(_CountedParts, Iterator[T]):
    """An answer in parts. The request is made when the first part is asked for.

    To leave the loop, :meth:`close`, or the end of ``with`` gives the request up: the generator in the worker is closed. The
    worker is never more than some 64 parts ahead, or 1 MiB of them. One thread at a time may read it.
    """

    def __init__(self, reading: Reading, line: StreamLine, wait: Callable[[queue.SimpleQueue[Any]], Any]) -> None:
        self._reading = reading
        self._parts = _read(reading, line, wait)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        part: T = next(self._parts)
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Read no further, and give the request up if it has not ended."""
        self._parts.close()


def _read(reading: Reading, line: StreamLine, wait: Callable[[queue.SimpleQueue[Any]], Any]) -> Any:
    """A generator, so that it is closed when its stream is dropped: it must not refer to that."""
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reading.request_id = line.ask(news.put)
    try:
        while not reading.is_over:
            if reading.untold and (reading.untold >= TOLD_AT or news.empty()):
                line.took(reading.request_id, reading.take_untold())
            for part in reading.take(wait(news)):
                line.unread[reading.request_id] = threading.get_ident()
                yield part
                line.unread.pop(reading.request_id, None)
    finally:
        line.unread.pop(reading.request_id, None)
        if not reading.is_over:
            line.cancel([reading.request_id])


class AsyncAnswerStream(_CountedParts, AsyncIterator[T]):
    """The parts of an answer as they arrive, for ``async for``; the end of an ``async with`` before the last cancels the rest."""

    def __init__(self, reading: Reading, line: StreamLine) -> None:
        self._reading = reading
        self._parts = _read_async(reading, line)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        part: T = await anext(self._parts)
        return part

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Read no further, and give the request up if it has not ended."""
        await self._parts.aclose()


async def _read_async(reading: Reading, line: StreamLine) -> AsyncGenerator[Any, None]:
    import asyncio  # here: a program without an event loop starts sooner without it

    news: deque[Any] = deque()
    has_news = asyncio.Event()

    def arrived(one: Any) -> None:
        news.append(one)
        has_news.set()

    reading.request_id = line.ask(arrived)
    try:
        while not reading.is_over:
            if reading.untold and (reading.untold >= TOLD_AT or not news):
                line.took(reading.request_id, reading.take_untold())
            if not news:
                has_news.clear()
                await has_news.wait()
            for part in reading.take(news.popleft()):
                line.unread[reading.request_id] = asyncio.current_task()
                yield part
                line.unread.pop(reading.request_id, None)
    finally:
        line.unread.pop(reading.request_id, None)
        if not reading.is_over:
            line.cancel([reading.request_id])

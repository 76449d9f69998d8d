"""The journal as a JetStream stream: it survives the machine that a broker was on, and another broker goes on with it.

What is decided about it is in :mod:`cbw.journal.stream_journal`; here are the thread, the clock and the connection.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from cbw.errors import CbwError, JournalFull, JournalUnreachable, UsageError
from cbw.journal.backend import Append
from cbw.journal.nats_place import NatsPlace
from cbw.journal.nats_stream import Stream
from cbw.journal.standbys import STANDBY_TOKEN_BYTES
from cbw.journal.stream_journal import StreamJournal
from cbw.journal.takeover import ASK_S

T = TypeVar("T")
READ_S = 30.0
"""How long a stream may not be readable before its reader gives up: elections take 4 to 9 s (measured)."""


class _Loop:
    """An event loop in a thread of its own: nats-py has to answer its servers at all times."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self.run(_settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _settle() -> None:
    """End what still runs in this loop. nats-py leaves the transports of lost connections to the collector, and those want a
    loop that runs."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)


class Health(NamedTuple):
    """What can be told of a journal from outside."""

    version: str
    """Of the server that answers."""
    replicas: int
    """How many servers keep it; 0: there is no such journal yet."""
    current: int
    """How many of these have all of it."""
    owner: str | None
    """The broker that has it; empty: none; None: it does not answer."""


def health_of(place: NatsPlace) -> Health:
    """Ask the servers at ``place``, and the owner of the journal.

    Raises:
        JournalUnreachable: they do not answer.
        JournalTooOldServer: they may not keep what they promise.
    """

    async def ask() -> Health:
        stream = await Stream.connect(place, "cbw doctor", makes=False)
        try:
            replicas, current = await stream.replicas() or (0, 0)
            return Health(stream.version, replicas, current, await stream.ask_for_owner(ASK_S))
        finally:
            await stream.close()

    loop = _Loop()
    try:
        return loop.run(ask())
    finally:
        loop.close()


class NatsJournal:
    """The journal at ``place``, for the broker ``owner``. See :class:`~cbw.journal.backend.Backend`.

    :meth:`open` refuses a journal whose owner lives; a standby calls :meth:`acquire` before, which waits for its end. A
    journal that is missing is made if ``makes`` is true.
    """

    def __init__(self, place: NatsPlace, owner: str = "cbw", *, makes: bool = True) -> None:
        self.place = place
        self._owner = owner
        self._makes = makes
        self._token = os.urandom(STANDBY_TOKEN_BYTES)
        self._loop: _Loop | None = None
        self._stream: Stream | None = None
        self._journal: StreamJournal | None = None

    # --- whose it is

    def try_to_take(self, tell: Callable[[str], None]) -> bool:
        """Make it ours if its owner is gone; whether it is. ``tell`` is told what is waited for.

        Raises:
            JournalError: it cannot be used.
        """
        try:
            return self._run(self._connected().try_to_take(time.monotonic, tell))
        except (JournalFull, JournalUnreachable) as error:
            tell(f"waits for its journal: {error}")
            return False

    def acquire(self, is_stopped: Callable[[], bool], tell: Callable[[str], None]) -> NatsJournal | None:
        """Wait until it is ours. None: ``is_stopped`` said so before. ``tell`` is told what is waited for.

        Raises:
            JournalError: it cannot be used.
        """
        while not is_stopped():
            asked_at = time.monotonic()
            if self.try_to_take(tell):
                return self
            time.sleep(max(0.0, ASK_S - (time.monotonic() - asked_at)))
        return None

    def _connected(self) -> StreamJournal:
        if self._loop is None:
            self._loop = _Loop()
        if self._journal is None:
            self._stream = stream = self._loop.run(Stream.connect(self.place, self._owner, makes=self._makes))
            if not self._makes and self._loop.run(stream.replicas()) is None:
                raise UsageError(
                    f"no journal {self.place.name} at {self.place.hosts}: the stream {stream.name} is not there",
                    advice="Give what cbw broker --journal was given.",
                )
            self._journal = StreamJournal(self._stream, self.place.name, self._owner, self._token)
        return self._journal

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return self._loop.run(work)

    # --- of Backend

    def open(self) -> Generator[tuple[int, bytes], None, None]:
        if self._journal is None or not self._journal.epoch:
            try:
                while not self._run(self._connected().try_to_take(time.monotonic, lambda _: None, waits=False)):
                    time.sleep(ASK_S)
            except CbwError:
                self.close()
                raise
        return self._read(self._opened)

    @property
    def _opened(self) -> StreamJournal:
        assert self._journal is not None, "this journal is not open"
        return self._journal

    def _read(self, journal: StreamJournal) -> Generator[tuple[int, bytes], None, None]:
        tried_until = time.monotonic() + READ_S
        while True:
            try:
                found = self._run(journal.read_some())
            except JournalUnreachable:
                if time.monotonic() > tried_until:
                    raise
                time.sleep(ASK_S)
                continue
            if found is None:
                return
            yield from found
            tried_until = time.monotonic() + READ_S

    @property
    def next_position(self) -> int:
        return self._opened.next_position

    @property
    def size_bytes(self) -> int:
        return self._journal.size_bytes if self._journal is not None else 0

    @property
    def filled(self) -> float:
        return self._stream.room.filled if self._stream is not None else 0.0

    def describe(self) -> dict[str, Any]:
        stream, journal, place = self._stream, self._journal, self.place
        epoch = journal.epoch if journal is not None else 0
        return {
            "kind": "nats",
            "place": place.hosts,
            "name": place.name,
            "owner": (journal.owner_told or None) if journal is not None else None,
            "epoch": epoch or None,
            "standbys": stream.standbys.present(time.monotonic()) if epoch and stream is not None else [],
        }

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        return self._run(self._opened.append(position, batches))

    def compact(self, before: int) -> bool:
        return self._run(self._opened.compact(before))

    def close(self) -> None:
        if self._loop is None:
            return
        if self._stream is not None:
            if self._journal is not None:
                self._run(self._journal.give_back())
            self._run(self._stream.close())
        self._stream = self._journal = None
        self._loop.close()
        self._loop = None

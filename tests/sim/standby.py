"""Brokers that share a journal: one owns it and serves, the others stand by. What decides about that is what ships."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cbw.core.broker.limits import Limits
from cbw.core.broker.replay import Replay
from cbw.errors import JournalError, JournalFenced, JournalFull, JournalUnreachable
from cbw.journal.backend import BATCHES_MAX, Append
from cbw.journal.stream_journal import StreamJournal
from cbw.journal.takeover import ASK_S
from cbw.journal.writer import LAST_BATCHES_S, RETRY_S, UNKNOWN_S
from cbw.wire.journal import decode_batch

from .broker import SimBroker
from .compacted import need_same_compacted
from .coroutine import Running, pause
from .fenced import FencedChecker
from .network import Network
from .servers import Inheritance, Servers, SimStream, Written
from .world import ViolationError, World

if TYPE_CHECKING:
    from .checker import Checker

FENCED = "another broker has the journal"
RESTART_S = (0.05, 2.0)
"""Seconds until a broker that has ended is started again."""


class StreamPort:
    """A broker's port to the journal in the servers' stream, as :class:`cbw.journal.writer.Writer` is one to any journal.

    ``wake`` is called when there is news, ``on_put`` with each batch that the broker hands over.
    """

    def __init__(
        self,
        servers: Servers,
        journal: StreamJournal,
        stream: SimStream,
        wake: Callable[[], None],
        on_put: Callable[[int, bytes], float],
    ) -> None:
        self.stored = journal.next_position - 1
        self.problem = ""
        self.filled = 0.0
        self.error = ""
        """Why the broker has to end."""
        self._servers = servers
        self._world = servers.world
        self._journal = journal
        self._stream = stream
        self._wake = wake
        self._on_put = on_put
        self._waiting: deque[bytes] = deque()  # the first of them will be at stored + 1
        self._put_at: deque[float] = deque()
        self._compactions: deque[tuple[int, int]] = deque()
        self._compact_before = 0
        self._is_compacting = False
        self._running: Running | None = None
        self._closes_at = math.inf

    def put(self, position: int, batch: bytes) -> None:
        expected = self.stored + len(self._waiting) + 1
        assert position == expected, f"batch {position} was put where {expected} comes next"
        now, records = self._world.now, decode_batch(position, batch).records
        self._servers.write(position, batch, Written(now, now + self._on_put(position, batch), records))
        self._waiting.append(batch)
        self._put_at.append(now)
        self._begin()

    def compact(self, before: int) -> None:
        self._compactions.append((before, self.stored + len(self._waiting)))
        self._begin_compactions()
        self._begin()

    def _begin_compactions(self) -> None:
        while self._compactions and self._compactions[0][1] <= self.stored:
            self._compact_before = max(self._compact_before, self._compactions.popleft()[0])
            self._is_compacting = True

    @property
    def waited_since(self) -> float:
        """Since when the oldest batch waits that is not stored, as far as the broker knows; infinity: there is none."""
        return self._put_at[0] if self._put_at else math.inf

    # --- the thread

    def _begin(self) -> None:
        if (self._running is None or self._running.is_over) and not self.error and self._closes_at == math.inf:
            self._running = Running(self._world, self._stream.process, self._serve)

    async def _serve(self) -> None:
        while (self._waiting or self._is_compacting) and not self.error and self._world.now < self._closes_at:
            problem = ""
            for work in (self._append, self._compact):
                try:
                    await work()
                except (JournalFull, JournalUnreachable) as error:
                    problem = problem or str(error)
                except JournalFenced:
                    self.end_with(FENCED)
                except JournalError as error:
                    self.end_with(f"{type(error).__name__}: {error}")
            self._tell(problem)
            if problem:
                await pause(RETRY_S)

    async def _append(self) -> None:
        count = self._servers.rng.choice([BATCHES_MAX, BATCHES_MAX, 1])  # one by one where there is little room
        if not (batches := list(self._waiting)[:count]):
            return
        until = self._world.now + UNKNOWN_S
        while (outcome := await self._journal.append(self.stored + 1, batches)) is Append.UNKNOWN:
            if self._world.now >= min(until, self._closes_at):
                self.end_with("the journal does not say what is stored")
                return
            self._tell("asking again")
            await pause(RETRY_S)
        if outcome is Append.FENCED:
            self.end_with(FENCED)
        else:
            self.are_stored(len(batches))

    def are_stored(self, count: int) -> None:
        """The broker may go on with what depends on these."""
        for _ in range(count):
            self._waiting.popleft()
            self._put_at.popleft()
        self.stored += count
        self._begin_compactions()
        self._wake()

    async def _compact(self) -> None:
        if self._is_compacting and not self.error:
            before = self._compact_before
            is_more = await self._journal.compact(before)
            self._world.counts["journal compacted"] += 1
            self._is_compacting = is_more or before < self._compact_before

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._wake()

    def end_with(self, error: str) -> None:
        """Nothing will ever be stored again."""
        self.error = error
        self._wake()

    # --- the end

    def close(self) -> None:
        """The broker stops, in order: what was put is stored, within some time, and the journal given back."""
        last, self._closes_at = self._running, self._world.now + LAST_BATCHES_S
        Running(self._world, self._stream.process, partial(self._leave, last))

    async def _leave(self, last: Running | None) -> None:
        while last is not None and not last.is_over and self._world.now < self._closes_at:
            await pause(0.01)
        try:
            while self._waiting and not self.error and self._world.now < self._closes_at:
                await self._append()
            if not self._waiting:
                await self._journal.give_back()
        except JournalError as error:
            self.end_with(str(error))
        self._stream.close()

    def die(self, *, is_silent: bool) -> None:
        """SIGKILL, or the power fails (silent)."""
        if self._running is not None:
            self._running.cancel()
        self._stream.close(is_silent=is_silent)


class StandbyBroker(SimBroker):
    """A broker process with the others' journal: it stands by, and serves once the journal is its own."""

    def __init__(
        self,
        world: World,
        network: Network,
        limits: Limits,
        turn_messages: int,
        grace_s: float,
        number: int,
        servers: Servers,
        new_checker: Callable[[SimBroker, Inheritance], Checker],
    ) -> None:
        super().__init__(world, network, limits, turn_messages, grace_s, number)
        self._servers = servers
        self._new_checker = new_checker
        self.token = b""
        self.stream: SimStream | None = None
        self._port: StreamPort | None = None
        self._standing_by: Running | None = None

    @property
    def is_started(self) -> bool:
        """Whether it serves or stands by."""
        return self.is_alive or (self._standing_by is not None and not self._standing_by.is_over)

    def start(self) -> None:
        """A new boot, which stands by."""
        self.boot += 1
        self.token = self._servers.rng.randbytes(8)
        self.stopped_until = self.frozen_until = 0.0
        self.stream = SimStream(self._servers, self)
        self.world.say(self.name, f"boot {self.boot} stands by")
        self._standing_by = Running(self.world, self, partial(self._stand_by, self.stream))

    def start_again(self) -> None:
        if not self.is_started:
            self.start()

    async def _stand_by(self, stream: SimStream) -> None:
        journal = StreamJournal(stream, "shared", self.name, self.token)
        try:
            while True:
                asked_at = self.world.now
                try:
                    if await journal.try_to_take(lambda: self.world.now, lambda text: None):
                        break
                except (JournalFull, JournalUnreachable):
                    pass
                await pause(max(0.0, ASK_S - (self.world.now - asked_at)))
            batches: list[tuple[int, bytes]] = []
            while True:
                try:
                    found = await journal.read_some()
                except JournalUnreachable:
                    await pause(ASK_S)
                    continue
                if found is None:
                    break
                batches += found
        except JournalError as error:
            raise ViolationError(f"G8: {self.name} cannot read the journal: {error}") from None
        self._owns(journal, stream, batches)

    def _owns(self, journal: StreamJournal, stream: SimStream, batches: list[tuple[int, bytes]]) -> None:
        """It is the owner as far as it knows. Another may have taken the journal while it was read."""
        inherited = self._servers.inheritances[journal.epoch]
        first, behind = inherited.first_position, inherited.next_position
        is_all = [position for position, _ in batches] == [*range(first, behind)]
        if not is_all or journal.next_position != behind:
            raise ViolationError(
                f"G8: {self.name} has not read the batches from {first} to {behind - 1}, and no others"
            )
        self.is_fenced = False
        self.core = self.new_core(has_journal=True)
        self.checker = checker = self._new_checker(self, inherited)
        replay = Replay()
        for position, data in batches:
            replay.read(position, data)
        need_same_compacted(replay)
        self.core.use_journal(replay, self.world.now)
        checker.recovered()

        def on_put(position: int, data: bytes) -> float:
            if self.checker is checker:
                checker.durability.put(position, data)
            return checker.durability.offset_s

        self.journal = self._port = StreamPort(self._servers, journal, stream, self.wake, on_put)
        self.serve()
        if not self._servers.is_owner(self.token):
            self.fence()

    def on_taken(self, token: bytes) -> None:
        """Somebody has taken the journal."""
        if self.is_alive and token != self.token:
            self.fence()

    def fence(self) -> None:
        """From now on nothing that it says is believed."""
        if not self.is_fenced:
            self.world.say(self.name, "is fenced")
            self.world.counts["owners fenced"] += 1
            self.is_fenced = True
            self.watched_by(FencedChecker(self.checker))

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            super().crash(is_silent=is_silent)
        elif self._standing_by is not None and self.stream is not None:
            self.world.say(self.name, "crashed" + " silently" * is_silent)
            self.stream.close(is_silent=is_silent)
        if self._standing_by is not None:
            self._standing_by.cancel()

    def turn(self) -> None:
        super().turn()
        if self.is_alive and self._port is not None and self._port.error:
            self.world.say(self.name, f"ends: {self._port.error}")
            if not self.is_fenced and self._port.error == FENCED:
                raise ViolationError(f"G8: {self.name} ends as if it were fenced, and the journal is its own")
            self.world.counts["owners ended"] += 1
            self._port.die(is_silent=False)
            self._die(is_silent=False)
            self.world.after(self.world.between(*RESTART_S), self.start_again)

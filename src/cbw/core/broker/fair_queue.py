"""The queue of one service: whose request is handed out next.

Clients take turns, one request each, so that one with 100,000 waiting requests delays another's single one by no more than its
own next one. Of one client's requests, those of the highest priority come first, and first come, first served among these.
What was handed out and came back goes before all others: it has had its turn.

A request that ended while it waited stays where it is, as a dead entry, and keeps its client's place until that is passed over;
:meth:`FairQueue.tidy` sweeps these out. Everything else costs the same for one waiting request and for a million, of one client
and of ten thousand.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar, final

from cbw.core.broker.states import RequestState
from cbw.core.messages import Request

DEAD_MAX = 64
"""Ended requests that may lie in a queue before they are swept out, once they are more than the living ones."""


class Asking(Hashable, Protocol):
    """What the queue has to know of a client."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def is_ticket(self) -> bool:
        """Whether it stands for one request that its client has left here: those of one client take turns as one."""


class Queued(Protocol):
    """What the queue has to know of a request."""

    request: Request
    state: RequestState

    @property
    def waits_since(self) -> float:
        """Since when it could be handed out."""

    @property
    def client(self) -> Asking:
        """Whose request it is."""


E = TypeVar("E", bound=Queued)


@final
class _Line(Generic[E]):
    """Two or more waiting requests of one client, or what is left of them. ``entries`` are those of the highest priority."""

    __slots__ = ("entries", "lower", "priority", "since")

    def __init__(self, first: E) -> None:
        self.priority = first.request.priority
        self.entries = deque((first,))
        self.lower: dict[int, deque[E]] | None = None  # by priority; few programs use more than one
        self.since = first.waits_since  # when it got in line, or had its last turn

    def add(self, entry: E) -> None:
        """Put a request behind those of its priority."""
        priority, lower = entry.request.priority, self.lower
        if priority == self.priority:
            self.entries.append(entry)
            return
        if lower is None:
            lower = self.lower = {}
        if priority > self.priority:
            lower[self.priority] = self.entries
            self.priority = priority
            self.entries = deque((entry,))
        elif priority in lower:
            lower[priority].append(entry)
        else:
            lower[priority] = deque((entry,))

    def descend(self) -> deque[E]:
        """``entries`` are used up: go on with those of the next lower priority, if there are any."""
        if self.lower:
            self.priority = max(self.lower)
            self.entries = self.lower.pop(self.priority)
        return self.entries

    def sweep(self) -> bool:
        """Drop what has ended; returns whether anything is left."""
        self.entries = _living(self.entries)
        if self.lower is not None:
            self.lower = {priority: left for priority, entries in self.lower.items() if (left := _living(entries))}
        return bool(self.entries or self.descend())

    @property
    def oldest(self) -> list[E]:
        """The first living one of each priority: first come, first served among these."""
        queues = (self.entries, *(self.lower or {}).values())
        firsts = (next((entry for entry in queue if entry.state is not RequestState.ENDED), None) for queue in queues)
        return [first for first in firsts if first is not None]

    def __iter__(self) -> Iterator[E]:
        yield from self.entries
        lower = self.lower or {}
        for priority in sorted(lower, reverse=True):
            yield from lower[priority]


class FairQueue(Generic[E]):
    """The requests that wait for one service. Its length, ``count``, is that of the living ones.

    Iteration gives everything that lies here, dead or alive: what was put back, then client by client in the order of their
    turns. So the first living one is the next to be handed out.
    """

    __slots__ = ("_clients", "_dead_max", "_lines", "_returned", "count", "dead")

    def __init__(self, dead_max: int = DEAD_MAX) -> None:
        self._dead_max = dead_max
        self.count = 0
        self.dead = 0
        self._returned: deque[E] = deque()
        self._clients: deque[Hashable] = deque()  # whose turn is next stands first
        self._lines: dict[Hashable, E | _Line[E]] = {}  # most clients wait for one request, which needs no line

    def add(self, entry: E) -> None:
        """Let a new request wait behind the others of its client and its priority."""
        asking = entry.client
        client: Hashable = asking.name if asking.is_ticket else asking
        line = self._lines.setdefault(client, entry)
        if line is entry:
            self._clients.append(client)
        elif type(line) is _Line:
            if entry.request.priority == line.priority:  # the usual case, without a call
                line.entries.append(entry)
            else:
                line.add(entry)
        else:
            line = self._lines[client] = _Line(line)
            line.add(entry)
        self.count += 1

    def put_back(self, entry: E) -> None:
        """Let a request wait again that was taken, before everything else."""
        self._returned.appendleft(entry)
        self.count += 1

    def mark_dead(self) -> None:
        """Note that one of the living has ended. Its state says so before this queue is used for anything else."""
        self.count -= 1
        self.dead += 1

    def take(self, count: int, now: float) -> list[E]:
        """The next ``count`` requests, which no longer wait here; fewer if there are no more."""
        taken: list[E] = []
        clients, lines = self._clients, self._lines
        if self._returned:
            self._take_returned(taken, count)
        while clients and (room := count - len(taken)):
            if len(clients) > 1 and not self.dead:
                self._take_one_each(taken, min(room, len(clients)), now)
                continue
            client = clients.popleft()
            line = lines[client]
            if type(line) is _Line:
                self._take_from(line, taken, 1 if clients else room)
                if line.entries or line.descend():
                    line.since = now
                    clients.append(client)
                    continue
            elif line.state is RequestState.ENDED:
                self.dead -= 1
            else:
                taken.append(line)
            del lines[client]
        self.count -= len(taken)
        return taken

    def _take_one_each(self, taken: list[E], count: int, now: float) -> None:
        """Take one request of each of the next ``count`` clients, while nothing here is dead."""
        clients, lines = self._clients, self._lines
        for _ in range(count):
            client = clients.popleft()
            line = lines[client]
            if type(line) is _Line:
                taken.append(line.entries.popleft())
                if line.entries or line.descend():
                    line.since = now
                    clients.append(client)
                    continue
            else:
                taken.append(line)
            del lines[client]

    def _take_returned(self, taken: list[E], count: int) -> None:
        returned = self._returned
        while returned and len(taken) < count:
            entry = returned.popleft()
            if entry.state is RequestState.ENDED:
                self.dead -= 1
            else:
                taken.append(entry)

    def _take_from(self, line: _Line[E], taken: list[E], count: int) -> None:
        """Take up to ``count`` requests of one client."""
        entries = line.entries
        if not self.dead:  # the usual case
            share = min(count, len(entries))
            taken += [entries.popleft() for _ in range(share)]
            count -= share
        while count and (entries or (entries := line.descend())):
            entry = entries.popleft()
            if entry.state is RequestState.ENDED:
                self.dead -= 1
            else:
                taken.append(entry)
                count -= 1

    def before(self, entry: E, looked_max: int) -> int | None:
        """How many others are taken before ``entry``, which waits here, if nothing more comes; None: more than ``looked_max``
        would have to be looked at, dead ones and clients among them.
        """
        if len(self._returned) > looked_max:
            return None
        returned = [other for other in self._returned if other.state is not RequestState.ENDED]
        if entry in returned:
            return returned.index(entry)
        asking = entry.client
        mine: Hashable = asking.name if asking.is_ticket else asking
        looked_max -= len(self._returned)
        own, turns = self._lines[mine], 0  # the turns of each other client whose turn comes after mine
        for other in own if type(own) is _Line else [own]:
            if other is entry:
                break
            turns += other.state is not RequestState.ENDED
            looked_max -= 1
            if looked_max < 0:
                return None
        looked_max -= len(self._clients)
        count, others_turns = len(returned) + turns, turns + 1
        for client in self._clients:
            if looked_max < 0:
                return None
            if client == mine:
                others_turns = turns
                continue
            line = self._lines[client]
            taken = 0
            for other in line if type(line) is _Line else [line]:
                if taken == others_turns or looked_max < 0:
                    break
                looked_max -= 1
                taken += other.state is not RequestState.ENDED
            count += taken
        return None if looked_max < 0 else count

    @property
    def since(self) -> float:
        """Since when the client that is next has waited for its turn; infinity: nobody waits."""
        if not self.count:
            return math.inf
        if self._returned:
            return self._returned[0].waits_since
        line = self._lines[self._clients[0]]
        return line.since if type(line) is _Line else line.waits_since

    @property
    def oldest_since(self) -> float:
        """Since when the one has waited that has waited longest; infinity: nobody waits. It looks at every client."""
        if not self.count:
            return math.inf
        firsts = (line.oldest if type(line) is _Line else [line] for line in self._lines.values())
        return min(
            entry.waits_since for entry in chain(self._returned, *firsts) if entry.state is not RequestState.ENDED
        )

    def tidy(self) -> None:
        """Sweep the dead out if they are many, and more than the living."""
        if self.dead > self._dead_max and self.dead > self.count:
            lines = self._lines
            self._returned = _living(self._returned)
            self._lines = {
                client: line
                for client in self._clients
                if (line.sweep() if type(line := lines[client]) is _Line else line.state is not RequestState.ENDED)
            }
            self._clients = deque(self._lines)
            self.dead = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[E]:
        yield from self._returned
        for client in self._clients:
            line = self._lines[client]
            if type(line) is _Line:
                yield from line
            else:
                yield line


def _living(entries: deque[E]) -> deque[E]:
    return deque(entry for entry in entries if entry.state is not RequestState.ENDED)

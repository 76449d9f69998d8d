"""What every worker does around its core, whether its sockets and handlers are real, simulated or in memory.

The driver puts what has happened in order, steps the core, carries out its orders with the pool and the link that it was
given, and steps again with what those say at once, until no order is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cbw.core import messages
from cbw.core.port import UNSENT_RETRY_S
from cbw.core.worker import events
from cbw.core.worker.core import WorkerCore


class HandlerPool(Protocol):
    """What the driver needs of a pool that runs handlers."""

    def begin(self, tasks: list[messages.Task]) -> None:
        """Run these tasks when there is room."""

    def take_back(self, tasks: list[int]) -> list[int] | None:
        """Take back the ``tasks`` that have not begun, which are returned. None: a report will tell."""

    def cancel(self, task: int) -> None:
        """Stop ``task``, if that is possible; a report tells how it ended."""

    def grant(self, task: int, parts: int) -> None:
        """Let the answer to ``task`` have parts up to number ``parts``: there is room for them."""

    def end_overdue(self, task: int) -> messages.Answer | None:
        """``task`` has exceeded its time limit: end its handler, if that is possible, and return the answer for its client.

        None: it has ended before. Otherwise a report tells when the handler has ended.
        """

    def tell_stuck(self, task: int) -> None:
        """Record that the handler of ``task``, which was to end, has not, and what it does."""

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Record that nothing of this process has run for ``for_s`` seconds. ``is_busy``: it had tasks then."""

    def take_reports(self) -> Sequence[events.PoolFact]:
        """What has happened in the pool since the last call."""


class WorkerConnection(Protocol):
    """What the driver needs of a connection to a broker."""

    has_unsent: bool
    """Whether messages wait because the connection had no room for them."""

    def watch(self) -> Sequence[bool]:
        """True for each connection that was made since the last call, False for each that was lost, in order."""

    def receive(self) -> list[messages.Message] | None:
        """The next batch that has arrived; None: there is none."""

    def send(self, batch: list[messages.Message]) -> None:
        """Send what is still unsent, and ``batch`` behind it. What there is no room for stays unsent."""

    def reconnect(self) -> bool:
        """Drop the connection and begin a new one; False: that is not possible now."""


class Brokers(Protocol):
    """What the driver needs to reach more brokers than it was given connections to."""

    def look_up(self) -> None:
        """Begin to look up where the brokers are."""

    def take_found(self) -> list[str] | None:
        """The places that the last look-up has found; None: nothing new."""

    def connect(self, place: str) -> WorkerConnection:
        """A connection to the broker at ``place``, which is begun by its :meth:`~WorkerConnection.reconnect`."""

    def disconnect(self, link: WorkerConnection) -> None:
        """Close this connection."""


class WorkerDriver:
    """Owed by the shell: a :meth:`turn` whenever something has happened and by :attr:`wake_at`, until :attr:`is_over`.

    ``links`` are the connections of which the core knows. One thread at a time may call it.
    """

    def __init__(
        self, core: WorkerCore, pool: HandlerPool, *links: WorkerConnection, brokers: Brokers | None = None
    ) -> None:
        self.core = core
        self.is_over = False
        """Whether the worker has left, or is refused for good."""
        self._pool = pool
        self._links = dict(enumerate(links))
        self._brokers = brokers
        self._now = 0.0

    def turn(self, now: float, stop_by: float | None = None) -> None:
        """Take in everything that has happened, decide, and carry it out. ``stop_by``: leave, at that time at the latest."""
        links = self._links
        self._now = now
        if stop_by is not None:
            self._step([events.StopRequested(stop_by)], now)
        if self._brokers is not None and (found := self._brokers.take_found()) is not None:
            self._step([events.BrokersFound(found)], now)
        for number, link in [*links.items()]:
            if changes := link.watch():
                self._step([events.Connected(number) if each else events.Disconnected(number) for each in changes], now)
        self.report(now)  # answers go out before anything is read: clients wait for them
        batches: list[events.Fact] = []
        for number, link in links.items():
            while (batch := link.receive()) is not None:
                batches.append(events.BatchArrived(batch, number))
                if self.core.is_quick:
                    break  # to ask whether there is another would delay the answer to this one; the next turn finds it
        self._step(batches, now)
        for link in links.values():
            if link.has_unsent:
                link.send([])

    def report(self, now: float) -> None:
        """Take in only what has happened in the pool: its answers need not wait for the next turn."""
        facts = self._pool.take_reports()
        if facts:
            self._step(facts, now)

    @property
    def wake_at(self) -> float:
        """When the next :meth:`turn` is due even if nothing happens; infinity: never."""
        for link in self._links.values():
            if link.has_unsent:
                return min(self._now + UNSENT_RETRY_S, self.core.wake_at)
        return self.core.wake_at

    def _step(self, facts: Sequence[events.Fact], now: float) -> None:
        """Step the core, carry out its orders, and step again with what comes of them at once, until that is nothing."""
        while orders := self.core.step(facts, now):
            outcomes: list[events.Fact] = []
            for order in orders:
                if isinstance(order, events.Send):
                    self._links[order.connection].send(order.messages)
                elif isinstance(order, events.Begin):
                    self._pool.begin(order.tasks)
                elif (outcome := self._carry_out(order)) is not None:
                    outcomes.append(outcome)
            if not outcomes:
                return
            facts = outcomes

    def _carry_out(self, order: events.Order) -> events.Fact | None:
        """Carry out one of the rarer orders; the fact that comes of it at once, if any does."""
        match order:
            case events.TakeBack():
                returned = self._pool.take_back(order.tasks)
                return None if returned is None else events.TasksReturned(returned)
            case events.CancelTasks():
                for task in order.tasks:
                    self._pool.cancel(task)
            case events.GrantParts():
                self._pool.grant(order.task, order.parts)
            case events.EndOverdue():
                answers = map(self._pool.end_overdue, order.tasks)
                return events.TasksOverdue([answer for answer in answers if answer is not None])
            case events.TellStuck():
                for task in order.tasks:
                    self._pool.tell_stuck(task)
            case events.TellStoodStill():
                self._pool.tell_stood_still(order.for_s, is_busy=order.is_busy)
            case events.Reconnect():
                number = order.connection
                return None if self._links[number].reconnect() else events.ReconnectFailed(number)
            case events.LookUp() | events.Connect() | events.Disconnect():
                return self._change_links(order)
            case events.End():
                self.is_over = True
            case _:
                raise TypeError(f"unknown order {order!r}")
        return None

    def _change_links(self, order: events.LookUp | events.Connect | events.Disconnect) -> events.Fact | None:
        brokers = self._brokers
        assert brokers is not None, "a core that looks brokers up needs them"
        match order:
            case events.LookUp():
                brokers.look_up()
            case events.Connect():
                link = self._links[order.connection] = brokers.connect(order.place)
                return None if link.reconnect() else events.ReconnectFailed(order.connection)
            case events.Disconnect():
                brokers.disconnect(self._links.pop(order.connection))
        return None

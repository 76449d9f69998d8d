"""What every client does around its core, whether its connection is real, simulated or in memory.

The driver collects what the program asks for, puts it in order with what the link has to tell, steps the core, and carries
out its orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from cbw.core import messages
from cbw.core.client import events
from cbw.core.client.core import ClientCore


class ClientConnection(Protocol):
    """What the driver needs of the connection to the broker."""

    def watch(self) -> Iterable[bool]:
        """True for each connection that was made since the last call, False for each that was lost, in order.

        While one that was lost is told, :meth:`receive` still gives what had come over it.
        """

    def receive(self) -> list[messages.Message] | None:
        """The next batch that has arrived; None: there is none."""

    def send(self, batch: list[messages.Message]) -> list[messages.Message]:
        """Send ``batch``; the messages at its end that there was no room for."""


class ClientDriver:
    """Drives one :class:`~cbw.core.client.core.ClientCore`. One thread at a time may call it.

    :meth:`submit` and :meth:`cancel` only take note: after them a :meth:`flush` or a :meth:`turn` is owed. Whoever gets
    ended requests from a method owes the sink of each the news. ``on_resent`` is told the ids of requests that are sent
    once more. The first request gets the id ``first_id``.
    """

    def __init__(
        self,
        core: ClientCore,
        link: ClientConnection,
        *,
        on_resent: Callable[[Sequence[int]], None] | None = None,
        first_id: int = 1,
    ) -> None:
        self.core = core
        self.submitted = 0
        self._link = link
        self._on_resent = on_resent
        self.next_id = first_id
        self.on_news: Callable[[list[tuple[Any, messages.AnswerPart | messages.ProgressMade]]], None] = lambda news: (
            None
        )
        """Told of parts of answers and of progress, each with the sink of its request."""
        self._facts: list[events.Fact] = []
        self._goodbye: list[messages.Message] = []

    @property
    def in_flight(self) -> int:
        """How many requests have not ended."""
        return self.submitted - self.core.ended

    @property
    def has_news(self) -> bool:
        """Whether the program has asked for something that the core does not know yet."""
        return bool(self._facts)

    @property
    def wake_at(self) -> float:
        """When :meth:`turn` is due even if nothing happens; infinity: never."""
        return self.core.wake_at

    # --- what the program asks for

    def submit(
        self,
        service: str,
        bodies: list[bytes],
        deadline_at: float | None,
        sink: Any,
        priority: int = messages.PRIORITY,
        may_retry: bool = False,
        due_at: float | None = None,
        requires_worker: bool = False,
        headers: dict[str, str] | None = None,
        submitted_at: float | None = None,
    ) -> range:
        """Requests of the program; the ids that they get. The rest is as in :class:`~cbw.core.client.events.Submitted`."""
        first_id = self.next_id
        self.next_id += len(bodies)
        self.submitted += len(bodies)
        self._facts.append(
            events.Submitted(
                first_id,
                service,
                bodies,
                deadline_at,
                sink,
                priority,
                may_retry,
                due_at,
                requires_worker,
                headers,
                submitted_at,
            )
        )
        return range(first_id, self.next_id)

    def start(
        self,
        start: messages.Start,
        deadline_at: float | None,
        ends_at: float | None,
        sink: Any,
        due_at: float | None = None,
    ) -> int:
        """A request that outlives the program, as in :class:`~cbw.core.client.events.StartRequested`; the id that it gets."""
        start.id = self._take_id()
        self._facts.append(events.StartRequested(start, deadline_at, ends_at, sink, due_at))
        return start.id

    def collect(self, ticket: str, deadline_at: float | None, sink: Any) -> int:
        """The program wants the answer of such a request; the id that this gets."""
        key = self._take_id()
        self._facts.append(events.CollectRequested(key, ticket, deadline_at, sink))
        return key

    def stream(
        self,
        request: messages.StreamRequest,
        deadline_at: float | None,
        sink: Any,
        due_at: float | None = None,
        submitted_at: float | None = None,
    ) -> int:
        """An answer in parts or with its progress, as in :class:`~cbw.core.client.events.StreamRequested`; its id."""
        request.id = self._take_id()
        self._facts.append(events.StreamRequested(request, deadline_at, sink, due_at, submitted_at))
        return request.id

    def took(self, request_id: int, count: int) -> None:
        """The program has taken so many parts more."""
        self._facts.append(events.PartsTaken(request_id, count))

    def _take_id(self) -> int:
        key = self.next_id
        self.next_id += 1
        self.submitted += 1
        return key

    def cancel(self, request_ids: list[int]) -> None:
        """The program gives these requests up."""
        self._facts.append(events.CancelRequested(request_ids))

    # --- turns

    def flush(self, now: float) -> list[events.Ended]:
        """Do what the program asked for, without a look at the link; the requests that have ended."""
        facts, self._facts = self._facts, []
        return self._step(facts, now)

    def turn(self, now: float, *, has_changes: bool) -> list[events.Ended]:
        """One pass: take in everything that has happened, and do what is due; the requests that have ended.

        ``has_changes``: connections were made or lost since the last turn.
        """
        core, link = self.core, self._link
        ended: list[events.Ended] = []
        facts, self._facts = self._facts, []
        if has_changes:
            for is_connected in link.watch():
                if not is_connected:  # what it had answered is not to be asked again
                    while (batch := link.receive()) is not None:
                        facts.append(events.BatchArrived(batch))
                facts.append(events.Connected() if is_connected else events.Disconnected())
        while (batch := link.receive()) is not None:
            facts.append(events.BatchArrived(batch))
            ended += self._step(facts, now)
            if not core.in_flight:
                return ended  # nothing more is owed; to ask for another batch would delay these answers
            facts = []
        ended += self._step(facts, now)
        return ended

    def close(self, now: float) -> list[events.Ended]:
        """End everything: nothing can be submitted any more. The broker is told by :meth:`say_goodbye`."""
        ended: list[events.Ended] = []
        facts, self._facts = self._facts, []
        for order in self.core.step([*facts, events.CloseRequested()], now):
            if isinstance(order, events.End):
                ended += order.requests
            elif isinstance(order, events.Send):
                self._goodbye = order.messages
        return ended

    def say_goodbye(self) -> None:
        """Tell the broker, if there is a connection, that this client was closed."""
        if self._goodbye:
            self._link.send(self._goodbye)

    def _step(self, facts: list[events.Fact], now: float) -> list[events.Ended]:
        """Step the core, and carry out its orders, until there are none."""
        ended: list[events.Ended] = []
        while orders := self.core.step(facts, now):
            facts = []
            for order in orders:
                if type(order) is events.Send:
                    unsent = self._link.send(order.messages)
                    if unsent:
                        facts.append(events.Unsent(unsent))
                elif type(order) is events.End:
                    ended += order.requests
                elif type(order) is events.Deliver:
                    self.on_news(order.news)
                elif type(order) is events.ReportResent:
                    if self._on_resent is not None:
                        self._on_resent(order.request_ids)
                else:
                    raise TypeError(f"unknown order {order!r}")
            if not facts:
                break
        return ended

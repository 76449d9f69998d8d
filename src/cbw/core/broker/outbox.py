"""What comes out of a step of the broker: orders, one batch a peer; the records of its trace; counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cbw.core import catalogue
from cbw.core.broker.events import Event, SendToClient, SendToWorker, Side, TellDisplaced
from cbw.core.broker.tables import ClientRow, Entry, WorkerRow, request_name
from cbw.core.catalogue import EventName
from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.headers import TRACEPARENT, trace_of
from cbw.core.messages import Answer, CancelTask, Message, Status, error_body
from cbw.core.plain_messages import Envelope, PlainReply
from cbw.core.record import Record

RECORDS_MAX = 100
"""Records of one step while tracing is off: a flood of failures must not become a flood of log lines."""
BAD_MESSAGES_MAX = 100
"""Bad messages of one second that are told of, each in a line, while tracing is off. All are counted."""


class Outbox:
    """Filled by the rooms of the core during a step, whose time is ``now``, and emptied at its end.

    ``name`` is what the broker calls itself in its trace. Without ``is_tracing`` only what is out of the ordinary is
    recorded.
    """

    def __init__(self, name: str, *, is_tracing: bool) -> None:
        self.name = name
        self.is_tracing = is_tracing
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self._records: list[Record] = []
        self._bad_since, self._bad_left = 0.0, BAD_MESSAGES_MAX
        self._orders: list[Event] = []
        self._to_client: dict[bytes, SendToClient] = {}
        self._to_worker: dict[bytes, SendToWorker] = {}

    # --- orders

    def order(self, order: Event) -> None:
        """Give an order that concerns no single peer."""
        self._orders.append(order)

    def tell_client(self, client: ClientRow, message: Message) -> None:
        """Send ``message`` to a client, in one batch with everything else that this step sends to it."""
        out = self._to_client.get(client.peer)
        if out is not None and out.dialect is client.dialect:
            out.messages.append(message)
        else:
            self._client_batch(client.peer, client.dialect).append(message)

    def take_back(self, peer: bytes) -> list[Message]:
        """What this step was about to send to a client over its last connection: it has another now, or another program has."""
        out = self._to_client.pop(peer, None)
        return out.messages if out is not None else []

    def tell_displaced(self, peer: bytes, dialect: ClientDialect, envelope: Envelope) -> None:
        """Another program has asked as ``peer``: whoever was called so, and is still connected, must not wait in silence."""
        text = "another program has taken this id; start this one again with an id of its own"
        answer = Answer(0, Status.CANCELLED, error_body("id_taken", text))
        self.order(TellDisplaced(peer, [PlainReply(envelope, answer)], dialect))

    def tell_worker(self, worker: WorkerRow, message: Message) -> None:
        """Send ``message`` to a worker, in one batch with everything else that this step sends to it."""
        self.batch_for(worker).append(message)

    def tell_unwanted(self, worker: WorkerRow, task: int) -> None:
        """Tell ``worker`` that nobody wants the answer to ``task``. One that an earlier broker knew hears it when it is back."""
        if worker.peer:
            self.tell_worker(worker, CancelTask(task))

    def batch_for(self, worker: WorkerRow) -> list[Message]:
        """The batch that this step sends to ``worker``, to be added to."""
        return self._worker_batch(worker.peer, worker.dialect)

    def tell_strange_client(self, peer: bytes, dialect: ClientDialect, message: Message) -> None:
        """Send ``message`` to a peer that is in no table; only once, if it was the last that this step sent to it."""
        batch = self._client_batch(peer, dialect)
        if not (batch and batch[-1] == message):
            batch.append(message)

    def tell_strange_worker(self, peer: bytes, dialect: WorkerDialect, message: Message) -> None:
        """Send ``message`` to a peer that is in no table; only once, if it was the last that this step sent to it."""
        batch = self._worker_batch(peer, dialect)
        if not (batch and batch[-1] == message):
            batch.append(message)

    def _client_batch(self, peer: bytes, dialect: ClientDialect) -> list[Message]:
        out = self._to_client.get(peer)
        if out is None or out.dialect is not dialect:
            if out is not None:  # somebody with another dialect has this identity now
                self._orders.append(out)
            out = self._to_client[peer] = SendToClient(peer, [], dialect)
        return out.messages

    def _worker_batch(self, peer: bytes, dialect: WorkerDialect) -> list[Message]:
        out = self._to_worker.get(peer)
        if out is None or out.dialect is not dialect:
            if out is not None:
                self._orders.append(out)
            out = self._to_worker[peer] = SendToWorker(peer, [], dialect)
        return out.messages

    def take_orders(self) -> list[Event]:
        """What is to be done, in this order: ports, then workers, then clients."""
        orders, self._orders = self._orders, []
        if self._to_worker:
            orders.extend(self._to_worker.values())
            self._to_worker = {}
        if self._to_client:
            orders.extend(self._to_client.values())
            self._to_client = {}
        return orders

    # --- the trace

    @property
    def wants_failures(self) -> bool:
        """Whether failed attempts are recorded: even if tracing is off, as long as they do not become a flood."""
        return self.is_tracing or len(self._records) < RECORDS_MAX

    def trace(self, event: EventName, **fields: Any) -> None:
        """Record something that does not happen to every request: recorded even if tracing is off."""
        if self.wants_failures:
            self._records.append(Record(self.now, event, role="broker", sender=self.name, **fields))

    def trace_entry(self, event: EventName, entry: Entry, worker: WorkerRow | None = None, text: str = "") -> None:
        """Record what happens to a request. Ask for ``is_tracing`` first, or for ``wants_failures``."""
        self._records.append(
            Record(
                self.now,
                event,
                role="broker",
                sender=self.name,
                request=request_name(entry),
                client=entry.client.name,
                service=entry.request.service,
                worker=worker.name if worker else "",
                task=entry.task,
                attempt=entry.attempt,
                text=text,
                fields=_origin_of(entry) if event is catalogue.ACCEPTED else None,
            )
        )

    def take_records(self) -> list[Record]:
        """The trace since the last call."""
        records = self._records
        if records:
            self._records = []
        return records

    def count_bad(self, side: Side, who: str, why: str) -> None:
        """A peer sent what makes no sense (G10)."""
        self.counts["messages_bad"] += 1
        if self.now - self._bad_since >= 1.0:
            self._bad_since, self._bad_left = self.now, BAD_MESSAGES_MAX
        if self.is_tracing or self._bad_left > 0:
            self._bad_left -= 1
            self.trace(catalogue.BAD_MESSAGE, **{side.value: who}, text=why)


def _origin_of(entry: Entry) -> dict[str, Any] | None:
    """Whose key the request has come with, and of which trace it is a part."""
    fields, traceparent = entry.client.key.fields, trace_of(entry.request.headers)
    return {**(fields or {}), TRACEPARENT: traceparent} if traceparent else fields

"""What comes out of a step of the broker: orders, one batch a peer; the records of its trace; counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.tables import Entry, Worker, request_name

RECORDS_MAX = 100
"""Without tracing, no more records than this are made in a step: a flood of garbage must not become one of lines."""


class Outbox:
    """Filled by the broker's tables in the course of a step, whose time is ``now``, and emptied at its end.

    ``name`` is what the broker calls itself in its trace. Without ``is_tracing`` only what is out of the ordinary is
    recorded.
    """

    def __init__(self, name: str, *, is_tracing: bool) -> None:
        self.name = name
        self.is_tracing = is_tracing
        self.now = 0.0
        self.records: list[e.Record] = []
        self.counts: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.orders: list[e.Event] = []
        self.to_client: dict[bytes, list[m.Message]] = {}
        self.to_worker: dict[bytes, list[m.Message]] = {}

    def tell_client(self, peer: bytes, message: m.Message) -> None:
        """Say something to a CBW/1 client, in one batch with all else that it is told in this step."""
        self.to_client.setdefault(peer, []).append(message)

    def tell_worker(self, peer: bytes, message: m.Message) -> None:
        """The same to a CBW/1 worker."""
        self.to_worker.setdefault(peer, []).append(message)

    def take_orders(self) -> list[e.Event]:
        """What is to be done, in this order: plain peers and ports, then workers, then clients."""
        orders, self.orders = self.orders, []
        if self.to_worker:
            orders.extend(map(e.SendToWorker, self.to_worker, self.to_worker.values()))
            self.to_worker = {}
        if self.to_client:
            orders.extend(map(e.SendToClient, self.to_client, self.to_client.values()))
            self.to_client = {}
        return orders

    # --- the trace

    @property
    def wants_failures(self) -> bool:
        """Whether failed attempts are to be recorded: even if tracing is off, but for a flood."""
        return self.is_tracing or len(self.records) < RECORDS_MAX

    def trace(self, event: str, **fields: Any) -> None:
        """Record something that does not happen to every request: made even if tracing is off."""
        if self.wants_failures:
            self.records.append(e.Record(self.now, event, "broker", self.name, **fields))

    def trace_entry(self, event: str, entry: Entry, worker: Worker | None = None, text: str = "") -> None:
        """Record what happens to a request. Ask for ``is_tracing`` first, or for ``wants_failures``."""
        self.records.append(
            e.Record(
                self.now,
                event,
                "broker",
                self.name,
                request_name(entry),
                entry.client.name,
                entry.request.service,
                worker.name if worker else "",
                entry.task,
                entry.attempt,
                text,
            )
        )

    def count_bad(self, side: e.Side, who: str, why: str) -> None:
        """A peer sent what makes no sense (G10)."""
        self.counts["messages_bad"] += 1
        self.trace("bad_message", **{side.value: who}, text=why)

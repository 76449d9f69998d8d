"""A broker core and what its peers see, so that a test reads like a story."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.limits import Limits
from cbw.core.messages import Answer, Message, Status
from cbw.core.plain_messages import Envelope, PlainAnswer, PlainReady, PlainReply, PlainRequest, PlainTask
from cbw.core.record import Record
from cbw.wire import lab, native

# --- facts


def client_said(peer: bytes, batch: Sequence[Message]) -> events.ClientSaid:
    return events.ClientSaid(peer, batch, native.CLIENT)


def worker_said(peer: bytes, batch: Sequence[Message]) -> events.WorkerSaid:
    return events.WorkerSaid(peer, batch, native.WORKER)


def plain_said(
    peer: bytes, envelope: Envelope, body: bytes, is_replaced: bool = False, service: str = ""
) -> events.ClientSaid:
    return events.ClientSaid(peer, [PlainRequest(envelope, service, body)], lab.CLIENT, is_replaced)


def req_ready(peer: bytes) -> events.WorkerSaid:
    return events.WorkerSaid(peer, [PlainReady()], lab.LAB)


def req_said(peer: bytes, client: bytes | None, body: bytes) -> events.WorkerSaid:
    return events.WorkerSaid(peer, [PlainAnswer(client, body)], lab.LAB)


def reply_undelivered(peer: bytes, envelope: Envelope, answer: Answer) -> events.Undelivered:
    return events.Undelivered(events.Side.CLIENT, peer, [PlainReply(envelope, answer)])


class CoreSystem:
    """Tells facts to a :class:`BrokerCore`, checks its whole state after each (the more rows there are, the more seldom), and
    sorts its orders by peer.
    """

    def __init__(self, *, is_tracing: bool = True, **limits: Any) -> None:
        self.core = BrokerCore(limits=Limits(**limits), is_tracing=is_tracing)
        self.now = 100.0
        self.to: dict[str, list[messages.Message]] = defaultdict(list)
        self.plain_tasks: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
        self.plain_replies: dict[str, list[messages.Answer]] = defaultdict(list)
        self.others: list[events.Event] = []
        self.records: list[Record] = []
        self._steps = 0

    # --- time and facts

    def tell(self, *facts: events.Event) -> None:
        for order in self.core.step(list(facts), self.now):
            if not isinstance(order, events.SendToClient | events.SendToWorker):
                self.others.append(order)
                continue
            name = order.peer.decode()
            for message in order.messages:
                if isinstance(message, PlainTask):
                    self.plain_tasks[name].append((message.client, message.body))
                elif isinstance(message, PlainReply):
                    self.plain_replies[name].append(message.answer)
                else:
                    self.to[name].append(message)
        self.records += self.core.outbox.take_records()
        self._steps += 1
        if self._steps % (1 + (self.core.requests.count + len(self.core.workers.by_peer)) // 100) == 0:
            check(self.core)

    def wait(self, seconds: float, *beating: str) -> None:
        """Let time pass in small steps; the workers named go on beating."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.05)
            self.tell(*[worker_said(name.encode(), [messages.Beat()]) for name in beating])

    # --- CBW/1 peers: the connection is called like the peer unless told otherwise

    def client(self, name: str = "C1", *, boot: str = "b", peer: str = "") -> None:
        self.tell(client_said((peer or name).encode(), [messages.ClientHello(name, boot)]))

    def worker(
        self,
        name: str = "W1",
        *,
        boot: str = "b",
        services: tuple[str, ...] = ("s",),
        concurrency: int = 1,
        credit: int = 0,
        peer: str = "",
    ) -> None:
        hello = messages.WorkerHello(name, boot, list(services), concurrency, credit or concurrency)
        self.tell(worker_said((peer or name).encode(), [hello]))

    def ask(self, *ids: int, client: str = "C1", service: str = "s", ttl: float | None = None) -> None:
        self.tell(client_said(client.encode(), [messages.Request(i, service, b"%d" % i, ttl) for i in ids]))

    def answer(self, worker: str, *tasks: messages.Task, status: Status = Status.OK) -> None:
        said: list[messages.Message] = [messages.Answer(task.id, status, b"done " + task.body) for task in tasks]
        self.tell(worker_said(worker.encode(), said))

    def answer_all(self, worker: str) -> None:
        self.answer(worker, *self.take_tasks(worker))

    def lose_worker(self, worker: str) -> None:
        self.tell(events.PeerLost(events.Side.WORKER, worker.encode()))

    # --- what they have got

    def take(self, peer: str) -> list[messages.Message]:
        batch, self.to[peer] = self.to[peer], []
        return batch

    @property
    def fenced(self) -> list[tuple[str, str, str, str]]:
        """Whose late answers were fenced off, and which requests they were for, as the trace has it."""
        found = [record for record in self.records if record.event == "fenced"]
        return [(record.worker, record.request, record.client, record.service) for record in found]

    def take_tasks(self, worker: str) -> list[messages.Task]:
        return [message for message in self.take(worker) if isinstance(message, messages.Task)]

    def bodies(self, worker: str) -> list[int]:
        """The requests that ``worker`` has got since the last look, by their numbers."""
        return [int(task.body) for task in self.take_tasks(worker)]

    def replies(self, client: str) -> list[bytes]:
        """The bodies of all replies that a client without sessions has got."""
        return [answer.body for answer in self.plain_replies[client]]

    def answers(self, client: str = "C1") -> list[tuple[int, Status]]:
        return [(x.id, x.status) for x in self.take(client) if isinstance(x, messages.Answer)]

    def said(self, peer: str, kind: type[messages.Message]) -> bool:
        return any(type(message) is kind for message in self.take(peer))

    def events(self) -> list[str]:
        records, self.records = self.records, []
        return [record.event for record in records]

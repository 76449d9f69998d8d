"""A broker core and what its peers see, so that a test reads like a story."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import BrokerCore, Limits
from cbw.core.messages import Status


class System:
    """Tells facts to a :class:`BrokerCore`, checks its whole state after each, and sorts its orders by peer."""

    def __init__(self, *, is_tracing: bool = True, **limits: Any) -> None:
        self.core = BrokerCore(limits=Limits(**limits), is_tracing=is_tracing)
        self.now = 100.0
        self.to: dict[str, list[m.Message]] = defaultdict(list)
        self.plain_tasks: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
        self.plain_replies: dict[str, list[m.Answer]] = defaultdict(list)
        self.others: list[e.Event] = []

    # --- time and facts

    def tell(self, *facts: e.Event) -> None:
        for order in self.core.step(list(facts), self.now):
            match order:
                case e.SendToClient() | e.SendToWorker():
                    self.to[order.peer.decode()] += order.messages
                case e.SendPlainTask():
                    self.plain_tasks[order.peer.decode()].append((order.client, order.body))
                case e.SendPlainReply():
                    self.plain_replies[order.peer.decode()].append(order.answer)
                case _:
                    self.others.append(order)
        self.core.check()

    def wait(self, seconds: float, *beating: str) -> None:
        """Let time pass in small steps; the workers named go on beating."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.05)
            self.tell(*[e.WorkerSaid(name.encode(), [m.Beat()]) for name in beating])

    # --- CBW/1 peers: the connection is called like the peer unless told otherwise

    def client(self, name: str = "C1", *, boot: str = "b", peer: str = "") -> None:
        self.tell(e.ClientSaid((peer or name).encode(), [m.ClientHello(name, boot)]))

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
        hello = m.WorkerHello(name, boot, list(services), concurrency, credit or concurrency)
        self.tell(e.WorkerSaid((peer or name).encode(), [hello]))

    def ask(self, *ids: int, client: str = "C1", service: str = "s", ttl: float | None = None) -> None:
        self.tell(e.ClientSaid(client.encode(), [m.Request(i, service, b"%d" % i, ttl) for i in ids]))

    def answer(self, worker: str, *tasks: m.Task, status: Status = Status.OK) -> None:
        said: list[m.Message] = [m.Answer(task.id, status, b"done " + task.body) for task in tasks]
        self.tell(e.WorkerSaid(worker.encode(), said))

    def answer_all(self, worker: str) -> None:
        self.answer(worker, *self.take_tasks(worker))

    def lose_worker(self, worker: str) -> None:
        self.tell(e.PeerLost(e.Side.WORKER, worker.encode()))

    # --- what they have got

    def take(self, peer: str) -> list[m.Message]:
        messages, self.to[peer] = self.to[peer], []
        return messages

    def take_tasks(self, worker: str) -> list[m.Task]:
        return [message for message in self.take(worker) if isinstance(message, m.Task)]

    def bodies(self, worker: str) -> list[int]:
        """The requests that ``worker`` has got since the last look, by their numbers."""
        return [int(task.body) for task in self.take_tasks(worker)]

    def answers(self, client: str = "C1") -> list[tuple[int, Status]]:
        return [(x.id, x.status) for x in self.take(client) if isinstance(x, m.Answer)]

    def said(self, peer: str, kind: type[m.Message]) -> bool:
        return any(type(message) is kind for message in self.take(peer))

    def events(self) -> list[str]:
        records, self.core.records = self.core.records, []
        return [record.event for record in records]

"""What ``docs/reference/wire.md`` asks of a broker: a welcome first, one answer for each question, and to no worker more than it
wants, or another thing than it serves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.events import Event, Side

from .account import Accepted, SeenAttempt
from .world import ViolationError

EXACTNESS_S = 1e-6


class ToldClient:
    """Of one connection of a client of ours: what it has said, and what it was told, each by how often."""

    def __init__(self) -> None:
        self.owed: Counter[str] = Counter()
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.early: dict[int, None] = {}


class ToldWorker:
    """Of one connection of a worker of ours, since its last hello. ``earlier`` is the same since the hello before."""

    def __init__(self, hello: messages.WorkerHello, earlier: ToldWorker | None) -> None:
        self.is_welcome = False
        self.earlier: ToldWorker | None = None
        if earlier is not None and earlier.is_welcome:
            self.earlier, earlier.earlier = earlier, None
        self.services = hello.services
        self.credit = hello.credit
        self.begun = hello.tasks
        self.is_shared = False
        self.hand: dict[int, messages.Task | None] = {}  # None: it has begun that before this broker did
        self.parts: dict[int, int] = {}  # of streams: for how many there is room
        self.cancelled: dict[int, None] = {}


class BrokerManners:
    """Of one broker: compares what it says with what it has heard. Times of requests are known of one that ``has_no_journal``."""

    def __init__(self, *, has_no_journal: bool) -> None:
        self._has_no_journal = has_no_journal
        self._clients: dict[bytes, ToldClient] = {}
        self._workers: dict[bytes, ToldWorker] = {}
        self._beats: Counter[bytes] = Counter()  # by workers, not answered
        self._gone: dict[int, None] = {}  # tasks that have left their workers' hands with what this step has heard

    def clear(self) -> None:
        """The next broker has other connections."""
        self._clients.clear()
        self._workers.clear()
        self._beats.clear()

    # --- what it hears

    def heard(self, facts: Sequence[Event]) -> None:
        """It is about to be told this."""
        self._gone.clear()
        for fact in facts:
            match fact:
                case events.ClientSaid() if fact.dialect.has_sessions:
                    client = self._clients.setdefault(fact.peer, ToldClient())
                    for message in fact.messages:
                        _client_said(client, message)
                case events.WorkerSaid() if fact.dialect.returns_tasks:
                    for message in fact.messages:
                        self._worker_said(fact.peer, message)
                case events.PeerUnread() | events.Undelivered() if fact.side is Side.WORKER:
                    if (worker := self._workers.get(fact.peer)) is not None:
                        for message in fact.messages:
                            if isinstance(message, messages.Task):
                                self._takes(worker, message.id)
                case events.BadMessageArrived() if fact.side is Side.CLIENT:
                    self._clients.setdefault(fact.peer, ToldClient())
                case events.PeerUnread() if (known := self._clients.get(fact.peer)) is not None:
                    known.owed["HelloAgain"] += 1

    def _worker_said(self, peer: bytes, message: messages.Message) -> None:
        if isinstance(message, messages.WorkerHello):
            self._workers[peer] = ToldWorker(message, self._workers.get(peer))
        if isinstance(message, messages.Beat):
            self._beats[peer] += 1
        if (worker := self._workers.get(peer)) is None:
            return
        match message:
            case messages.Credit(tasks=credit, is_shared=is_shared):
                worker.credit, worker.is_shared = credit, is_shared
            case messages.Returned(tasks=tasks):
                for task in tasks:
                    self._takes(worker, task)
            case messages.Answer(id=task):
                self._takes(worker, task)

    def _takes(self, worker: ToldWorker, task: int) -> None:
        worker.hand.pop(task, None)
        self._gone[task] = None

    # --- what it says

    def says(
        self, orders: Sequence[Event], accepted: Mapping[int, Accepted], attempts: Mapping[int, SeenAttempt]
    ) -> None:
        """
        Raises:
            ViolationError: it must not say that.
        """
        for order in orders:
            if isinstance(order, events.SendToClient) and order.dialect.has_sessions:
                client = self._clients.get(order.peer)
                _need(client is not None, f"{order.messages} for {order.peer!r}, which has said nothing")
                for message in order.messages:
                    _tells_client(client or ToldClient(), message)
            elif isinstance(order, events.SendToWorker) and order.dialect.returns_tasks:
                for message in order.messages:
                    self._tells_worker(order.peer, message, accepted, attempts)

    def _tells_worker(
        self,
        peer: bytes,
        message: messages.Message,
        accepted: Mapping[int, Accepted],
        attempts: Mapping[int, SeenAttempt],
    ) -> None:
        if isinstance(message, messages.HelloAgain | messages.Refused | messages.Goodbye):
            return
        worker = self._workers.get(peer)
        if worker is None:
            raise ViolationError(f"wire: {message} for {peer!r}, which has not said hello")
        if worker.earlier is not None and not isinstance(
            message, messages.Welcome
        ):  # it was decided before the hello was read
            worker = worker.earlier
        _need(worker.is_welcome or isinstance(message, messages.Welcome), f"{message} for {peer!r} without a welcome")
        match message:
            case messages.Welcome(tasks=tasks):
                worker.is_welcome, worker.earlier = True, None
                worker.hand.update(dict.fromkeys(tasks))
            case messages.Beat():
                self._beats[peer] -= 1
                _need(self._beats[peer] >= 0, f"a beat for {peer!r}, which has not beaten")
            case messages.Task():
                self._gives(worker, message, accepted, attempts)
            case messages.Recall(tasks=tasks):
                strange = [task for task in tasks if task not in worker.hand and task not in self._gone]
                _need(not strange, f"{peer!r} is to give back {strange}, which it does not have")
            case messages.CancelTask(id=task):
                is_there = task in worker.hand or task in worker.begun or task in self._gone
                _need(
                    is_there and task not in worker.cancelled,
                    f"{peer!r} is told that nobody wants {task}, which it does not have, or knows",
                )
                worker.cancelled[task] = None
            case messages.PartsWanted(id=task, parts=parts):
                _need(
                    parts > worker.parts.get(task, parts), f"{peer!r} has room for {parts} parts of {task}, as before"
                )
                worker.parts[task] = parts
            case messages.Demand(service=service):
                _need(worker.is_shared and service in worker.services, f"{peer!r} shares nothing, and hears {message}")

    def _gives(
        self,
        worker: ToldWorker,
        task: messages.Task,
        accepted: Mapping[int, Accepted],
        attempts: Mapping[int, SeenAttempt],
    ) -> None:
        worker.hand[task.id] = task
        _need(
            len(worker.hand) <= worker.credit, f"task {task.id} is one of {[*worker.hand]}, of {worker.credit} wanted"
        )
        _need(task.service in worker.services, f"task {task.id} is for {task.service!r}, not {worker.services}")
        if isinstance(task, messages.StreamTask):
            worker.parts[task.id] = task.parts
        seen = accepted.get(attempts[task.id].request)
        if seen is None:
            return
        _need(task.attempt == 1 + seen.failed, f"task {task.id} is attempt {task.attempt} after {seen.failed} failed")
        left_s = None if seen.deadline_at is None else seen.deadline_at - attempts[task.id].handed_at
        is_so = (task.ttl is None) == (left_s is None)
        if task.ttl is not None and left_s is not None and self._has_no_journal:
            is_so = abs(task.ttl - left_s) < EXACTNESS_S
        if not is_so:
            raise ViolationError(f"G6: task {task.id} has {task.ttl} s, of {left_s} s")


def _client_said(client: ToldClient, message: messages.Message) -> None:
    match message:
        case messages.Request() | messages.Start() | messages.Collect():
            client.asked[message.id] += 1
            client.owed["HelloAgain"] += 1
        case messages.ClientHello():
            client.owed["Welcome"] += 1
            client.owed["Refused"] += 1
        case messages.Beat():
            client.owed["Beat"] += 1
            client.owed["HelloAgain"] += 1
        case _:
            client.owed["HelloAgain"] += 1


def _tells_client(client: ToldClient, message: messages.Message) -> None:
    match message:
        case messages.Welcome() | messages.Beat() | messages.HelloAgain():
            kind = type(message).__name__
            client.owed[kind] -= 1
            _need(client.owed[kind] >= 0, f"{message} for a client that has said nothing to get it for")
        case messages.Answer(id=number) | messages.Started(id=number):
            if number not in client.asked and number not in client.early:
                client.early[number] = (
                    None  # it was asked for over an earlier connection, and is about to be over this one
                )
                return
            client.answered[number] += 1
            is_wanted = client.answered[number] <= client.asked[number]
            _need(is_wanted, f"{client.answered[number]} answers to {number}, asked {client.asked[number]} times")


def _need(is_kept: bool, text: str) -> None:
    if not is_kept:
        raise ViolationError(f"wire: {text}")

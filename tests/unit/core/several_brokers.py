"""Brokers and the workers that serve all of them, in memory: what the cores say to each other takes a while to arrive."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable

from cbw.core import messages
from cbw.core.broker import events as broker_events
from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.messages import Answer, Status
from cbw.core.worker import events as worker_events
from cbw.core.worker.core import WorkerCore
from cbw.wire import native

HOP_S = 0.0002
"""Longest time that a message takes from one core to another, in seconds."""
CLIENT = b"client"


class World:
    """A clock, and what is still to happen."""

    def __init__(self, seed: int) -> None:
        self.now = 1.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (max(when, self.now), self._number, action))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until


class Wire:
    """One direction of a connection: what is sent arrives later, in order."""

    def __init__(self, world: World, arrive: Callable[[list[messages.Message]], None]) -> None:
        self._world = world
        self._arrive = arrive
        self._free_at = 0.0

    def send(self, batch: list[messages.Message]) -> None:
        world = self._world
        self._free_at = max(self._free_at, world.now + world.random.uniform(HOP_S / 4, HOP_S))
        world.at(self._free_at, lambda: self._arrive(batch))


def copied(batch: list[messages.Message], *, to_worker: bool) -> list[messages.Message]:
    """``batch`` as it comes out of the wire."""
    decode = native.to_worker if to_worker else native.from_worker
    return [message for frames, _ in native.encode(batch) for message in decode(frames)]


class Woken:
    """A core that is stepped when its timers are due."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_frozen = False
        self._woken_at = math.inf

    def wake_by(self, when: float) -> None:
        if when < self._woken_at:
            self._woken_at = when
            self.world.at(when, self._wake)

    def _wake(self) -> None:
        self._woken_at = math.inf
        if not self.is_frozen:
            self.step()

    def step(self) -> None:
        raise NotImplementedError


class SteppedBroker(Woken):
    def __init__(self, world: World, number: int, first_task: int) -> None:
        super().__init__(world)
        self.number = number
        self.core = BrokerCore(name=f"BRO{number}", boot=f"boot {number}", first_task=first_task)
        self.workers: dict[bytes, SteppedWorker] = {}
        self.answers: list[Answer] = []
        self.asked = 0
        self._facts: deque[broker_events.Event] = deque()
        self.hear(broker_events.ClientSaid(CLIENT, [messages.ClientHello("C", "b")], native.CLIENT))

    def hear(self, fact: broker_events.Event) -> None:
        self._facts.append(fact)
        if not self.is_frozen:
            self.step()

    def ask(self, body: bytes, service: str = "s") -> None:
        self.asked += 1
        request = messages.Request(self.asked, service, body)
        self.hear(broker_events.ClientSaid(CLIENT, [request], native.CLIENT))

    def step(self) -> None:
        facts, self._facts = [*self._facts], deque()
        for order in self.core.step(facts, self.world.now):
            match order:
                case broker_events.SendToClient():
                    self.answers += [message for message in order.messages if isinstance(message, Answer)]
                case broker_events.SendToWorker():
                    if (worker := self.workers.get(order.peer)) is not None:
                        worker.wires[self.number].send(copied([*order.messages], to_worker=True))
        check(self.core)
        self.wake_by(self.core.wake_at)

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        self.step()

    @property
    def waiting(self) -> int:
        return sum(service.waiting_count for service in self.core.requests.dispatcher.services.values())


class SteppedWorker(Woken):
    """Its handlers take as many seconds as the body of a request says."""

    def __init__(self, world: World, name: str, brokers: list[SteppedBroker], concurrency: int) -> None:
        super().__init__(world)
        self.name = name
        self.peer = name.encode()
        places = [str(broker.number) for broker in brokers]
        self.core = WorkerCore(name, f"{name} boot", ["s"], concurrency, b"p" * 16, places=places)
        self.concurrency = concurrency
        self.queue: deque[messages.Task] = deque()
        self.running: dict[int, float] = {}
        self.returned = 0
        self.brokers: dict[int, SteppedBroker] = {}
        self.wires: dict[int, Wire] = {}
        self._back: dict[int, Wire] = {}
        self._facts: list[worker_events.Fact] = []
        self.most_in_hand = 0
        for number, broker in enumerate(brokers):
            self.meet(number, broker)

    def meet(self, number: int, broker: SteppedBroker) -> None:
        """There is a connection between the two."""
        self.brokers[number] = broker
        broker.workers[self.peer] = self
        self.wires[broker.number] = Wire(self.world, lambda batch: self.hear(worker_events.BatchArrived(batch, number)))
        self._back[number] = Wire(
            self.world, lambda batch: broker.hear(broker_events.WorkerSaid(self.peer, batch, native.WORKER))
        )
        self.hear(worker_events.Connected(number))

    def lose(self, number: int) -> None:
        """The connection is lost; both sides learn it."""
        broker = self.brokers.pop(number)
        del broker.workers[self.peer], self.wires[broker.number], self._back[number]
        self.hear(worker_events.Disconnected(number))
        broker.hear(broker_events.PeerLost(broker_events.Side.WORKER, self.peer))

    def hear(self, fact: worker_events.Fact) -> None:
        if isinstance(fact, worker_events.BatchArrived) and fact.connection not in self.brokers:
            return  # it was on its way over a connection that is lost
        self._facts.append(fact)
        self.step()

    def step(self) -> None:
        while True:
            facts, self._facts = self._facts, []
            for order in self.core.step(facts, self.world.now):
                self._carry_out(order)
            if not self._facts:
                break
        self.most_in_hand = max(self.most_in_hand, len(self.core.in_hand))
        self.wake_by(self.core.wake_at)

    def _carry_out(self, order: worker_events.Order) -> None:
        match order:
            case worker_events.Send():
                self.returned += sum(len(each.tasks) for each in order.messages if isinstance(each, messages.Returned))
                if (wire := self._back.get(order.connection)) is not None:
                    wire.send(copied(order.messages, to_worker=False))
            case worker_events.Begin():
                self.queue.extend(order.tasks)
                self._begin()
            case worker_events.TakeBack():
                back = [task.id for task in self.queue if task.id in order.tasks]
                self.queue = deque(task for task in self.queue if task.id not in back)
                self._facts.append(worker_events.TasksReturned(back))

    def _begin(self) -> None:
        while self.queue and len(self.running) < self.concurrency:
            task = self.queue.popleft()
            work_s = float(bytes(task.body))
            self.running[task.id] = work_s
            self.world.at(self.world.now + work_s, lambda done=task.id: self._finish(done))  # type: ignore[misc]

    def _finish(self, task: int) -> None:
        work_s = self.running.pop(task)
        self._begin()
        self.hear(worker_events.TasksFinished([Answer(task, Status.OK, b"done")], work_s))

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.queue


class Cluster:
    """``brokers`` brokers, and one worker for each number of ``concurrency``."""

    def __init__(self, seed: int, brokers: int, concurrency: list[int], *, apart: int = 1 << 20) -> None:
        """The numbers of the brokers' tasks begin ``apart`` from each other."""
        self.world = World(seed)
        self.brokers = [SteppedBroker(self.world, number, 1 + number * apart) for number in range(brokers)]
        self.workers = [
            SteppedWorker(self.world, f"W{number}", self.brokers, slots) for number, slots in enumerate(concurrency)
        ]
        self.world.run(self.world.now + 0.1)

    def run(self, seconds: float, look_every_s: float = 0.001) -> list[float]:
        """Let time pass. Returns how long some worker was idle while some request waited, each time."""
        world, end = self.world, self.world.now + seconds
        since: float | None = None
        waits: list[float] = []
        while world.now < end:
            world.run(min(end, world.now + look_every_s))
            is_wanted = any(broker.waiting for broker in self.brokers if not broker.is_frozen)
            is_wrong = is_wanted and any(worker.is_idle for worker in self.workers)
            if is_wrong and since is None:
                since = world.now
            elif not is_wrong and since is not None:
                waits.append(world.now - since)
                since = None
        if since is not None:
            waits.append(world.now - since)
        return waits

    @property
    def answered(self) -> list[int]:
        return [len(broker.answers) for broker in self.brokers]

    def check(self) -> None:
        """Every request was answered once and well, and no worker had more in hand than it wanted."""
        for broker in self.brokers:
            numbers = Counter(answer.id for answer in broker.answers)
            assert set(numbers) == set(range(1, broker.asked + 1)), "an answer is missing"
            assert set(numbers.values()) <= {1}, "answered twice"
            assert {answer.status for answer in broker.answers} <= {Status.OK}

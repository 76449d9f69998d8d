"""The broker core against peers that do anything at any time (Hypothesis), with its whole state checked at each step."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import BrokerCore, Limits
from cbw.core.messages import Status

CLIENTS, WORKERS = ("C1", "C2"), ("W1", "W2", "W3")
SERVICES = ("", "s")


class BrokerMachine(RuleBasedStateMachine):
    """What peers may rely on, whatever they and the network do: each rule is one fact."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.core = BrokerCore(limits=Limits(requests_max=6, attempts_max=2, absence_s=5.0), is_tracing=True)
        self.now = 10.0
        self.generation = 0
        self.next_id = 0
        self.peer_of: dict[str, bytes] = {}
        self.asked: dict[tuple[str, int], bytes] = {}
        self.ended: Counter[tuple[str, int]] = Counter()
        self.given: dict[int, tuple[bytes, m.Task]] = {}

    def step(self, *facts: e.Event) -> list[m.Task]:
        given: list[m.Task] = []
        orders = self.core.step(facts, self.now)
        self.core.records.clear()
        for order in orders:
            if isinstance(order, e.SendToWorker):
                tasks = [message for message in order.messages if isinstance(message, m.Task)]
                for task in tasks:
                    assert task.ttl is None or task.ttl > 0, "expired work was handed out"
                    assert task.id not in self.given, "one task id, two attempts"
                    self.given[task.id] = (order.peer, task)
                given += tasks
            elif isinstance(order, e.SendToClient):
                self.answers(order)
        return given

    def answers(self, order: e.SendToClient) -> None:
        name = next(name for name, peer in self.peer_of.items() if peer == order.peer)
        for answer in order.messages:
            if isinstance(answer, m.Answer):
                asked = self.asked[name, answer.id]  # G1: a request of its own
                self.ended[name, answer.id] += 1
                assert self.ended[name, answer.id] == 1, "a request ended twice"  # G4
                if answer.status is Status.OK:
                    assert answer.body == b"done " + asked

    @rule(name=st.sampled_from(CLIENTS))
    def client_connects(self, name: str) -> None:
        if name not in self.peer_of:
            self.generation += 1
            self.peer_of[name] = b"%s.%d" % (name.encode(), self.generation)
            self.step(e.ClientSaid(self.peer_of[name], [m.ClientHello(name, "boot")]))

    @rule(name=st.sampled_from(CLIENTS))
    def client_is_cut_off(self, name: str) -> None:
        if peer := self.peer_of.pop(name, None):
            self.step(e.PeerLost(e.Side.CLIENT, peer))

    @rule(
        target=tasks,
        name=st.sampled_from(CLIENTS),
        count=st.integers(1, 4),
        service=st.sampled_from(SERVICES),
        ttl=st.none() | st.sampled_from([0.1, 1.0, 9.0]),
    )
    def ask(self, name: str, count: int, service: str, ttl: float | None) -> Any:
        if name not in self.peer_of:
            return []
        requests: list[m.Message] = []
        for _ in range(count):
            self.next_id += 1
            body = b"%s/%d" % (name.encode(), self.next_id)
            self.asked[name, self.next_id] = body
            requests.append(m.Request(self.next_id, service, body, ttl))
        return self.step(e.ClientSaid(self.peer_of[name], requests))

    @rule(name=st.sampled_from(CLIENTS), data=st.data())
    def cancel(self, name: str, data: st.DataObject) -> None:
        mine = [number for client, number in self.asked if client == name]
        if name in self.peer_of and mine:
            number = data.draw(st.sampled_from(mine))
            self.step(e.ClientSaid(self.peer_of[name], [m.Cancel(number)]))

    @rule(
        target=tasks,
        name=st.sampled_from(WORKERS),
        boot=st.sampled_from(["one", "two"]),
        concurrency=st.integers(1, 3),
        credit=st.integers(0, 6),
        services=st.lists(st.sampled_from(SERVICES), min_size=1, max_size=2),
    )
    def worker_connects(self, name: str, boot: str, concurrency: int, credit: int, services: list[str]) -> Any:
        self.generation += 1
        hello = m.WorkerHello(name, boot, services, concurrency, credit)
        return self.step(e.WorkerSaid(b"%s.%d" % (name.encode(), self.generation), [hello]))

    def worker(self, number: int) -> bytes | None:
        peers = list(self.core.workers)
        return peers[number % len(peers)] if peers else None

    @rule(target=tasks, number=st.integers(0, 5), is_told=st.booleans())
    def worker_is_lost(self, number: int, is_told: bool) -> Any:
        peer = self.worker(number)
        if peer is None:
            return []
        return self.step(e.WorkerSaid(peer, [m.Goodbye()]) if is_told else e.PeerLost(e.Side.WORKER, peer))

    @rule(target=tasks, number=st.integers(0, 5), credit=st.integers(0, 8))
    def credit_changes(self, number: int, credit: int) -> Any:
        peer = self.worker(number)
        return [] if peer is None else self.step(e.WorkerSaid(peer, [m.Credit(credit)]))

    @rule(target=tasks, given=tasks, status=st.sampled_from([Status.OK, Status.OK, Status.FAILED, Status.CRASHED]))
    def answer(self, given: list[m.Task], status: Status) -> Any:
        """Also for tasks that were answered before, taken away, or are somebody else's by now."""
        if not given:
            return []
        peer, task = self.given[given[0].id]
        return self.step(e.WorkerSaid(peer, [m.Answer(task.id, status, b"done " + task.body)]))

    @rule(target=tasks, given=tasks)
    def answer_all(self, given: list[m.Task]) -> Any:
        said = [e.WorkerSaid(self.given[t.id][0], [m.Answer(t.id, Status.OK, b"done " + t.body)]) for t in given]
        return self.step(*said)

    @rule(target=tasks, given=tasks, number=st.integers(0, 5))
    def answer_for_another(self, given: list[m.Task], number: int) -> Any:
        peer = self.worker(number)
        if peer is None or not given or self.given[given[0].id][0] == peer:
            return []
        return self.step(e.WorkerSaid(peer, [m.Answer(given[0].id, Status.OK, b"done by a liar")]))

    @rule(target=tasks, given=tasks)
    def return_tasks(self, given: list[m.Task]) -> Any:
        if not given:
            return []
        return self.step(e.WorkerSaid(self.given[given[0].id][0], [m.Returned([task.id for task in given])]))

    @rule(target=tasks, given=tasks)
    def tasks_are_undelivered(self, given: list[m.Task]) -> Any:
        if not given:
            return []
        return self.step(e.Undelivered(e.Side.WORKER, self.given[given[0].id][0], list(given)))

    @rule(target=tasks, seconds=st.sampled_from([0.0, 0.006, 0.2, 1.0, 4.0]), are_beating=st.booleans())
    def time_passes(self, seconds: float, are_beating: bool) -> Any:
        self.now += seconds
        beats = [e.WorkerSaid(peer, [m.Beat()]) for peer in self.core.workers] if are_beating else []
        return self.step(*beats)

    @invariant()
    def the_state_makes_sense(self) -> None:
        self.core.check()

    def teardown(self) -> None:
        """In the end there is a worker for everything: every request of a client that is there ends."""
        for name in CLIENTS:
            self.client_connects(name)
        for round_ in range(40):
            self.now += 0.3
            hello = m.WorkerHello("last", "boot", list(SERVICES), 3, 3)
            facts: list[e.Event] = [] if round_ else [e.WorkerSaid(b"last", [hello])]
            given = self.step(*facts, e.WorkerSaid(b"last", [m.Beat()]))
            while given:
                mine = [task for task in given if self.given[task.id][0] == b"last"]
                said: list[m.Message] = [m.Answer(task.id, Status.OK, b"done " + task.body) for task in mine]
                given = self.step(e.WorkerSaid(b"last", said)) if said else []
        assert self.core.requests == 0, "stuck"


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

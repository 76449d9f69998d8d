"""The broker core against peers that do anything at any time (Hypothesis), with its whole state checked at each step."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from cbw.core import messages
from cbw.core.broker import acts, dead_services, events, looks
from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.limits import Limits
from cbw.core.messages import Status
from tests.unit.core.broker.system import client_said, worker_said

CLIENTS, WORKERS = ("C1", "C2"), ("W1", "W2", "W3")
SERVICES = ("", "s")
ACTS = {
    b'{"limit": 2}': dead_services.LIST,
    b'{"all": true}': dead_services.REQUEUE,
    b'{"all": true, "ttl_s": 1}': dead_services.REQUEUE,
    b'{"all": true, "limit": 1}': dead_services.DROP,
    b'{"service": "s"}': acts.PURGE,
    b'{"requests": ["C1/1", "C2/2", "C1/3", "C2/4"]}': acts.CANCEL,
    b'{"workers": ["W1"]}': acts.DRAIN,
    b'{"workers": ["W1", "W2"]}': acts.UNDRAIN,
    b'{"services": ["s"]}': acts.PAUSE,
    b'{"services": ["s", "t"]}': acts.RESUME,
    b'{"request": "C1/1"}': looks.TELL_WHY,
    b'{"limit": 3}': looks.LIST_REQUESTS,
}


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
        self.given: dict[int, tuple[bytes, messages.Task]] = {}
        self.due_at: dict[bytes, float] = {}
        self.retries: Counter[bytes] = Counter()

    def step(self, *facts: events.Event) -> list[messages.Task]:
        given: list[messages.Task] = []
        orders = self.core.step(facts, self.now)
        self.core.outbox.take_records()
        for order in orders:
            if isinstance(order, events.SendToWorker):
                tasks = [message for message in order.messages if isinstance(message, messages.Task)]
                for task in tasks:
                    assert task.ttl is None or task.ttl > 0, "expired work was handed out"
                    assert task.id not in self.given, "one task id, two attempts"
                    assert self.due_at[task.body] <= self.now, "handed out before its time"
                    assert task.retries <= self.retries[task.body], "retries that nobody has asked for"
                    self.given[task.id] = (order.peer, task)
                given += tasks
            elif isinstance(order, events.SendToClient):
                self.answers(order)
        return given

    def answers(self, order: events.SendToClient) -> None:
        name = next(name for name, peer in self.peer_of.items() if peer == order.peer)
        for answer in order.messages:
            if isinstance(answer, messages.Answer):
                asked = self.asked[name, answer.id]  # G1: a request of its own
                self.ended[name, answer.id] += 1
                assert self.ended[name, answer.id] == 1, "a request ended twice"  # G4
                if answer.status is Status.OK and asked not in ACTS:
                    assert answer.body == b"done " + asked

    @rule(name=st.sampled_from(CLIENTS))
    def client_connects(self, name: str) -> None:
        if name not in self.peer_of:
            self.generation += 1
            self.peer_of[name] = b"%s.%d" % (name.encode(), self.generation)
            self.step(client_said(self.peer_of[name], [messages.ClientHello(name, "boot")]))

    @rule(name=st.sampled_from(CLIENTS))
    def client_is_cut_off(self, name: str) -> None:
        if peer := self.peer_of.pop(name, None):
            self.step(events.PeerLost(events.Side.CLIENT, peer))

    @rule(
        target=tasks,
        name=st.sampled_from(CLIENTS),
        count=st.integers(1, 4),
        service=st.sampled_from(SERVICES),
        ttl=st.none() | st.sampled_from([0.1, 1.0, 9.0]),
        delay_s=st.sampled_from([0.0, 0.0, 0.15, 2.0]),
    )
    def ask(self, name: str, count: int, service: str, ttl: float | None, delay_s: float) -> Any:
        if name not in self.peer_of:
            return []
        requests: list[messages.Message] = []
        for _ in range(count):
            self.next_id += 1
            body = b"%s/%d" % (name.encode(), self.next_id)
            self.asked[name, self.next_id] = body
            requests.append(messages.Request(self.next_id, service, body, ttl, delay_s=delay_s))
            self.due_at[body] = self.now + delay_s
        return self.step(client_said(self.peer_of[name], requests))

    @rule(target=tasks, name=st.sampled_from(CLIENTS), act=st.sampled_from(list(ACTS)))
    def control(self, name: str, act: bytes) -> Any:
        if name not in self.peer_of:
            return []
        self.next_id += 1
        self.asked[name, self.next_id] = act
        given = self.step(client_said(self.peer_of[name], [messages.Request(self.next_id, ACTS[act], act)]))
        assert self.ended[name, self.next_id] == 1, "the broker has not answered at once"
        return given

    @rule(name=st.sampled_from(CLIENTS), data=st.data())
    def cancel(self, name: str, data: st.DataObject) -> None:
        mine = [number for client, number in self.asked if client == name]
        if name in self.peer_of and mine:
            number = data.draw(st.sampled_from(mine))
            self.step(client_said(self.peer_of[name], [messages.Cancel(number)]))

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
        hello = messages.WorkerHello(name, boot, services, concurrency, credit)
        return self.step(worker_said(b"%s.%d" % (name.encode(), self.generation), [hello]))

    def worker(self, number: int) -> bytes | None:
        peers = list(self.core.workers.by_peer)
        return peers[number % len(peers)] if peers else None

    @rule(target=tasks, number=st.integers(0, 5), is_told=st.booleans())
    def worker_is_lost(self, number: int, is_told: bool) -> Any:
        peer = self.worker(number)
        if peer is None:
            return []
        return self.step(
            worker_said(peer, [messages.Goodbye()]) if is_told else events.PeerLost(events.Side.WORKER, peer)
        )

    @rule(target=tasks, number=st.integers(0, 5), credit=st.integers(0, 8))
    def credit_changes(self, number: int, credit: int) -> Any:
        peer = self.worker(number)
        return [] if peer is None else self.step(worker_said(peer, [messages.Credit(credit)]))

    @rule(target=tasks, given=tasks, status=st.sampled_from([Status.OK, Status.OK, Status.FAILED, Status.CRASHED]))
    def answer(self, given: list[messages.Task], status: Status) -> Any:
        """Answer a task, also one of those that were answered before, taken away, or are somebody else's by now."""
        if not given:
            return []
        peer, task = self.given[given[0].id]
        return self.step(worker_said(peer, [messages.Answer(task.id, status, b"done " + task.body)]))

    @rule(target=tasks, given=tasks, after_s=st.none() | st.sampled_from([0.0, 0.15, 2.0]))
    def fail_and_try_again(self, given: list[messages.Task], after_s: float | None) -> Any:
        """The answer may be void."""
        if not given:
            return []
        peer, task = self.given[given[0].id]
        self.retries[task.body] += 1
        before = self.core.outbox.counts["requests_retried"]
        answer = messages.Answer(task.id, Status.RETRY, messages.error_body("ValueError", ""), after_s)
        now_given = self.step(worker_said(peer, [answer]))
        if self.core.outbox.counts["requests_retried"] > before:
            self.due_at[task.body] = max(self.due_at[task.body], self.now + (after_s or 0.0))
        return now_given

    @rule(target=tasks, given=tasks)
    def answer_all(self, given: list[messages.Task]) -> Any:
        said = [worker_said(self.given[t.id][0], [messages.Answer(t.id, Status.OK, b"done " + t.body)]) for t in given]
        return self.step(*said)

    @rule(target=tasks, given=tasks, number=st.integers(0, 5))
    def answer_for_another(self, given: list[messages.Task], number: int) -> Any:
        peer = self.worker(number)
        if peer is None or not given or self.given[given[0].id][0] == peer:
            return []
        return self.step(worker_said(peer, [messages.Answer(given[0].id, Status.OK, b"done by a liar")]))

    @rule(target=tasks, given=tasks)
    def return_tasks(self, given: list[messages.Task]) -> Any:
        if not given:
            return []
        return self.step(worker_said(self.given[given[0].id][0], [messages.Returned([task.id for task in given])]))

    @rule(target=tasks, given=tasks)
    def tasks_are_undelivered(self, given: list[messages.Task]) -> Any:
        if not given:
            return []
        return self.step(events.Undelivered(events.Side.WORKER, self.given[given[0].id][0], list(given)))

    @rule(target=tasks, seconds=st.sampled_from([0.0, 0.006, 0.2, 1.0, 4.0]), are_beating=st.booleans())
    def time_passes(self, seconds: float, are_beating: bool) -> Any:
        self.now += seconds
        beats = [worker_said(peer, [messages.Beat()]) for peer in self.core.workers.by_peer] if are_beating else []
        return self.step(*beats)

    @invariant()
    def the_state_makes_sense(self) -> None:
        check(self.core)

    def teardown(self) -> None:
        """In the end there is a worker for everything: every request of a client that is there ends."""
        for name in CLIENTS:
            self.client_connects(name)
        self.control("C1", b'{"services": ["s", "t"]}')
        for round_ in range(40):
            self.now += 0.3
            hello = messages.WorkerHello("last", "boot", list(SERVICES), 3, 3)
            facts: list[events.Event] = [] if round_ else [worker_said(b"last", [hello])]
            given = self.step(*facts, worker_said(b"last", [messages.Beat()]))
            while given:
                mine = [task for task in given if self.given[task.id][0] == b"last"]
                said: list[messages.Message] = [
                    messages.Answer(task.id, Status.OK, b"done " + task.body) for task in mine
                ]
                given = self.step(worker_said(b"last", said)) if said else []
        assert self.core.requests.count == 0, "stuck"


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

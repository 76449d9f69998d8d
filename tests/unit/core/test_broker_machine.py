"""The broker core against peers and a network that do anything at any time (Hypothesis), checked after every step.

The peers are modelled here: what each has asked for, what each has in hand, which connections are dead although the
broker does not know it yet. A body names its request, and an answer names the attempt that it comes from, so everybody
sees at once what is not his. In the end all faults stop, and then every request must end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Enum, auto

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import LAB_SERVICE, BrokerCore, Limits
from cbw.core.messages import Status

SERVICES = (LAB_SERVICE, "s")
ENVELOPES: tuple[tuple[bytes, ...], ...] = ((b"",), (b"id", b""))
STRANGE = Status.BUSY
"""A status that a worker may not give."""
SETTLED_S = 30.0
"""So long after the last fault every request has ended: three silent workers, late ones, and a window to return."""
FACTS_HELD_MAX = 6
TURNS_MAX = 8
"""The broker takes at most so many turns while time passes, even if it asks for more."""

names = st.sampled_from
picks = st.integers(0, 7)


class Fault(Enum):
    """What becomes of messages to a dead connection that the broker believes in."""

    UNREACHABLE = auto()  #: it is told that they were not sent
    SWALLOWING = auto()  #: they are sent, and arrive nowhere


@dataclass
class Asked:
    """A request, as who asked for it sees it."""

    token: str
    service: str
    body: bytes
    deadline_at: float | None
    is_cancelled: bool = False
    is_owed: bool = True  # False: it may have been forgotten, its client was away too long


@dataclass
class NativeClient:
    name: str
    peer: bytes = b""  # none while it has no connection
    boot: int = 0
    waits: dict[int, Asked] = field(default_factory=dict)


@dataclass
class PlainClient:
    """A REQ socket, or a DEALER that tells its requests apart by their envelopes."""

    name: str
    peer: bytes
    connection: int = 0
    spoke_over: int | None = None
    cut_at: float | None = None
    waits: dict[tuple[bytes, ...], Asked] = field(default_factory=dict)


@dataclass
class NativeWorker:
    name: str
    peer: bytes = b""
    boot: int = 0
    services: list[str] = field(default_factory=list)
    concurrency: int = 1
    credit: int = 1
    is_frozen: bool = False
    hand: dict[int, bytes] = field(default_factory=dict)  # task id → the answer that it will give
    void: dict[int, bytes] = field(default_factory=dict)  # of sessions that are over
    recalled: list[int] = field(default_factory=list)


@dataclass
class PlainWorker:
    """A REQ worker: it can do nothing but answer what it has in hand."""

    name: str
    peer: bytes
    is_running: bool = False
    hand: tuple[bytes, bytes] | None = None
    is_hand_old: bool = False  # it was given over another connection


class BrokerMachine(RuleBasedStateMachine):
    """What peers may rely on. Each rule is something that a peer or the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.serial = 0
        self.clients = {name: NativeClient(name) for name in ("C1", "C2")}
        self.plain_clients = {name: PlainClient(name, name.encode()) for name in ("P1", "P2")}
        self.plain_clients["anonymous"] = PlainClient("anonymous", b"\0\0\0\0\1")
        self.workers = {name: NativeWorker(name) for name in ("W1", "W2", "W3")}
        self.plain_workers = {name: PlainWorker(name, name.encode()) for name in ("PW1", "PW2")}
        self.plain_workers["anonymous"] = PlainWorker("anonymous", b"\0\0\0\0\2")
        self.faults: dict[tuple[e.Side, bytes], Fault] = {}
        self.unnoticed: dict[tuple[e.Side, bytes], None] = {}
        self.asked: dict[str, Asked] = {}
        self.attempts: Counter[str] = Counter()  # those that may have begun, and were not given back
        self.live_answer: dict[str, bytes] = {}
        self.said: dict[str, set[Status]] = defaultdict(set)
        self.held: list[e.Event] = []
        self.is_holding = False
        self.is_reading_clients = True
        self.is_stopping = False
        self.is_stopped = False
        self.goodbyes: set[bytes] = set()

    @initialize(
        requests_max=names([1, 3, 1000]),
        requests_bytes_max=names([40, 1 << 20]),
        body_bytes_max=names([20, 1 << 20]),
        attempts_max=names([1, 2, 3]),
        absence_s=names([2.0, 60.0]),
        plain_ttl_s=names([None, None, 1.5]),
    )
    def begin(self, **drawn: float | None) -> None:
        self.limits = Limits(**drawn)  # type: ignore[arg-type]
        self.core = BrokerCore(limits=self.limits, is_tracing=True)

    # --- between the core and its peers

    def tell(self, *facts: e.Event) -> None:
        self.held += facts
        if self.is_holding and len(self.held) < FACTS_HELD_MAX:
            return
        self.is_holding = False
        facts, self.held = tuple(self.held), []
        for _ in range(20):
            if self.is_stopped:
                return
            orders = self.core.step(facts, self.now)
            self.core.check()
            self.core.records.clear()
            assert self.core.wake_at is None or self.core.wake_at > self.now, "it would turn without a pause"
            self.limits_are_kept()
            facts = tuple(fact for order in orders for fact in self.carry_out(order))
            if not facts:
                return
        raise AssertionError("a word for a word for ever")

    def limits_are_kept(self) -> None:
        limits, turn = self.limits, FACTS_HELD_MAX  # what has been read already is taken in
        body_max = min(limits.body_bytes_max, 40)
        assert self.core.requests < 2 * limits.requests_max + turn
        assert self.core.requests_bytes < 2 * limits.requests_bytes_max + turn * body_max

    def carry_out(self, order: e.Event) -> list[e.Event]:
        """What the order makes of the world, and the facts that follow from it."""
        match order:
            case e.SendToClient(peer, messages) | e.SendToWorker(peer, messages):
                side = e.Side.CLIENT if isinstance(order, e.SendToClient) else e.Side.WORKER
                fault = self.faults.get((side, peer))
                if fault is Fault.UNREACHABLE:
                    return [e.Undelivered(side, peer, messages)]
                arrive = self.at_client if side is e.Side.CLIENT else self.at_worker
                return [fact for message in messages for fact in arrive(peer, message, is_lost=fault is not None)]
            case e.SendPlainReply(peer, envelope, answer):
                fault = self.faults.get((e.Side.CLIENT, peer))
                if fault is Fault.UNREACHABLE:
                    return [e.ReplyUndelivered(peer, envelope, answer)]
                self.at_plain_client(peer, envelope, answer, is_lost=fault is not None)
            case e.SendPlainTask(peer, client, body):
                fault = self.faults.get((e.Side.WORKER, peer))
                if fault is Fault.UNREACHABLE:
                    return [e.Undelivered(e.Side.WORKER, peer, [])]
                self.at_plain_worker(peer, client, body, is_lost=fault is not None)
            case e.PauseClients() | e.ResumeClients():
                assert self.is_reading_clients is isinstance(order, e.PauseClients)
                self.is_reading_clients = not self.is_reading_clients
            case e.Stop():
                assert self.is_stopping
                self.is_stopped = True
            case _:
                raise TypeError(order)
        return []

    def at_client(self, peer: bytes, message: m.Message, *, is_lost: bool) -> list[e.Event]:
        client = next((client for client in self.clients.values() if client.peer == peer), None)
        if client is None or is_lost:
            return []
        match message:
            case m.Answer():
                assert message.id in client.waits, "G1, G4: an answer to what it did not ask, or a second one"
                self.ends(client.waits.pop(message.id), message)
            case m.HelloAgain():
                return [self.hello_of(client)]
            case m.Refused():
                client.peer = b""
            case m.Goodbye():
                self.goodbyes.add(peer)
        return []

    def at_plain_client(self, peer: bytes, envelope: tuple[bytes, ...], answer: m.Answer, *, is_lost: bool) -> None:
        client = next((client for client in self.plain_clients.values() if client.peer == peer), None)
        if client is None:
            return
        if is_lost:
            client.waits.pop(envelope, None)
            return
        assert envelope in client.waits, "G1, G4: a reply to what it did not ask, or a second one"
        self.ends(client.waits.pop(envelope), answer)

    def ends(self, asked: Asked, answer: m.Answer) -> None:
        """G1 and G4: it is the answer of its own live attempt, or an error for a reason."""
        said = self.said[asked.token]
        is_over = asked.deadline_at is not None and asked.deadline_at <= self.now + 1e-6
        match answer.status:
            case Status.OK:
                assert answer.body == self.live_answer[asked.token]
            case Status.FAILED:
                assert said & {Status.FAILED, STRANGE}
            case Status.EXPIRED:
                assert is_over or Status.EXPIRED in said
            case Status.CANCELLED:
                assert asked.is_cancelled or Status.CANCELLED in said
            case Status.GAVE_UP:
                assert self.attempts[asked.token] >= self.limits.attempts_max
            case Status.BUSY:
                assert self.limits.requests_max < 1000 or self.limits.requests_bytes_max < 1 << 20
            case Status.TOO_BIG:
                assert len(asked.body) > self.limits.body_bytes_max
            case Status.STOPPING:
                assert self.is_stopping
            case _:
                raise AssertionError(answer)

    def handed_out(self, body: bytes, ttl: float | None) -> bytes:
        """An attempt begins, as far as the broker can know; the answer that it will have."""
        token = body.rstrip(b".").decode()
        asked = self.asked[token]
        if asked.deadline_at is not None:
            assert asked.deadline_at > self.now - 1e-6, "G6: expired work is handed out"
            assert ttl is None or abs(self.now + ttl - asked.deadline_at) < 1e-3
        self.attempts[token] += 1
        self.live_answer[token] = b"done %b, attempt %d" % (token.encode(), self.attempts[token])
        assert not self.is_stopping, "G12: new work after SIGTERM"
        return self.live_answer[token]

    def at_worker(self, peer: bytes, message: m.Message, *, is_lost: bool) -> list[e.Event]:
        worker = next((worker for worker in self.workers.values() if worker.peer == peer), None)
        if worker is None:
            return []
        match message:
            case m.Task():
                assert message.service in worker.services
                assert 1 <= message.attempt <= self.limits.attempts_max
                assert message.attempt <= self.attempts[message.body.rstrip(b".").decode()] + 1
                worker.hand[message.id] = self.handed_out(message.body, message.ttl)
                assert len(worker.hand) <= worker.credit
            case m.Recall() if not is_lost:
                worker.recalled = message.tasks
            case m.HelloAgain() if not is_lost:
                self.session_ends(worker)
                return [self.hello_of_worker(worker)]
            case m.Refused() if not is_lost:
                self.session_ends(worker)
                worker.peer = b""
            case m.Goodbye() if not is_lost:
                self.goodbyes.add(peer)
        return []

    def at_plain_worker(self, peer: bytes, client: bytes, body: bytes, *, is_lost: bool) -> None:
        answer = self.handed_out(body, None)
        worker = next((worker for worker in self.plain_workers.values() if worker.peer == peer), None)
        if worker is None or is_lost or not worker.is_running:
            return
        if worker.hand is None:
            worker.hand, worker.is_hand_old = (client, answer), False
        else:
            assert worker.is_hand_old, "two tasks in the hand of a REQ worker"

    # --- time

    @rule(seconds=names([0.004, 0.1, 0.1, 1.0, 1.0, 4.0]), is_broker_late=st.booleans())
    def time_passes(self, seconds: float, is_broker_late: bool) -> None:
        end = self.now + seconds
        while not is_broker_late and (wake_at := self.core.wake_at) is not None and wake_at < end:
            self.now = min(end, max(wake_at, self.now + seconds / TURNS_MAX))
            self.tell(*self.beats())
        self.now = end
        self.is_holding = False
        self.tell(*self.beats())

    def beats(self) -> list[e.Event]:
        return [
            e.WorkerSaid(worker.peer, [m.Beat()])
            for worker in self.workers.values()
            if self.is_connected(worker) and not worker.is_frozen
        ]

    @rule()
    def much_happens_at_once(self) -> None:
        self.is_holding = True

    # --- the network

    def is_connected(self, one: NativeClient | NativeWorker) -> bool:
        side = e.Side.CLIENT if isinstance(one, NativeClient) else e.Side.WORKER
        return bool(one.peer) and (side, one.peer) not in self.faults

    def new_peer(self, name: str) -> bytes:
        self.serial += 1
        return b"\0\0\0\0%c" % (self.serial + 16) if name == "anonymous" else b"%b.%d" % (name.encode(), self.serial)

    def cut(self, side: e.Side, peer: bytes, fault: Fault) -> None:
        if peer and (side, peer) not in self.faults:
            self.faults[side, peer] = fault
            self.unnoticed[side, peer] = None

    @rule(name=names(["C1", "C2", "P1", "P2", "anonymous"]), fault=names(Fault))
    def client_is_cut_off(self, name: str, fault: Fault) -> None:
        if name in self.clients:
            self.cut(e.Side.CLIENT, self.clients[name].peer, fault)
        else:
            client = self.plain_clients[name]
            client.cut_at = self.now if client.cut_at is None else client.cut_at
            self.cut(e.Side.CLIENT, client.peer, fault)

    @rule(name=names(["W1", "W2", "W3", "PW1", "PW2", "anonymous"]), fault=names(Fault))
    def worker_is_cut_off(self, name: str, fault: Fault) -> None:
        one = self.workers[name] if name in self.workers else self.plain_workers[name]
        self.cut(e.Side.WORKER, one.peer, fault)

    @rule(pick=picks)
    def a_loss_is_noticed(self, pick: int) -> None:
        if self.unnoticed:
            side, peer = list(self.unnoticed)[pick % len(self.unnoticed)]
            del self.unnoticed[side, peer]
            self.tell(e.PeerLost(side, peer))

    @rule(name=names(["C1", "C2", "W1", "W2"]))
    def a_peer_does_not_read(self, name: str) -> None:
        side = e.Side.CLIENT if name in self.clients else e.Side.WORKER
        one = self.clients[name] if name in self.clients else self.workers[name]
        if self.is_connected(one):
            self.tell(e.PeerUnread(side, one.peer, 0))

    # --- clients

    def new_request(self, service: str, padding: int, ttl: float | None) -> Asked:
        self.serial += 1
        token = str(self.serial)
        deadline_at = None if ttl is None else self.now + ttl
        asked = Asked(token, service, token.encode() + b"." * padding, deadline_at)
        self.asked[token] = asked
        return asked

    def request_of(self, number: int, asked: Asked) -> m.Request:
        ttl = None if asked.deadline_at is None else asked.deadline_at - self.now
        return m.Request(number, asked.service, asked.body, ttl)

    def hello_of(self, client: NativeClient) -> e.Event:
        requests = [self.request_of(number, asked) for number, asked in client.waits.items()]
        return e.ClientSaid(client.peer, [m.ClientHello(client.name, f"boot {client.boot}"), *requests])

    @precondition(lambda self: self.is_reading_clients)
    @rule(name=names(["C1", "C2"]), is_restarted=names([False, False, True]))
    def client_connects(self, name: str, is_restarted: bool) -> None:
        """Also while its last connection lives: then that one is closed."""
        client = self.clients[name]
        self.cut(e.Side.CLIENT, client.peer, Fault.UNREACHABLE)
        client.peer = self.new_peer(name)
        if is_restarted:
            client.boot += 1
            client.waits.clear()
        self.tell(self.hello_of(client))

    @precondition(lambda self: self.is_reading_clients)
    @rule(
        name=names(["C1", "C2"]),
        services=st.lists(names(SERVICES), min_size=1, max_size=4),
        padding=names([0, 0, 0, 18, 39]),
        ttl=names([None, None, None, 0.0, 0.05, 1.0, 5.0]),
    )
    def client_asks(self, name: str, services: list[str], padding: int, ttl: float | None) -> None:
        client = self.clients[name]
        if self.is_connected(client):
            new = [self.new_request(service, padding, ttl) for service in services]
            first = self.serial - len(new) + 1
            client.waits.update(enumerate(new, first))
            said: list[m.Message] = [self.request_of(number, asked) for number, asked in enumerate(new, first)]
            self.tell(e.ClientSaid(client.peer, said))

    @precondition(lambda self: self.is_reading_clients)
    @rule(name=names(["C1", "C2"]), pick=picks)
    def client_cancels(self, name: str, pick: int) -> None:
        client = self.clients[name]
        if self.is_connected(client) and client.waits:
            number = list(client.waits)[pick % len(client.waits)]
            client.waits[number].is_cancelled = True
            self.tell(e.ClientSaid(client.peer, [m.Cancel(number), m.Cancel(number + 1000)]))

    @precondition(lambda self: self.is_reading_clients and not self.is_holding)
    @rule(name=names(["C1", "C2"]))
    def client_says_the_same_again(self, name: str) -> None:
        client = self.clients[name]
        if self.is_connected(client) and client.waits:
            said: list[m.Message] = [self.request_of(number, asked) for number, asked in client.waits.items()]
            self.tell(e.ClientSaid(client.peer, said))

    @precondition(lambda self: self.is_reading_clients)
    @rule(name=names(["C1", "C2"]))
    def client_leaves(self, name: str) -> None:
        client = self.clients[name]
        if self.is_connected(client):
            self.tell(e.ClientSaid(client.peer, [m.Goodbye()]))
            client.peer = b""
            client.boot += 1
            client.waits.clear()

    def return_plain_client(self, client: PlainClient) -> list[e.Event]:
        """It has a connection again; who has set no identity is somebody else now."""
        if self.faults.pop((e.Side.CLIENT, client.peer), None) is None:
            return []
        client.connection += 1
        if client.name == "anonymous":
            client.peer = self.new_peer(client.name)
            client.spoke_over = None
            client.waits.clear()
        elif client.cut_at is not None and self.now >= client.cut_at + self.limits.absence_s:
            for asked in client.waits.values():
                asked.is_owed = False
        return [e.PeersConnected(e.Side.CLIENT)]

    @rule(name=names(["P1", "P2"]))
    def plain_client_is_back_without_a_word(self, name: str) -> None:
        self.tell(*self.return_plain_client(self.plain_clients[name]))

    @precondition(lambda self: self.is_reading_clients)
    @rule(name=names(["P1", "P2", "anonymous"]), envelope=names(ENVELOPES), padding=names([0, 0, 18, 39]))
    def plain_client_asks(self, name: str, envelope: tuple[bytes, ...], padding: int) -> None:
        client = self.plain_clients[name]
        facts = self.return_plain_client(client)
        is_replaced = client.spoke_over not in (None, client.connection)
        if envelope in client.waits and not is_replaced:
            return self.tell(*facts)
        self.unnoticed.pop((e.Side.CLIENT, client.peer), None)  # its word came over another connection
        client.spoke_over, client.cut_at = client.connection, None
        asked = client.waits[envelope] = self.new_request(LAB_SERVICE, padding, self.limits.plain_ttl_s)
        return self.tell(*facts, e.PlainClientSaid(client.peer, envelope, asked.body, is_replaced))

    # --- workers

    def hello_of_worker(self, worker: NativeWorker) -> e.Event:
        hello = m.WorkerHello(
            worker.name, f"boot {worker.boot}", worker.services, worker.concurrency, max(0, worker.credit)
        )
        return e.WorkerSaid(worker.peer, [hello])

    def session_ends(self, worker: NativeWorker) -> None:
        worker.void.update(worker.hand)
        worker.hand.clear()
        worker.recalled = []

    @rule(
        name=names(["W1", "W2", "W3"]),
        is_restarted=st.booleans(),
        is_reconnected=st.booleans(),
        services=st.lists(names(SERVICES), min_size=1, max_size=3),
        concurrency=st.integers(1, 3),
        credit=st.integers(0, 6),
    )
    def worker_says_hello(
        self, name: str, is_restarted: bool, is_reconnected: bool, services: list[str], concurrency: int, credit: int
    ) -> None:
        worker = self.workers[name]
        if is_restarted or is_reconnected or not self.is_connected(worker):
            self.cut(e.Side.WORKER, worker.peer, Fault.UNREACHABLE)
            worker.peer = self.new_peer(name)
        self.session_ends(worker)
        worker.boot += is_restarted
        worker.is_frozen = False
        worker.services, worker.concurrency, worker.credit = services, concurrency, credit
        self.tell(self.hello_of_worker(worker))

    @rule(name=names(["W1", "W2", "W3"]))
    def worker_freezes_or_thaws(self, name: str) -> None:
        self.workers[name].is_frozen ^= True

    def acting(self, name: str) -> NativeWorker | None:
        worker = self.workers[name]
        return worker if self.is_connected(worker) and not worker.is_frozen else None

    @rule(name=names(["W1", "W2", "W3"]), credit=st.integers(0, 8))
    def worker_wants(self, name: str, credit: int) -> None:
        if worker := self.acting(name):
            worker.credit = credit
            self.tell(e.WorkerSaid(worker.peer, [m.Credit(credit)]))

    @rule(
        name=names(["W1", "W2", "W3"]),
        count=st.integers(1, 4),
        status=names([Status.OK] * 4 + [Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.CRASHED, STRANGE]),
    )
    def worker_answers(self, name: str, count: int, status: Status) -> None:
        if worker := self.acting(name):
            said: list[m.Message] = []
            for task in list(worker.hand)[:count]:
                body = worker.hand.pop(task)
                self.said[token_of(body)].add(status)
                said.append(m.Answer(task, status, body))
            self.tell(e.WorkerSaid(worker.peer, said))

    @rule(name=names(["W1", "W2", "W3"]), other=names(["W1", "W2", "W3"]), pick=picks)
    def worker_answers_what_is_not_its_own(self, name: str, other: str, pick: int) -> None:
        """Late, double, or another worker's task."""
        worker = self.acting(name)
        tasks = self.workers[other].void if name == other else {**self.workers[other].void, **self.workers[other].hand}
        if worker and tasks:
            task, body = list(tasks.items())[pick % len(tasks)]
            self.tell(e.WorkerSaid(worker.peer, [m.Answer(task, Status.OK, body)]))

    @rule(name=names(["W1", "W2", "W3"]), picks=st.lists(picks, max_size=3), is_recalled=st.booleans())
    def worker_gives_back(self, name: str, picks: list[int], is_recalled: bool) -> None:
        if worker := self.acting(name):
            tasks = [task for task in worker.recalled if task in worker.hand]
            if not is_recalled:
                hand = list(worker.hand)
                tasks = list({hand[pick % len(hand)]: None for pick in picks}) if hand else []
            worker.recalled = []
            self.given_back(worker, tasks)
            self.tell(e.WorkerSaid(worker.peer, [m.Returned([*tasks, 1 << 40])]))

    def given_back(self, worker: NativeWorker, tasks: list[int]) -> None:
        for task in tasks:
            self.attempts[token_of(worker.hand.pop(task))] -= 1

    @rule(name=names(["W1", "W2", "W3"]))
    def worker_leaves(self, name: str) -> None:
        if worker := self.acting(name):
            self.given_back(worker, list(worker.hand))
            self.tell(e.WorkerSaid(worker.peer, [m.Goodbye()]))
            worker.peer = b""

    def reach(self, worker: PlainWorker) -> list[e.Event]:
        """It has a connection again, if it had none."""
        if self.faults.pop((e.Side.WORKER, worker.peer), None) is None:
            return []
        worker.is_hand_old = True
        if worker.name == "anonymous":
            self.unnoticed.pop((e.Side.WORKER, worker.peer), None)
            lost: list[e.Event] = [e.PeerLost(e.Side.WORKER, worker.peer)]
            worker.peer, worker.hand = self.new_peer(worker.name), None
            return [*lost, e.PeersConnected(e.Side.WORKER)]
        return [e.PeersConnected(e.Side.WORKER)]

    @rule(name=names(["PW1", "PW2", "anonymous"]))
    def plain_worker_registers(self, name: str) -> None:
        """A new program, or the same that says again that it is ready."""
        worker = self.plain_workers[name]
        facts = self.reach(worker)
        self.unnoticed.pop((e.Side.WORKER, worker.peer), None)
        worker.hand, worker.is_running = None, True
        self.tell(*facts, e.PlainWorkerRegistered(worker.peer))

    @rule(name=names(["PW1", "PW2"]))
    def plain_worker_is_back_without_a_word(self, name: str) -> None:
        self.tell(*self.reach(self.plain_workers[name]))

    @rule(name=names(["PW1", "PW2", "anonymous"]), words=names(["answer"] * 4 + ["ready", "another client"]))
    def plain_worker_speaks(self, name: str, words: str) -> None:
        worker = self.plain_workers[name]
        if worker.hand is None or not worker.is_running:
            return None
        facts = self.reach(worker)
        if worker.hand is None:
            return self.tell(*facts)
        client, body = worker.hand
        self.unnoticed.pop((e.Side.WORKER, worker.peer), None)
        worker.hand = None
        if words == "answer":
            self.said[token_of(body)].add(Status.OK)
            return self.tell(*facts, e.PlainWorkerSaid(worker.peer, client, body))
        return self.tell(*facts, e.PlainWorkerSaid(worker.peer, None if words == "ready" else b"nobody", b"of no use"))

    # --- the end

    @precondition(lambda self: self.asked and not self.is_stopping)
    @rule(grace_s=names([0.0, 1.0, 5.0]), is_wanted=names([False, False, True]))
    def broker_is_asked_to_stop(self, grace_s: float, is_wanted: bool) -> None:
        if is_wanted:
            self.is_holding = False
            self.tell()
            self.is_stopping = True
            self.tell(e.StopRequested(self.now + grace_s))

    def teardown(self) -> None:
        """Faults end, and a good worker comes. Then everything that was asked for ends."""
        if not hasattr(self, "core"):
            return
        self.is_holding = False
        self.tell(*[e.PeerLost(side, peer) for side, peer in self.unnoticed])
        for worker in self.workers.values():
            worker.is_frozen = True
        for name in ("P1", "P2"):
            self.plain_client_is_back_without_a_word(name)
        last = self.workers["last"] = NativeWorker("last", b"last", 0, list(SERVICES), 3, 3)
        self.tell(self.hello_of_worker(last))
        settled_at = self.now + SETTLED_S
        while self.now < settled_at and not self.is_stopped:
            if self.is_reading_clients:
                for name in [name for name, client in self.clients.items() if not self.is_connected(client)]:
                    self.client_connects(name, is_restarted=False)
            while last.hand:
                self.worker_answers("last", 3, Status.OK)
            self.time_passes(0.5, is_broker_late=False)
        connected = [client for client in self.clients.values() if self.is_connected(client)]
        assert not any(client.waits for client in connected), "G4: stuck"
        owed = [asked for client in self.plain_clients.values() for asked in client.waits.values() if asked.is_owed]
        lost = self.plain_clients["anonymous"].waits if self.plain_clients["anonymous"].cut_at is not None else {}
        assert not [asked for asked in owed if asked not in lost.values()], "G4: stuck"
        if self.is_stopping:
            assert self.is_stopped, "G12"
            assert {client.peer for client in connected} <= self.goodbyes, "G12"
        else:
            assert self.is_reading_clients and self.core.requests == 0


def token_of(answer: bytes) -> str:
    return answer.split()[1].rstrip(b",").decode()


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

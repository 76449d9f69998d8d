"""Clients on the simulated network: ours (the real core), and the lab's REQ and DEALER programs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from cbw.core import messages
from cbw.core.client.core import ClientCore
from cbw.core.client.driver import ClientDriver
from cbw.core.client.events import Ended
from cbw.core.parts import PARTS_FIRST
from cbw.wire import native

from .client_manners import ClientManners
from .network import Network
from .own_books import ClientBooks, is_own_cancel
from .parcels import Native, PlainReply, PlainRequest
from .peer import Peer
from .plan import ClientPlan, Job, PlainClientPlan, Wish
from .stranger import proof_of
from .summary import summary
from .way import Way
from .wishes import OWN
from .world import World

BOOT_IDS = 1_000_000
"""Request ids of a boot begin at a multiple of this, so that the checker can tell boots apart."""
DEALER_WINDOW = 10
TAKES_S = 0.02
"""Longest time in seconds that a program takes for a part of an answer."""
TRIES_MAX = 3


class SimClient(Peer):
    """A client process. Its program submits what the plan says, and expects one end for each."""

    def __init__(
        self,
        world: World,
        network: Network,
        plan: ClientPlan,
        way: Way,
        *,
        number: int,
        is_twin: bool = False,
    ) -> None:
        super().__init__(world, plan.name, network, way)
        self.plan = plan
        self.number = number
        self.is_twin = is_twin
        self.jobs: dict[int, Job | Wish] = {}
        self.core: ClientCore
        self.driver: ClientDriver

    def schedule(self) -> None:
        """Its program's calls, for this and all later boots."""
        for at, jobs in self.plan.bursts:
            self.world.at(max(at, self.world.now), self.submit, jobs)
        for at, wish in self.plan.wishes:
            self.world.at(max(at, self.world.now), self.wish, wish)

    def start(self) -> None:
        if self.is_alive:
            return
        self.boot += 1
        self.who = f"{self.name}.{self.number}.{self.boot}"
        chance = (self.number * 0.3 + self.boot * 0.17) % 1.0
        self.core = ClientCore(self.name, self.who, chance, proof_of(self.who))
        first_id = (self.number * 1000 + self.boot) * BOOT_IDS + 1
        self.driver = ClientDriver(self.core, self, first_id=first_id)
        self.driver.on_news = self._came
        self.jobs = {}
        self.books = ClientBooks()
        self.manners = ClientManners(self.who)
        self._cancelled: dict[int, None] = {}
        self._held: list[list[Job]] = []  # what its program will submit when it is no longer frozen
        self.world.say(self.who, "started")
        self.link.open()
        self.start_turns()

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            self.world.say(self.who, "crashed" + " silently" * is_silent)
            self.jobs.clear()
            self.link.close(is_orderly=False, is_silent=is_silent)
            self.end_turns()

    def close(self) -> None:
        """Goodbye."""
        if self.is_alive:
            self.books.close(self.core)
            self.driver.close(self.world.now)
            self.driver.say_goodbye()
            self.link.close()
            self.end_turns()

    @property
    def is_done(self) -> bool:
        return not self.wanted

    @property
    def wanted(self) -> list[Job | Wish]:
        """What its program waits for."""
        return [*self.jobs.values(), *(job for jobs in self._held for job in jobs)]

    def submit(self, jobs: list[Job]) -> None:
        """The program's calls, all at once."""
        if not self.is_alive or self.core.refused is not None:
            return
        now = self.world.now
        if self.is_frozen:
            self._held.append(jobs)
            return
        for job in jobs:
            deadline_at = None if job.ttl_s is None else now + job.ttl_s
            due_at = now + job.delay_s if job.delay_s else None
            if job.kind.startswith("stream"):
                request = messages.StreamRequest(
                    0,
                    job.service,
                    job.body,
                    priority=job.priority,
                    headers=job.headers,
                    parts=PARTS_FIRST,
                    restarts=job.restarts,
                    wants_progress=job.wants_progress,
                    requires_worker=job.requires_worker,
                )
                request_id = self.driver.stream(request, deadline_at, job, due_at)
                self.checker.streams.asked(f"{self.name}/{request_id}", job)
            else:
                (request_id,) = self.driver.submit(
                    job.service,
                    [b"" if job.kind == OWN else job.body],
                    deadline_at,
                    job,
                    job.priority,
                    may_retry=True,
                    due_at=due_at,
                    requires_worker=job.requires_worker,
                    headers=job.headers,
                )
            self.jobs[request_id] = job
            self.books.submitted(request_id, job, now)
            self.manners.asked(request_id, job, now)
            self.checker.submitted(f"{self.name}/{request_id}", job, self)
            if job.cancel_after_s is not None:
                self.world.after(job.cancel_after_s, self._cancel, self.driver, request_id)
        self.world.say(self.who, f"submits {len(jobs)}, the first {jobs[0].token} {jobs[0].service!r}")
        self.wake()

    def wish(self, wish: Wish) -> None:
        """The program wants something of a ticket."""
        if not self.is_alive or self.core.refused is not None or self.is_frozen:
            return
        now, job = self.world.now, wish.job
        if wish.is_start:
            start = messages.Start(0, wish.ticket, job.service, job.body, None, job.priority)
            request_id = self.driver.start(start, None, None, wish)
        else:
            deadline_at = None if wish.ttl_s is None else now + wish.ttl_s
            request_id = self.driver.collect(wish.ticket, deadline_at, wish)
        self.jobs[request_id] = wish
        self.manners.asked(request_id, wish, now)
        self.checker.programs.wished(f"{self.name}/{request_id}", wish, self, now)
        self.world.say(self.who, f"wants {wish.token}")
        self.wake()

    def _cancel(self, driver: ClientDriver, request_id: int) -> None:
        if driver is self.driver and self.is_alive and request_id in self.jobs:
            self.checker.cancelled(f"{self.name}/{request_id}")
            self._cancelled[request_id] = None
            driver.cancel([request_id])
            self.wake()

    def _came(self, news: list[tuple[Job, messages.AnswerPart | messages.ProgressMade]]) -> None:
        """Parts of answers. The program takes them when it has the time."""
        for sink, part in news:
            if isinstance(part, messages.ProgressMade):
                self.checker.streams.progressed(
                    f"{self.name}/{part.id}", part, sink, is_waited_for=part.id in self.jobs
                )
                continue
            key = f"{self.name}/{part.id}"
            self.checker.streams.came(key, part, is_waited_for=part.id in self.jobs)
            self.world.counts["parts"] += 1
            task = int(bytes(part.body).split(b";")[1])
            self.world.after(self.world.between(0, TAKES_S), self._take, self.driver, part.id, task)

    def _take(self, driver: ClientDriver, request_id: int, task: int) -> None:
        if driver is self.driver and self.is_alive:
            self.checker.streams.took(f"{self.name}/{request_id}", task)
            driver.took(request_id, 1)
            self.wake()

    def _tell(self, requests: list[Ended]) -> None:
        for ended in requests:
            answer = ended.answer
            job = self.jobs.pop(answer.id, None)
            self.world.say(self.who, f"{ended.sink.token} ended: {answer.status.name}")
            self.checker.client_ended(f"{self.name}/{answer.id}", job, ended, self)
            is_cancelled = is_own_cancel(answer, was_asked_for=answer.id in self._cancelled)
            is_timed = not isinstance(job, Wish) and not is_cancelled
            self.books.ended(ended, self.world.now, is_timed=is_timed)

    @property
    def wake_at(self) -> float:
        return self.driver.wake_at

    def turn(self) -> None:
        held, self._held = self._held, []
        for jobs in held:
            self.submit(jobs)
        self._tell(self.driver.turn(self.world.now, has_changes=True))
        self.books.check(self.driver, self.jobs)

    def check_deadlines(self) -> None:
        """Its program looks at the clock."""
        if self.is_alive and not self.is_frozen:
            self.books.check_deadlines(self.core, self.settled_at, self.world.now)

    # --- what the driver asks of its link

    def watch(self) -> Iterator[bool]:
        for is_connected in self.link.watch():
            self.world.say(self.who, "connected" if is_connected else "disconnected")
            if is_connected:
                self.manners.connected()
            yield is_connected

    def receive(self) -> list[messages.Message] | None:
        parcel = self.link.receive()
        if parcel is None:
            return None
        assert isinstance(parcel, Native)
        batch = self.network.unpack(parcel, native.to_client)
        self.manners.heard(batch, self.world.now)
        return batch

    def send(self, batch: list[messages.Message]) -> list[messages.Message]:
        self.world.say(self.who, f"says {summary(batch)}")
        sent = 0
        for parcel, count in self.network.pack(batch):
            if not self._has_room or not self.link.send(parcel):
                self.world.counts["no room for a client"] += 1
                break
            sent += count
        self.manners.says(batch[:sent], self.world.now)
        if sent < len(batch):  # after that: a hello among it begins anew
            self.manners.held_up()
        return batch[sent:]

    @property
    def _has_room(self) -> bool:
        """A broker that does not read, or a network that does not deliver, fills the queue of the socket."""
        connection = self.link.connection
        return connection is None or len(connection.up) < self.plan.queue_max


class PlainClient(Peer):
    """A REQ program of the lab: one request, its reply, the next. Or a DEALER that keeps some in flight."""

    def __init__(self, world: World, network: Network, plan: PlainClientPlan, way: Way) -> None:
        super().__init__(world, plan.name, network, way)
        self.plan = plan
        self.asks_as = plan.name
        """What the tokens of its requests begin with: a second program with its identity asks as another."""
        self.in_flight: dict[bytes, tuple[Job, int]] = {}  # envelope id → job, number of the question
        self.is_confused = False
        """Its socket has got the reply to a question of an earlier one, so that all later replies may be off by one."""
        self._answered_unread: dict[int, None] = {}  # questions of its socket, replied to before a broker had read them
        self._todo: deque[Job] = deque()
        self._next_envelope = 1
        self._tries = 0
        self._try = 0
        self._to_send: deque[PlainRequest] = deque()

    def schedule(self) -> None:
        for at, jobs in self.plan.bursts:
            self.world.at(max(at, self.world.now), self.submit, jobs)

    def start(self) -> None:
        if self.is_alive:
            return
        self.boot += 1
        self.who = f"{self.name}.{self.boot}"
        self.in_flight.clear()
        self._todo.clear()
        self._to_send.clear()
        self.world.say(self.who, "started")
        self._open()
        self.start_turns()

    def _open(self) -> None:
        """Make a socket, which knows nothing of an earlier one."""
        self.is_confused = False
        self._answered_unread.clear()
        self.link.open(None if self.plan.is_anonymous else self.name.encode())

    def answered_early(self, number: int, *, is_read: bool) -> None:
        """It got a reply that was sent before a broker had read its question of this ``number``: to the same question of an
        earlier socket, or as an earlier broker had read it.
        """
        self.world.counts["plain replies inherited"] += 1
        self._answered_unread[number] = None
        if is_read:
            self.was_read(number)

    def was_read(self, number: int) -> None:
        """A broker has read that question. If it has an answer already, a REQ socket gets one too many."""
        if number in self._answered_unread and not self.plan.is_dealer:
            self.is_confused = True

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            self.world.say(self.who, "crashed" + " silently" * is_silent)
            self.in_flight.clear()
            self._todo.clear()
            self.link.close(is_orderly=False, is_silent=is_silent)
            self.end_turns()

    def close(self) -> None:
        if self.is_alive:
            self.link.close()
            self.end_turns()

    @property
    def is_done(self) -> bool:
        return not self.wanted

    @property
    def wanted(self) -> list[Job]:
        """What its program waits for, or is about to ask."""
        return [*(job for job, _ in self.in_flight.values()), *self._todo]

    def submit(self, jobs: list[Job]) -> None:
        if self.is_alive:
            self._todo.extend(jobs)
            self.wake()

    @property
    def wake_at(self) -> float:
        return math.inf

    def turn(self) -> None:
        for is_connected in self.link.watch():
            self.world.say(self.who, "connected" if is_connected else "disconnected")
        while (parcel := self.link.receive()) is not None:
            assert isinstance(parcel, PlainReply)
            self._receive(parcel)
        window = DEALER_WINDOW if self.plan.is_dealer else 1
        while self._todo and len(self.in_flight) < window:
            job = self._todo.popleft()
            self._tries = 0
            self._ask(job)
        while self._to_send and self.link.send(self._to_send[0]):
            del self._to_send[0]

    def _ask(self, job: Job) -> None:
        envelope: tuple[bytes, ...] = (b"",)
        key = b""
        if self.plan.is_dealer:
            key = b"%d" % self._next_envelope
            envelope = (key, b"")
            self._next_envelope += 1
        self._tries += 1
        self._try += 1
        self.world.say(self.who, f"asks {job.token}")
        number = self.checker.plain_asked(job)
        self.in_flight[key] = (job, number)
        self._to_send.append(PlainRequest(envelope, job.body, job.token, number))
        if self.plan.patience_s is not None:
            self.world.after(self.plan.patience_s, self._out_of_patience, self._try)

    @property
    def is_twin(self) -> bool:
        """Whether it is the second program with its identity."""
        return self.asks_as != self.name

    def _out_of_patience(self, number: int) -> None:
        """The lazy pirate: another socket, the same request."""
        if number != self._try or b"" not in self.in_flight or not self.is_alive:
            return
        job = self.in_flight[b""][0]
        if self.is_frozen:
            self.world.at(self.frozen_until + 0.001, self._out_of_patience, number)
            return
        self.world.say(self.who, f"is out of patience with {job.token}")
        if self._tries < TRIES_MAX:
            self._another_socket()
            self._ask(job)
        else:
            self.give_up()

    def _another_socket(self) -> None:
        self.link.close(is_orderly=self.world.chance(0.5))
        self._to_send.clear()
        self._open()

    def give_up(self) -> None:
        """What it waits for will not come. A REQ socket can ask nothing else then: it takes another."""
        for job, _ in self.in_flight.values():
            self.world.say(self.who, f"gives {job.token} up")
        self.in_flight.clear()
        if not self.plan.is_dealer:
            self._another_socket()
        self.wake()

    def _receive(self, reply: PlainReply) -> None:
        key = reply.envelope[0]  # a REQ socket throws away what has another envelope than its own
        if reply.displaced is not None:
            self.checker.namesakes.told(self, reply.displaced)
            if self.in_flight.pop(key, None) is not None:
                self.wake()
            return
        if key not in self.in_flight:
            self.checker.plain_thrown_away(reply, self)
            if not self.plan.is_dealer:
                self.world.say(self.who, "throws a reply away")  # a REQ socket that has asked nothing
            return
        job, number = self.in_flight.pop(key)
        self.world.say(self.who, f"{job.token} ended: {reply.status.name}")
        self.checker.plain_ended(job, number, reply, self)
        self.wake()

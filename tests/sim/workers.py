"""Our workers on the simulated network: the real core in a simulated shell and pool."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.parts import streamed_body
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver
from cbw.core.worker.events import HandlerCalled, PoolFact, PoolNotReady, PoolReady, TasksFinished, TasksReturned
from cbw.wire import native

from .children import Children
from .handler_errors import write_error
from .network import Network
from .own_books import WorkerBooks
from .parcels import Native, Parcel
from .peer import Link, Peer
from .plan import RETRIES_ALLOWED, WorkerPlan, broker_of, limit_of, retries_wanted
from .stranger import proof_of
from .streams import StreamRun
from .summary import summary
from .way import Way
from .worker_manners import GivenTasks, WorkerManners
from .world import World

HAND_OVER_S = 0.0002
RECALL_S = 0.003
"""By then a child process has given back what it has not begun."""
CALL_AGAIN_S = 0.5
"""Longest time after which a handler wants to be called again."""
HANG_S = 5.0
"""How long a handler that hangs holds the GIL: longer than the broker's patience."""
PART_S = 0.003
"""Longest time in seconds that a handler needs for a part of its answer."""
TWIN_RESTART_S = 1.0
NO_DESCRIPTORS = 0.3
"""How often a worker that wants a new connection finds no file descriptors left to begin it with."""


def read_body(body: bytes) -> tuple[str, float, str]:
    """Token, seconds of work, and kind of a job's body."""
    token, work_s, kind, _ = bytes(body[:200]).decode().split(";", 3)
    return token, float(work_s), kind


def read_answer(body: bytes) -> tuple[str, str, int]:
    """Token, worker and task of what a handler has returned."""
    token, worker, task = bytes(body).decode().split(";")
    return token, worker, int(task)


def write_answer(token: str, worker: str, task: int) -> bytes:
    """What a handler returns: enough for the checker to see whose answer it is."""
    return f"{token};{worker};{task}".encode()


@dataclass
class Run:
    """A handler at work."""

    task: messages.Task
    token: str
    kind: str
    began_at: float
    is_void: bool = False
    is_overdue: bool = False
    """Whether its task was answered, as it has exceeded its time limit."""


class SimPool:
    """Stands for a :class:`cbw.worker.pool.ThreadPool`, or an :class:`~cbw.worker.pool.AsyncPool` if the plan says async.

    If the plan says sheltered, all of it is in a child process, as in a :class:`~cbw.worker.processes.ProcessPool` of one.
    """

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self._world = worker.world
        self.waiting: deque[messages.Task] = deque()
        self.running: dict[int, Run] = {}
        self.streams: dict[int, StreamRun] = {}
        self.reports: list[PoolFact] = []
        self.is_ready = True
        self.books = WorkerBooks()
        self._batch: list[messages.Answer] = []
        self._batch_since = 0.0
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._is_dead = False
        self._children = Children(worker.world, worker.who, self._child_started)

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.running or self.reports or self._batch)

    def begin(self, tasks: list[messages.Task]) -> None:
        if not self.is_ready:
            self._report(TasksReturned([task.id for task in tasks]))
            return
        for task in tasks:
            self._worker.checker.in_pool(task.id)
            self.waiting.append(task)
        self._fill()

    def take_back(self, tasks: Iterable[int]) -> list[int] | None:
        wanted = dict.fromkeys(tasks)
        if self._worker.plan.is_sheltered and (self.waiting or self.running):
            self._world.after(self._world.between(0, RECALL_S), self._give_back, wanted)
            return None
        return self._take_waiting(wanted)

    def _give_back(self, wanted: Container[int]) -> None:
        if not self._is_dead:
            self._report(TasksReturned(self._take_waiting(wanted)))

    def _take_waiting(self, wanted: Container[int]) -> list[int]:
        back = [task.id for task in self.waiting if task.id in wanted]
        self.waiting = deque(task for task in self.waiting if task.id not in wanted)
        return back

    def cancel(self, task: int) -> None:
        plan = self._worker.plan
        is_alone = plan.is_sheltered and list(self.running) == [task] and not self.waiting and not self.streams
        if is_alone:
            run = self.running.pop(task)
            run.is_void = True
            self._worker.checker.programs.died(task)
            self._end_child()
        if is_alone or self._take_waiting([task]):
            self._finished(messages.Answer(task, Status.CANCELLED, messages.error_body("cancelled", "")), 0.0)
        elif task in self.streams:
            self._end_stream(self.running[task], messages.error_body("cancelled", ""), Status.CANCELLED)
        elif task in self.running and plan.is_async:
            run = self.running.pop(task)
            run.is_void = True
            self._finished(messages.Answer(task, Status.CANCELLED, messages.error_body("cancelled", "")), 0.0)
            self._fill()

    def _end_child(self) -> None:
        """What it has begun dies with it; another starts in its place, which takes a moment."""
        why = messages.error_body("crashed", "the handler's process was ended")
        for task, run in self.running.items():
            run.is_void = True
            self._worker.checker.programs.died(task)
        lost = [messages.Answer(task, Status.CRASHED, why) for task in self.running]
        self.is_ready = False
        self._report(PoolNotReady())
        self._report(TasksFinished(lost, 0.0))
        self._report(TasksReturned([task.id for task in self.waiting]))
        self.running.clear()
        self.streams.clear()
        self.waiting.clear()
        self._children.start()

    def _child_started(self) -> None:
        if not self._is_dead:
            self.is_ready = True
            self._report(PoolReady())

    def close(self) -> None:
        self._is_dead = True

    def _fill(self) -> None:
        worker, world = self._worker, self._world
        while self.waiting and len(self.running) < worker.plan.concurrency and not self._is_dead:
            task = self.waiting.popleft()
            token, work_s, kind = read_body(task.body)
            run = self.running[task.id] = Run(task, token, kind, world.now)
            worker.checker.begun(task.id, token)
            worker.checker.programs.has_headers(token, task.headers)
            if (limit_s := limit_of(kind)) is not None:
                self._report(HandlerCalled(task.id, limit_s))
            worker.begun_count += 1
            worker.begun_by[broker_of(task.id)] += 1
            world.say(worker.who, f"begins {task.id} {token} {kind}")
            if kind == "hang" and not worker.plan.is_sheltered:
                worker.freeze(HANG_S)
            if isinstance(task, messages.StreamTask):
                parts = int(kind.removeprefix("stream"))
                self.streams[task.id] = StreamRun(task, task.parts, parts)
                world.after(work_s * worker.plan.speed, self._make_part, run)
            else:
                world.after(work_s * worker.plan.speed, self._end, run)

    def _end(self, run: Run) -> None:
        worker, world = self._worker, self._world
        if self._is_dead or run.is_void:
            return
        if worker.is_frozen:
            world.at(worker.frozen_until + world.between(0, 0.001), self._end, run)
            return
        task = run.task.id
        if run.kind == "die" and not worker.plan.is_sheltered:
            worker.checker.programs.died(task)
            worker.crash()
            return
        if run.kind == "die":
            self._hand_over(self._batch)
            self._end_child()
            return
        del self.running[task]
        if run.kind == "raise":
            answer = messages.Answer(task, Status.FAILED, write_error(run.token))
        elif run.task.retries < retries_wanted(run.kind):
            answer = self._ask_for_retry(run)
        else:
            answer = messages.Answer(task, Status.OK, write_answer(run.token, worker.who, task))
        worker.checker.ran(task)
        self._took[run.task.service].append(world.now - run.began_at)
        self._finished(answer, world.now - run.began_at)
        self._fill()

    def _ask_for_retry(self, run: Run) -> messages.Answer:
        """As a :class:`cbw.worker.handler.Handler` does it, whose service allows :data:`RETRIES_ALLOWED`."""
        task, error = run.task.id, messages.error_body("Retry", run.token)
        if run.task.retries >= RETRIES_ALLOWED:
            return messages.Answer(task, Status.FAILED, error)
        after_s = self._world.between(0, CALL_AGAIN_S)
        self._worker.checker.delays.wants_retry(task, after_s)
        return messages.Answer(task, Status.RETRY, error, after_s)

    def _finished(self, answer: messages.Answer, busy_s: float) -> None:
        now = self._world.now
        if not self._batch:
            self._batch_since = now - busy_s
        self._batch.append(answer)
        if not self.waiting or now - self._batch_since > HAND_OVER_S:
            self._hand_over(self._batch)
        elif len(self._batch) == 1:
            self._world.after(HAND_OVER_S, self._hand_over, self._batch)

    def _hand_over(self, batch: list[messages.Answer]) -> None:
        if batch is self._batch and batch:
            self._batch = []
            took, self._took = self._took, defaultdict(list)
            self._report(TasksFinished(batch, self._world.now - self._batch_since, took))

    def _report(self, fact: PoolFact) -> None:
        self.reports.append(fact)
        self._worker.wake()

    def grant(self, task: int, parts: int) -> None:
        for waiting in self.waiting:
            if waiting.id == task and isinstance(waiting, messages.StreamTask):
                waiting.parts = max(waiting.parts, parts)
        if task in self.streams:
            stream = self.streams[task]
            stream.wanted = max(stream.wanted, parts)
            if stream.is_waiting:
                stream.is_waiting = False
                self._make_part(self.running[task])

    def _make_part(self, run: Run) -> None:
        """As a generator does: it waits where there is no room."""
        worker, world, stream = self._worker, self._world, self.streams.get(run.task.id)
        if self._is_dead or run.is_void or stream is None:
            return
        if worker.is_frozen:
            world.at(worker.frozen_until + world.between(0, 0.001), self._make_part, run)
        elif not stream.left:
            worker.checker.ran(run.task.id)
            self._end_stream(run, streamed_body(stream.sent), Status.STREAMED)
        elif stream.sent < stream.wanted:
            self._report(stream.make(run.token))
            world.after(world.between(0, PART_S), self._make_part, run)
        else:
            stream.is_waiting = True

    def _end_stream(self, run: Run, body: bytes, status: Status) -> None:
        run.is_void = True
        del self.running[run.task.id], self.streams[run.task.id]
        self._finished(messages.Answer(run.task.id, status, body), self._world.now - run.began_at)
        self._fill()

    def end_overdue(self, task: int) -> messages.Answer | None:
        run = self.running.get(task)
        if run is None:
            return None
        run.is_overdue = True
        self._worker.world.counts["time limits exceeded"] += 1
        self.books.ended_early(task)
        return messages.Answer(task, Status.FAILED, messages.error_body("TimeLimitExceeded", run.token))

    def tell_stuck(self, task: int) -> None:
        """Nothing is stuck."""

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Nobody reads it."""

    def take_reports(self) -> list[PoolFact]:
        reports, self.reports = self.reports, []
        self.books.reported(reports)
        return reports

    def is_at(self, task: int) -> bool:
        """Whether a handler is at work on ``task``, which has no answer yet."""
        return task in self.running and not self.running[task].is_overdue

    @property
    def tasks(self) -> dict[int, None]:
        """All that it has been given, and of which it has not told what has become of it."""
        told = [task for fact in self.reports for task in _tasks_of(fact)]
        return dict.fromkeys([*self.running, *(task.id for task in self.waiting), *(a.id for a in self._batch), *told])


def _tasks_of(fact: PoolFact) -> list[int]:
    if isinstance(fact, TasksFinished):
        return [answer.id for answer in fact.answers]
    return fact.tasks if isinstance(fact, TasksReturned) else []


class SimLink:
    """The worker's connection as its driver sees it: as :class:`cbw.worker.link.WorkerLink`."""

    def __init__(self, worker: SimWorker, link: Link) -> None:
        self._worker = worker
        self._link = link
        self._world = worker.world
        self._unsent: list[Parcel] = []
        self.has_unsent = False
        self._manners = WorkerManners(worker.who, worker.plan, worker.given)

    def watch(self) -> list[bool]:
        changes = [*self._link.watch()]
        for is_connected in changes:
            self._world.say(self._worker.who, "connected" if is_connected else "disconnected")
            if is_connected:
                self._manners.connected()
            else:
                self._forget_unsent()
        return changes

    def receive(self) -> list[messages.Message] | None:
        parcel = self._link.receive()
        if parcel is None:
            return None
        assert isinstance(parcel, Native)
        batch = self._worker.network.unpack(parcel, native.to_worker)
        self._manners.heard(batch)
        return batch

    def send(self, batch: list[messages.Message]) -> None:
        worker = self._worker
        if batch:
            self._world.say(worker.who, f"says {summary(batch)}")
            self._manners.says(batch, self._world.now)
            self._unsent.extend(parcel for parcel, _ in worker.network.pack(batch))
        while self._unsent and self._link.send(self._unsent[0]):
            del self._unsent[0]
        self.has_unsent = bool(self._unsent)

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self.has_unsent = False

    def reconnect(self) -> bool:
        self._forget_unsent()
        if self._world.chance(NO_DESCRIPTORS):
            self._world.say(self._worker.who, "cannot reconnect")
            self._link.close(is_orderly=False)
            return False
        self._world.say(self._worker.who, "reconnecting")
        self._link.reopen()
        return True


class SimWorker(Peer):
    """A worker process; restarted with a new boot by whoever started it."""

    def __init__(self, world: World, network: Network, plan: WorkerPlan, ways: Sequence[Way], *, twin: int = 0) -> None:
        super().__init__(world, plan.name, network, *ways)
        self.plan = plan
        self.twin = twin  # 0: the original
        self.services = plan.services
        self.begun_count = 0
        self.begun_by: Counter[int] = Counter()  # the same, by brokers
        self.credit_max = 0
        """Most tasks that it has wanted in hand since its start."""
        self.idle_since: float | None = None
        self.is_wanted = True  # restarted when it ends
        self.core: WorkerCore
        self.pool: SimPool
        self.driver: WorkerDriver

    def start(self) -> None:
        if self.is_alive or not self.is_wanted:
            return
        self.boot += 1
        self.who = f"{self.name}{f't{self.twin}' if self.twin else ''}.{self.boot}"
        self.core = WorkerCore(
            self.name,
            self.who,
            self.plan.services,
            self.plan.concurrency,
            proof_of(self.who),
            takes_streams=True,
            places=[str(number) for number, _ in enumerate(self.links)],
        )
        self.credit_max = 0
        self.pool = SimPool(self)
        self.given = GivenTasks()
        self.driver = WorkerDriver(self.core, self.pool, *(SimLink(self, link) for link in self.links))
        self._stop_by: float | None = None
        self.idle_since = None
        self.world.say(self.who, "started")
        for link in self.links:
            link.open()
        self.start_turns()

    def is_registered_at(self, broker: int) -> bool:
        """Whether it is welcome to the broker of that number, as far as it knows."""
        return self.is_alive and self.core.sessions[broker].broker is not None

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            self.world.say(self.who, "crashed" + " silently" * is_silent)
            for task in self.pool.running:
                self.checker.programs.died(task)
            for link in self.links:
                link.close(is_orderly=False, is_silent=is_silent)
            self._end()

    def stop(self) -> None:
        """SIGTERM."""
        if self.is_alive:
            self.world.say(self.who, "stopping")
            self._stop_by = self.world.now + self.plan.grace_s
            self.disturbed(self.world.now + 1e9)
            self.wake()

    def _end(self) -> None:
        self.pool.close()
        self.end_turns()
        self.idle_since = None
        self.settled_at = 0.0
        self.world.after(TWIN_RESTART_S if self.core.refused else self.plan.restart_s, self.start)

    @property
    def wake_at(self) -> float:
        return self.driver.wake_at

    def turn(self) -> None:
        core, pool, now = self.core, self.pool, self.world.now
        self.driver.turn(now, self._stop_by)
        self.credit_max = max(self.credit_max, core.credit)
        self._stop_by = None
        if self.driver.is_over:
            pool.books.close(core)
            self.world.say(self.who, f"ended {core.refused or ''}")
            for task in pool.running:
                self.checker.programs.died(task)
            for link in self.links:
                link.close()
            self._end()
            return
        pool.books.check(core, pool)
        if any(link.inbox for link in self.links):  # a turn need not read all of it
            self.wake()
        is_idle = core.is_registered and not core.in_hand and pool.is_idle and pool.is_ready
        is_idle = is_idle and not core.is_leaving
        if not is_idle:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now

"""One run: a system with faults, then without, and what must have come of it.

First safety: while faults happen, the checker looks at every step. Then liveness: the faults stop, everything heals,
and within a generous time every request has ended, every worker is known to the broker again, and gets work again.
"Stuck" is a failure as much as a wrong answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cbw.wire import native

from .broker import SimBroker
from .checker import Checker
from .clients import PlainClient, SimClient
from .network import HEARTBEAT_S, Connection, Network, Router
from .plan import ClientPlan, Job, Plan, draw
from .workers import HANG_S, PlainWorker, SimWorker
from .world import Process, Violation, World

SAMPLE_S = 0.05
HEAL_S = 8.0
"""Time for everybody to find each other again: silence is noticed, refused ids are tried again."""
PROBE_S = 0.05
PATIENCE_S = 60.0
TWIN_S = 6.0


@dataclass
class Result:
    """How a run went. ``violation`` is None if all promises held."""

    seed: int
    digest: str
    plan: str
    violation: str | None
    story: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class System:
    """The processes of one run and what happens to them."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.network = Network(world, plan.delay_s, is_encoding=plan.is_encoding, queue_max=plan.queue_max)
        self.broker = SimBroker(world, self.network, plan.limits, plan.turn_messages, grace_s=world.between(0, 2))
        self.checker = self.broker.checker = Checker(world, plan, self.network, self.broker)
        self.network.on_lost = self.checker.lost
        self.clients = [self._client(client) for client in plan.clients]
        self.plain_clients = [
            PlainClient(world, self.network, client, self._client_router) for client in plan.plain_clients
        ]
        self.workers = [SimWorker(world, self.network, worker, self._worker_router) for worker in plan.workers]
        self.plain_workers = [
            PlainWorker(world, self.network, worker, self._worker_router) for worker in plan.plain_workers
        ]
        for process in (*self.clients, *self.plain_clients, *self.workers, *self.plain_workers):
            process.checker = self.checker
        self.checker.workers = self.workers
        self.checker.plain_workers = self.plain_workers
        self.checker.plain_clients = {client.name: client for client in self.plain_clients}
        self._is_faulty = True

    def _client(self, plan: ClientPlan) -> SimClient:
        self._client_number = getattr(self, "_client_number", 0) + 1
        return SimClient(self.world, self.network, plan, self._client_router, number=self._client_number)

    def _client_router(self) -> Router | None:
        return self.broker.clients if self.broker.is_alive else None

    def _worker_router(self) -> Router | None:
        return self.broker.workers if self.broker.is_alive else None

    # --- the run

    def run(self) -> None:
        """All of it.

        Raises:
            Violation: a promise was broken.
        """
        world, plan = self.world, self.plan
        self.broker.start()
        if world.chance(0.2):  # the broker is started last
            self.broker.crash()
            world.after(world.between(0, 2), self._start_broker)
        for process in (*self.clients, *self.plain_clients, *self.workers, *self.plain_workers):
            world.after(world.between(0, 0.3), process.start)
        for client in (*self.clients, *self.plain_clients):
            client.schedule()
        for name, rate in plan.rates.items():
            self._schedule_fault(name, rate)
        world.after(SAMPLE_S, self._sample)
        world.run(plan.faults_s)
        self._is_faulty = False
        self._heal()
        world.run(world.now + HEAL_S)
        self._everything_ends()
        self._everybody_is_used()
        self._nothing_is_left()

    def _sample(self) -> None:
        self.checker.sample()
        self.world.after(SAMPLE_S, self._sample)

    def _start_broker(self) -> None:
        if not self.broker.is_alive:
            self.broker.start()

    # --- faults

    def _schedule_fault(self, name: str, rate: float) -> None:
        self.world.after(self.world.rng.expovariate(rate), self._fault, name, rate)

    def _fault(self, name: str, rate: float) -> None:
        if not self._is_faulty:
            return
        self.world.counts[f"fault: {name}"] += 1
        getattr(self, "_" + name.replace(" ", "_"))()
        self._schedule_fault(name, rate)

    def _pick(self, processes: list[Process]) -> Process | None:
        living = [process for process in processes if process.is_alive]
        return self.world.rng.choice(living) if living else None

    def _peers(self) -> list[Process]:
        return [*self.clients, *self.plain_clients, *self.workers, *self.plain_workers]

    def _connection(self) -> None:
        """A connection breaks; the ends notice at different times."""
        world = self.world
        connections = self._connections(lambda connection: True)
        if connections:
            victim = world.rng.choice(connections)
            world.say("fault", f"connection of {victim.link.process.name} breaks")
            is_quick = world.chance(0.5)
            ends = [world.between(0, 0.1) if is_quick else world.between(0, HEARTBEAT_S[1]) for _ in range(2)]
            victim.lose(*ends)
            victim.link.process.disturbed(world.now + max(ends))

    def _connections(self, is_meant: Callable[[Connection], bool]) -> list[Connection]:
        if not self.broker.is_alive:
            return []
        both = (*self.broker.clients.connections, *self.broker.workers.connections)
        return [connection for connection in both if not connection.is_lost and is_meant(connection)]

    def _partition(self) -> None:
        """One peer and the broker do not hear each other for a while, or one of them not the other."""
        world = self.world
        victim = self._pick(self._peers())
        if victim is None:
            return
        seconds = 10 ** world.between(-2, 0.85)
        way = world.rng.choice(["both", "both", "up", "down"])
        world.say("fault", f"{victim.name} is cut off for {seconds:.3f} s ({way})")
        if way == "both":
            victim.host.cut_until = max(victim.host.cut_until, world.now + seconds)  # type: ignore[attr-defined]
        for connection in self._connections(lambda connection: connection.link.process is victim):
            connection.block(seconds, is_up=way != "down", is_down=way != "up")
        victim.disturbed(world.now + seconds + 0.3)

    def _freeze(self, victim: Process | None, connections: list[Connection]) -> None:
        world = self.world
        if victim is None:
            return
        seconds = 10 ** world.between(-2, 0.9)
        is_whole = world.chance(0.6)  # SIGSTOP: libzmq's thread too, so that heartbeats fail
        world.say("fault", f"{victim.name} freezes for {seconds:.3f} s" + " whole" * is_whole)
        victim.freeze(seconds)
        if is_whole:
            for connection in connections:
                connection.block(seconds, is_up=True, is_down=True)

    def _freeze_peer(self, processes: list[Process]) -> None:
        victim = self._pick(processes)
        self._freeze(victim, self._connections(lambda connection: connection.link.process is victim))

    def _worker_freeze(self) -> None:
        self._freeze_peer([*self.workers])

    def _plain_worker_freeze(self) -> None:
        self._freeze_peer([*self.plain_workers])

    def _client_freeze(self) -> None:
        if self.world.chance(0.4) and (victim := self._pick([*self.clients])) is not None:
            seconds = self.world.between(6, 20)  # its program does not look for answers
            self.world.say("fault", f"{victim.name} does not read for {seconds:.3f} s")
            victim.freeze(seconds)
        else:
            self._freeze_peer([*self.clients])

    def _broker_freeze(self) -> None:
        if self.broker.is_alive:
            self._freeze(self.broker, self._connections(lambda connection: True))

    def _crash(self, processes: list[Process]) -> Process | None:
        victim = self._pick(processes)
        if victim is not None:
            victim.crash(is_silent=self.world.chance(0.2))  # type: ignore[attr-defined]
        return victim

    def _worker_crash(self) -> None:
        self._crash([*self.workers])

    def _plain_worker_crash(self) -> None:
        self._crash([*self.plain_workers])

    def _client_crash(self) -> None:
        victim = self._crash([*self.clients])
        if isinstance(victim, SimClient):
            self.world.after(self.world.between(0.01, 2), victim.start)

    def _plain_client_crash(self) -> None:
        victim = self._crash([*self.plain_clients])
        if isinstance(victim, PlainClient):
            self.world.after(self.world.between(0.01, 2), victim.start)

    def _worker_stop(self) -> None:
        victim = self._pick([*self.workers])
        if isinstance(victim, SimWorker):
            victim.stop()

    def _worker_twin(self) -> None:
        """Somebody starts a second worker with the id of a living one, and lets it be for a while."""
        victim = self._pick([worker for worker in self.workers if not worker.twin])
        if isinstance(victim, SimWorker):
            twin = SimWorker(self.world, self.network, victim.plan, self._worker_router, twin=len(self.workers))
            twin.checker = self.checker
            self.workers.append(twin)
            twin.start()
            self.world.after(self.world.between(0, TWIN_S), self._end_twin, twin)

    def _end_twin(self, twin: SimWorker) -> None:
        if twin.is_wanted:
            twin.is_wanted = False
            twin.crash()

    def _client_twin(self) -> None:
        """The same with a client; its program asks for something too."""
        victim = self._pick([*self.clients])
        if isinstance(victim, SimClient):
            name = victim.name
            jobs = [Job(f"{name}-twin/{self.world.now:.6f}-{number}", "", 0.001) for number in range(3)]
            twin = self._client(ClientPlan(name, [(self.world.now + 0.01, jobs)]))
            twin.checker = self.checker
            self.clients.append(twin)
            twin.start()
            twin.schedule()
            self.world.after(self.world.between(0, TWIN_S), twin.crash)

    def _broker_crash(self) -> None:
        if self.broker.is_alive:
            self.broker.crash(is_silent=self.world.chance(0.2))
            self.world.after(10 ** self.world.between(-2, 0.6), self._start_broker)

    def _broker_stop(self) -> None:
        if self.broker.is_alive:
            self.world.say("fault", "SIGTERM for the broker")
            self.broker.stop()
            self._start_broker_after_stop()

    def _start_broker_after_stop(self) -> None:
        self._start_broker()
        self.world.after(1.0, self._start_broker)
        self.world.after(4.0, self._start_broker)

    # --- and the end of faults

    def _heal(self) -> None:
        world = self.world
        world.say("fault", "no more")
        self._start_broker()
        for worker in self.workers:
            if worker.twin:
                self._end_twin(worker)
        self.workers[:] = [worker for worker in self.workers if not worker.twin]
        for client in self.clients:
            if "twin" in (client.plan.bursts[0][1][0].token if client.plan.bursts else ""):
                client.crash()
        for process in (self.broker, *self.plain_clients, *self.workers, *self.plain_workers):
            process.thaw()  # but not clients, who may take their time to read
        for peer in self._peers():
            peer.host.cut_until = 0.0  # type: ignore[attr-defined]
        for connection in self._connections(lambda connection: True):
            connection.unblock()
        for plain_worker in self.plain_workers:
            self._restart_orphan(plain_worker)
        for client in (*self.clients, *self.plain_clients):
            if not client.is_alive and "twin" not in str(getattr(client.plan, "bursts", "")):
                client.start()

    def _restart_orphan(self, worker: PlainWorker) -> None:
        if worker.is_orphan:
            worker.crash()

    @property
    def _patience_s(self) -> float:
        """Nothing takes longer: the longest handler, as often as it may be tried, and a lab worker's lost answer."""
        longest_s = max((job.work_s for job in self.checker.jobs.values()), default=0.0)
        limits = self.plan.limits
        return 30 + limits.attempts_max * (HANG_S + 4 * longest_s) + 2 * limits.absence_s

    def _everything_ends(self) -> None:
        world = self.world
        waiting = [""]

        def is_over() -> bool:
            for client in self.plain_clients:
                if client.in_flight and all(self.checker.is_excused(job.token) for job, _ in client.in_flight.values()):
                    client.give_up()
            for worker in self.plain_workers:
                self._restart_orphan(worker)
            return not self._unended()

        while waiting and not is_over():
            waiting = self._unended()
            if not world.run(world.now + self._patience_s, lambda: is_over() or len(self._unended()) < len(waiting)):
                stuck = ", ".join(waiting[:10])
                raise Violation(f"stuck: {len(waiting)} requests have not ended: {stuck}")

    def _unended(self) -> list[str]:
        """The tokens of what clients still wait for."""
        return [
            job.token
            for client in (*self.clients, *self.plain_clients)
            if client.is_alive
            for job in client.wanted
        ]

    def _everybody_is_used(self) -> None:
        """Every worker is known, and a wave of requests reaches all of them."""
        world, core = self.world, self.broker.core
        everybody: list[SimWorker | PlainWorker] = [*self.workers, *self.plain_workers]
        if not world.run(world.now + self._patience_s, lambda: all(worker.idle_since is not None for worker in everybody)):
            busy = next(worker for worker in everybody if worker.idle_since is None)
            raise Violation(f"stuck: {busy.who} never gets idle")
        # The answer of a lab worker may have been lost, and then it waits for a task as the broker does for the answer.
        if not world.run(world.now + self._patience_s, lambda: not any(worker.is_late for worker in core.workers.values())):
            raise Violation("stuck: a lab worker is late for ever")
        world.run(world.now + 1)
        known = {worker.name: worker.boot for worker in core.workers.values()}
        for worker in self.workers:
            if known.get(worker.name) != worker.who:
                raise Violation(f"stuck: {worker.who} is not known to the broker (alive: {worker.is_alive})")
        before = {worker.name: worker.begun_count for worker in everybody}
        services: dict[str, int] = {}
        for worker in self.workers:
            for service in worker.plan.services:
                services[service] = services.get(service, 0) + 2 * worker.plan.concurrency
        if self.plain_workers:
            services[""] = services.get("", 0) + 2 * len(self.plain_workers)
        probe = self._client(ClientPlan("PROBE", []))
        probe.checker = self.checker
        probe.start()
        world.run(world.now + 1)
        limits = self.plan.limits
        for service, count in services.items():
            names = [
                worker.name
                for worker in everybody
                if service in (worker.plan.services if isinstance(worker, SimWorker) else [""])
            ]
            for wave in range(8):
                missed = [
                    worker for worker in everybody if worker.name in names and worker.begun_count == before[worker.name]
                ]
                if not missed:
                    break
                wanted = min(count, limits.requests_max, limits.requests_bytes_max // 100)
                jobs = [Job(f"PROBE/{service}-{wave}-{number}", service, PROBE_S) for number in range(wanted)]
                probe.submit(jobs)
                if not world.run(world.now + PATIENCE_S, lambda: probe.is_done):
                    raise Violation(f"stuck: {len(probe.jobs)} of the last requests for {service!r} have not ended")
            else:
                raise Violation(f"stuck: {missed[0].who} is idle for ever while others work")
        self.clients.append(probe)

    def _no_answer_is_kept(self) -> None:
        core = self.broker.core
        kept = [client.name for client in core.clients.values() if client.kept and client.absent_since is None]
        if kept:
            raise Violation(f"leak: answers are kept for {kept[0]}, who is here and does not want them")

    def _nothing_is_left(self) -> None:
        """All clients leave, and the broker has forgotten everything that they wanted."""
        world, core = self.world, self.broker.core
        self._no_answer_is_kept()
        for client in (*self.clients, *self.plain_clients):
            client.close()
        world.run(world.now + 1 + 2 * max((job.work_s for job in self.checker.jobs.values()), default=0.0))
        self.checker.check()
        if core.requests or core.requests_bytes:
            raise Violation(f"leak: {core.requests} requests are left")
        held = sum(len(worker.in_hand) for worker in core.workers.values())
        if held and world.run(world.now + PATIENCE_S, lambda: not any(w.in_hand for w in core.workers.values())):
            raise Violation(f"leak: {held} tasks are in the workers' hands")
        queued = sum(len(service.waiting) + len(service.suspects) for service in core._dispatcher.services.values())
        if queued > 200:
            raise Violation(f"leak: {queued} ended requests lie in the queues")
        if core.is_paused:
            raise Violation("stuck: the client port is not read, and nothing is left to do")


def run(seed: int, *, is_verbose: bool = False) -> Result:
    """The run of ``seed``, always the same."""
    world = World(seed, is_verbose=is_verbose)
    plan = draw(seed, world.rng)
    if is_verbose:
        print(plan)
    batch_messages = native.BATCH_MESSAGES
    native.BATCH_MESSAGES = plan.batch_messages
    violation: str | None = None
    try:
        System(world, plan).run()
    except Violation as error:
        violation = str(error)
    except Exception as error:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        place = f"{traceback.tb_frame.f_code.co_qualname}:{traceback.tb_lineno}" if traceback is not None else "?"
        violation = f"{type(error).__name__} in {place}: {error}"
    finally:
        native.BATCH_MESSAGES = batch_messages
    return Result(seed, world.digest, str(plan), violation, list(world.story), world.counts)

"""One run: a system with faults, then without, and what must have come of it.

First safety: while faults happen, the checker looks at every step. Then liveness: the faults stop, everything heals,
and within a generous time every request has ended, every worker is known to the broker again, and gets work again.
"Stuck" is a failure as much as a wrong answer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from cbw.core.broker import journal
from cbw.core.broker.snapshot import state_of
from cbw.transport.connections import DISPUTE_S
from cbw.wire import native

from .broker import SimBroker
from .drawing import draw
from .emptiness import Emptiness
from .faults import Faults
from .idleness import SAMPLE_S
from .log import run_log
from .namesakes import is_not_in_silence
from .neglect import Neglect
from .plain_workers import PlainWorker
from .plan import RETRIES_ALLOWED, ClientPlan, Job, Plan
from .system import SimSystem
from .wishes import draw_extras, draw_tickets
from .workers import HANG_S
from .world import ViolationError, World

HEAL_S = 8.0
"""Time for everybody to find each other again: silence is noticed, refused ids are tried again."""
PROBE_S = 0.05
OWNER_S = 15.0
"""Seconds until a standby has noticed that there is no owner, and has read the journal."""
WAVES_MAX = 8
"""Waves of requests that reach every worker, also if the broker's limit lets only a few through at once."""
QUEUED_MAX = 200
"""Ended requests may lie in the queues for a while, but not more than so many."""


@dataclass
class Result:
    """How a run went. ``violation`` is None if all promises held."""

    seed: int
    digest: str
    plan: str
    violation: str | None
    story: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def run(seed: int, *, is_verbose: bool = False, bend: Callable[[Plan], None] | None = None) -> Result:
    """The run of ``seed``, always the same. ``bend`` may change what was drawn."""
    world = World(seed, is_verbose=is_verbose)
    plan = draw(seed, world.rng)
    if bend is not None:
        bend(plan)
    draw_tickets(plan, random.Random(f"tickets {seed}"))
    draw_extras(plan, random.Random(f"extras {seed}"))
    if is_verbose:
        print(plan)
    violation: str | None = None
    try:
        run_log(random.Random(f"log {seed}"))
        with _sizes(plan):
            _Run(SimSystem(world, plan)).run()
    except ViolationError as error:
        violation = str(error)
    except Exception as error:  # a core that raises breaks a promise too
        violation = f"{type(error).__name__} in {_place(error.__traceback__)}: {error}"
    return Result(seed, world.digest, str(plan), violation, list(world.story), world.counts)


@contextmanager
def _sizes(plan: Plan) -> Iterator[None]:
    """Those that are constants elsewhere."""
    sizes = [(native, "BATCH_MESSAGES", plan.batch_messages)]
    if plan.journal is not None:
        sizes.append((journal, "SLACK_BYTES", plan.journal.slack_bytes))
        sizes.append((journal, "COMPACT_BYTES", plan.journal.compact_bytes))
        sizes.append((journal, "REWRITE_BYTES", plan.journal.rewrite_bytes))
    before = [(module, name, getattr(module, name)) for module, name, _ in sizes]
    for module, name, size in sizes:
        setattr(module, name, size)
    try:
        yield
    finally:
        for module, name, size in before:
            setattr(module, name, size)


def _place(traceback: TracebackType | None) -> str:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_name}, line {traceback.tb_lineno}" if traceback is not None else "?"


class _Run:
    """The phases."""

    def __init__(self, system: SimSystem) -> None:
        self.system = system
        self.world = system.world
        self._neglect = Neglect(system)
        self._is_over = False  # nobody is here any more

    def run(self) -> None:
        """All of them.

        Raises:
            ViolationError: a promise was broken.
        """
        world, system = self.world, self.system
        faults = Faults(system)
        for broker in system.brokers:
            broker.start()
            if world.chance(0.2):  # it is started last
                broker.crash()
                world.after(world.between(0, 2), broker.start_again)
        for peer in system.peers:
            world.after(world.between(0, 0.3), peer.start)
        for client in system.askers:
            client.schedule()
        faults.start()
        world.after(SAMPLE_S, self._sample)
        world.run(system.plan.faults_s)
        faults.stop()
        world.run(world.now + HEAL_S)
        if system.journal is not None:
            self._somebody_serves()
        self._everything_ends()
        if system.journal is not None:
            self._only_the_owner_serves()
        self._everybody_rests()
        for broker in system.believed_brokers:
            self._everybody_is_known(broker)
            self._everybody_is_used(broker)
        for broker in system.believed_brokers:
            self._nothing_is_left(broker)
        self._is_over = True
        Emptiness(system).check()
        for broker in system.believed_brokers:
            self._the_journal_is_empty(broker)

    def _sample(self) -> None:
        for broker in self.system.brokers:
            broker.checker.sample()
        self._neglect.sample()
        for client in self.system.clients:
            client.check_deadlines()
        self.system.programs.tickets.check(self.system)
        if not self._is_over:
            self.world.after(SAMPLE_S, self._sample)

    @property
    def _longest_s(self) -> float:
        return max((job.work_s for job in self.system.programs.jobs.values()), default=0.0)

    @property
    def _patience_s(self) -> float:
        """Nothing takes longer: the longest handler, as often as it may be tried, a lab worker's lost answer, and a reply that
        was withheld because another program may have had its client's identity.
        """
        limits = self.system.plan.limits
        tries = limits.attempts_max + RETRIES_ALLOWED
        return 30 + DISPUTE_S + tries * (HANG_S + 4 * self._longest_s) + 2 * limits.absence_s

    # --- liveness

    def _somebody_serves(self) -> None:
        """One of the brokers that share a journal is its owner."""
        if not self.world.run(self.world.now + OWNER_S, lambda: bool(self.system.believed_brokers)):
            raise ViolationError("stuck: nobody has the journal")

    def _only_the_owner_serves(self) -> None:
        """One that was fenced finds that out when it is to store something. Those that nobody asks anything end now."""
        for broker in [each for each in self.system.living_brokers if each.is_fenced]:
            broker.crash()
            broker.start_again()
        self.world.run(self.world.now + HEAL_S)
        self._orphans_start_again()
        self.world.run(self.world.now + HEAL_S)

    def _everything_ends(self) -> None:
        while waiting := self._unended():
            count = len(waiting)

            def has_moved(count: int = count) -> bool:
                return len(self._unended()) < count

            if not self.world.run(self.world.now + self._patience_s, has_moved):
                raise ViolationError(f"stuck: {count} requests have not ended: {', '.join(waiting[:10])}")

    def _unended(self) -> list[str]:
        """The tokens of what clients still wait for. What a lab's program waits for in vain is let go."""
        system = self.system
        for plain_client in system.plain_clients:
            asked = [job.token for job, _ in plain_client.in_flight.values()]
            if asked and all(map(plain_client.checker.is_excused, asked)):
                is_not_in_silence(plain_client)
                plain_client.give_up()
        self._orphans_start_again()
        tickets = [
            row.ticket for broker in system.believed_brokers for row in broker.core.tickets.rows.values() if row.entries
        ]
        return [*tickets, *(job.token for client in system.askers if client.is_alive for job in client.wanted)]

    def _orphans_start_again(self) -> None:
        """REQ workers that wait for tasks of a broker which cannot know them."""
        for plain_worker in self.system.plain_workers:
            if plain_worker.is_orphan:
                plain_worker.crash()

    def _everybody_rests(self) -> None:
        world, system = self.world, self.system

        def has_rest() -> bool:
            return all(worker.idle_since is not None for worker in system.servers)

        if not world.run(world.now + self._patience_s, has_rest):
            busy = next(worker for worker in system.servers if worker.idle_since is None)
            raise ViolationError(f"stuck: {busy.who} never gets idle")

    def _everybody_is_known(self, broker: SimBroker) -> None:
        world, system, core = self.world, self.system, broker.core
        # The answer of a lab worker may have been lost; then it waits for a task as the broker does for the answer.
        if not world.run(
            world.now + self._patience_s, lambda: not any(state_of(w) == "late" for w in core.workers.by_peer.values())
        ):
            raise ViolationError("stuck: a lab worker is late for ever")
        world.run(world.now + 1)
        known = {worker.name: worker.boot for worker in core.workers.by_peer.values()}
        for worker in system.workers:
            if known.get(worker.name) != worker.who:
                raise ViolationError(
                    f"stuck: {worker.who} is not known to the {broker.name} (alive: {worker.is_alive})"
                )

    def _everybody_is_used(self, broker: SimBroker) -> None:
        """Waves of requests reach every worker of ``broker``."""
        world, system = self.world, self.system
        before = {worker.name: worker.begun_count for worker in system.servers}
        name = f"PROBE{broker.number or ''}"
        client = system.add_client(ClientPlan(name, []), broker)
        client.start()
        world.run(world.now + 1)
        slots: Counter[str] = Counter()
        for worker in system.servers_of(broker):
            for service in worker.services:
                slots[service] += 1 if isinstance(worker, PlainWorker) else worker.plan.concurrency
        limits = system.plan.limits
        for service, count in slots.items():
            wanted = min(2 * count, limits.requests_max, limits.requests_bytes_max // 100)
            for wave in range(WAVES_MAX):
                client.submit([Job(f"{name}/{service}-{wave}-{n}", service, PROBE_S) for n in range(wanted)])
                if not world.run(world.now + self._patience_s, lambda: client.is_done):
                    raise ViolationError(f"stuck: {len(client.jobs)} of the last requests have not ended")
                servers = [worker for worker in system.servers_of(broker) if service in worker.services]
                missed = [worker.who for worker in servers if worker.begun_count == before[worker.name]]
                if not missed:
                    break
            else:
                raise ViolationError(f"stuck: {missed[0]} is idle for ever while others work")

    # --- and no litter

    def _nothing_is_left(self, broker: SimBroker) -> None:
        """All clients leave, and ``broker`` has forgotten everything that they wanted."""
        world, system, core = self.world, self.system, broker.core

        def parked() -> list[str]:
            return [
                client.name for client in core.clients.by_peer.values() if client.parked and client.absent_since is None
            ]

        reading_at = max([world.now, *(client.frozen_until for client in system.clients if client.is_alive)])
        fetched_by = reading_at + system.plan.limits.liveness_s + 1  # so long one that is back may take to ask for them
        if parked() and not world.run(fetched_by, lambda: not parked()):
            raise ViolationError(f"leak: answers are parked for {parked()[0]}, who is here and does not want them")
        for client in system.askers:
            client.close()
        world.run(world.now + 1)
        broker.checker.check()
        # A lab's program that was let go says no goodbye: what it has asked goes on, as it may come back.
        if core.requests.count == sum(len(client.entries) for client in core.clients.absent):
            world.run(world.now + self._patience_s, lambda: not core.requests.count)
        if core.requests.count or core.requests.bytes:
            raise ViolationError(f"leak: {core.requests.count} requests are left")
        if not world.run(
            world.now + self._patience_s, lambda: not any(w.in_hand for w in core.workers.by_peer.values())
        ):
            raise ViolationError("leak: tasks are in the workers' hands")
        queued = sum(
            len([*service.waiting, *service.suspects]) for service in core.requests.dispatcher.services.values()
        )
        if queued > QUEUED_MAX:
            raise ViolationError(f"leak: {queued} ended requests lie in the queues")
        if core.requests.back_pressure.is_on:
            raise ViolationError("stuck: the client port is not read, and nothing is left to do")

    def _the_journal_is_empty(self, broker: SimBroker) -> None:
        """Nothing stands in it that anybody could want, and another broker reads that."""
        world, system, durability = self.world, self.system, broker.checker.durability
        if durability.disk is None:
            return
        world.run(world.now + 1)
        away = {client.name for client in broker.core.clients.absent}  # its answers are kept: it may come back
        left = [note for note in durability.left() if note.client not in away]
        if not left and (durability.left() or durability.kept_in_vain()):
            world.run(world.now + system.plan.limits.answers_keep_s + 1)
            left = durability.left() or durability.kept_in_vain()
        if left:
            raise ViolationError(f"leak: the journal still has {left[0].client}/{left[0].id}")
        broker.crash()
        broker.start_again()
        if system.journal is not None:
            self._somebody_serves()
        world.run(world.now + 1)

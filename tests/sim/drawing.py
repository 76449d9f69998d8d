"""What a seed means: the plan of its run, all drawn.

Not everything is on in every run: a fault that is off in half of the runs lets the others show themselves alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec

from cbw.core.broker.limits import Limits
from cbw.core.messages import PRIORITY_MAX

from .plan import ClientPlan, Job, JournalPlan, PlainClientPlan, PlainWorkerPlan, Plan, ServersPlan, WorkerPlan

SERVICES = ("", "a", "b")

FAULTS = {  # how often a second, at most
    "connection": 0.8,
    "partition": 0.5,
    "worker crash": 0.5,
    "worker stop": 0.3,
    "worker freeze": 0.5,
    "worker twin": 0.15,
    "client crash": 0.15,
    "client freeze": 0.3,
    "client twin": 0.1,
    "broker crash": 0.12,
    "broker stop": 0.08,
    "broker freeze": 0.1,
    "plain worker crash": 0.3,
    "plain worker freeze": 0.3,
    "plain client crash": 0.15,
    "plain client freeze": 0.15,
    "plain client twin": 0.1,
}

STRANGERS = 0.3
"""Hellos a second, at most, of strangers who say those of living clients."""

OPERATORS = 2.0
"""Acts a second, at most, of an operator."""

JOURNAL_FAULTS = {  # of brokers that have a journal
    "broker crash": 0.6,
    "broker stop": 0.2,
    "disk slow": 0.4,
    "disk full": 0.2,
}

SHARED = 0.15
"""Share of the seeds with clients and workers of ours whose brokers share a journal."""

LAB_SHARED = 0.6
"""Share of these that keep the seed's programs of the lab."""

FREQUENT = 0.12
"""Share of the other seeds with faults that have some all the time: brokers stand still and stop, lab programs have twins."""

FREQUENT_FAULTS = {
    "broker freeze": 3.0,
    "broker stop": 1.0,
    "plain client twin": 3.0,
    "plain client crash": 0.3,
}

SERVERS_FAULTS = {  # of brokers that share a journal
    "broker crash": 0.3,
    "broker stop": 0.1,
    "broker freeze": 0.4,
    "broker cut off": 0.3,
    "owner lost": 0.3,
    "servers elect": 0.3,
    "servers lose answers": 0.4,
    "servers tell old news": 0.4,
    "servers full": 0.1,
}


def draw(seed: int, rng: random.Random) -> Plan:
    """The plan of ``seed``."""
    slow_net = 10 ** rng.uniform(-4, -1.7)
    limits = Limits(
        requests_max=rng.choice([1_000_000] * 5 + [3, 10, 40]),
        requests_bytes_max=rng.choice([1 << 30] * 5 + [2_000]),
        parked_bytes_max=rng.choice([1 << 28] * 5 + [2_000]),
        attempts_max=rng.choice([3, 3, 3, 1, 2, 5]),
        answer_timeout_s=rng.choice([2.0, 2.0, 0.7]),
        absence_s=rng.choice([60.0, 60.0, 60.0, 10.0]),
        plain_ttl_s=rng.choice([None, None, None, 3.0]),
    )
    plan = Plan(
        seed,
        faults_s=rng.uniform(2, 14),
        delay_s=(slow_net * rng.uniform(0.05, 1), slow_net),
        batch_messages=rng.choice([1024, 1024, 1024, 7, 2]),
        queue_max=rng.choice([1000, 1000, 5, 2]),
        turn_messages=rng.choice([512, 512, 20, 2]),
        monitor_lag_s=rng.choice([0.0, 0.0, 0.0, 0.02, 0.5]),
        limits=limits,
    )
    flavour = rng.choice(["mixed", "mixed", "native", "plain"])
    services = list(SERVICES[: rng.choice([1, 1, 2, 3])])
    if rng.random() < 0.85:
        strange = {"mixed": "-", "native": "plain", "plain": "worker"}[flavour]
        for name in FAULTS:
            if not name.startswith(strange) and rng.random() < 0.4:
                plan.rates[name] = FAULTS[name] * rng.uniform(0.1, 1)
    _draw_workers(rng, plan, flavour, services)
    _draw_clients(rng, plan, flavour, services)
    if seed % 3 == 0:
        for client in plan.clients:
            for number, job in enumerate(job for _, jobs in client.bursts for job in jobs):
                job.priority = (number * 7 + number // 5) % (PRIORITY_MAX + 1)
    if seed % 4 == 1:
        _delay(plan)
    if seed % 5 == 2:
        stream(plan)
    draw_journal(plan, random.Random(f"journal {seed}"))
    _draw_dead_letters(plan, random.Random(f"dead letters {seed}"))
    _draw_strangers(plan, random.Random(f"strangers {seed}"))
    _draw_operator(plan, random.Random(f"operator {seed}"))
    _draw_brokers(plan, random.Random(f"brokers {seed}"))
    _draw_servers(plan, random.Random(f"servers {seed}"))
    _draw_frequent_faults(plan, random.Random(f"frequent faults {seed}"))
    return plan


def draw_journal(plan: Plan, rng: random.Random, share: float = 0.5) -> None:
    """Give so many brokers a journal. The chance for it is its own, so that everything else is as it would be without."""
    if rng.random() >= share:
        return
    append_s = 10 ** rng.uniform(-4, -1.5)
    plan.journal = JournalPlan(
        append_s=(append_s * rng.uniform(0.05, 1), append_s),
        slack_bytes=rng.choice([1 << 26, 0, 2_000, 10_000]),
        compact_bytes=rng.choice([1, 500, 3_000]),
        rewrite_bytes=rng.choice([1 << 20, 1, 1_000]),
    )
    plan.limits = msgspec.structs.replace(plan.limits, answers_keep_s=rng.choice([600.0, 600.0, 20.0]))
    if plan.rates:
        for name, rate in JOURNAL_FAULTS.items():
            if rng.random() < 0.5:
                plan.rates[name] = rate * rng.uniform(0.1, 1)


def _delay(plan: Plan) -> None:
    """Some handlers ask to be called again, and some requests are to wait."""
    for client in plan.clients:
        for number, job in enumerate(job for _, jobs in client.bursts for job in jobs):
            if number % 3 == 1 and not job.kind:
                job.kind = f"retry{1 + number % 4}"
            if number % 5 == 2:
                job.delay_s = 0.02 * (1 + number % 40) * (1.0 if job.ttl_s is None else min(1.0, job.ttl_s))


def stream(plan: Plan) -> None:
    """Some answers are wanted in parts."""
    for client in plan.clients:
        for number, job in enumerate(job for _, jobs in client.bursts for job in jobs):
            if number % 2 == 0 and not job.kind:
                job.kind = f"stream{1 + number * 37 % 150}"
                job.restarts = number % 4 == 0


def _draw_dead_letters(plan: Plan, rng: random.Random) -> None:
    """How many are kept, and how large. By a chance of its own, as above."""
    plan.limits = msgspec.structs.replace(
        plan.limits,
        dead_max=rng.choice([10_000, 10_000, 10_000, 0, 1, 3]),
        dead_bytes_max=rng.choice([1 << 26, 1 << 26, 1 << 26, 1 << 26, 3_000, 60_000]),
    )


def _draw_strangers(plan: Plan, rng: random.Random) -> None:
    """Whether somebody says the hellos of others. By a chance of its own, as above."""
    if plan.rates and rng.random() < 0.3:
        plan.rates["stranger"] = STRANGERS * rng.uniform(0.1, 1)


def _draw_operator(plan: Plan, rng: random.Random) -> None:
    """Whether somebody cancels, drains and pauses. By a chance of its own, as above."""
    if plan.rates and rng.random() < 0.3:
        plan.rates["operator"] = OPERATORS * rng.uniform(0.1, 1)


def _draw_brokers(plan: Plan, rng: random.Random) -> None:
    """How many there are. By a chance of its own, as above. The lab's programs know one each: there must be workers of ours."""
    if plan.workers and rng.random() < 0.25:
        plan.brokers = rng.choice([2, 2, 3])


def _draw_servers(plan: Plan, rng: random.Random) -> None:
    """Whether they share one journal. By a chance of its own, as above: all other seeds mean what they meant without."""
    if plan.workers and plan.clients and rng.random() < SHARED:
        share_journal(plan, rng, has_lab=random.Random(f"lab {plan.seed}").random() < LAB_SHARED)


def _draw_frequent_faults(plan: Plan, rng: random.Random) -> None:
    """Whether faults are much more frequent that need others to do harm. By a chance of its own, as above."""
    if plan.rates and plan.servers is None and rng.random() < FREQUENT:
        for name, rate in FREQUENT_FAULTS.items():
            if plan.plain_clients or not name.startswith("plain"):
                plan.rates[name] = rate * rng.uniform(0.3, 1)


def share_journal(plan: Plan, rng: random.Random, *, has_lab: bool = False) -> None:
    """One broker of several owns the journal, and the others stand by. Without ``has_lab`` with programs of ours alone."""
    plan.brokers = rng.choice([2, 2, 3])
    delay_s = 10 ** rng.uniform(-4, -1.5)
    plan.servers = ServersPlan((delay_s * rng.uniform(0.05, 1), delay_s), rng.choice([1 << 20, 1 << 20, 8_000, 3_000]))
    if plan.journal is None:
        draw_journal(plan, rng, share=1.0)
    others = ["disk", "stranger", "operator", "broker"]
    if not has_lab:
        plan.plain_clients, plan.plain_workers = [], []
        others.append("plain")
    plan.rates = {
        name: rate for name, rate in plan.rates.items() if not name.startswith(tuple(others)) and "twin" not in name
    }
    for name, rate in SERVERS_FAULTS.items():
        if rng.random() < 0.5:
            plan.rates[name] = rate * rng.uniform(0.1, 1)


def unshare_journal(plan: Plan) -> None:
    """One broker, with a journal of its own."""
    plan.servers, plan.brokers = None, 1
    plan.rates = {name: rate for name, rate in plan.rates.items() if name in FAULTS}


def _draw_workers(rng: random.Random, plan: Plan, flavour: str, services: list[str]) -> None:
    def speed() -> float:
        return rng.choice([1.0, 1.0, 1.0, 0.5, 3.0])

    if flavour != "plain":
        for number in range(rng.randint(1, 6)):
            plan.workers.append(
                WorkerPlan(
                    f"W{number}",
                    sorted(rng.sample(services, rng.randint(1, len(services)))),
                    concurrency=rng.choice([1, 1, 1, 2, 4]),
                    speed=speed(),
                    is_async=rng.random() < 0.3,
                    is_sheltered=rng.random() < 0.15,
                    restart_s=10 ** rng.uniform(-2, 0.5),
                    grace_s=rng.choice([0.0, 0.2, 2.0]),
                )
            )
        for service in services:  # somebody serves each
            if not any(service in worker.services for worker in plan.workers):
                rng.choice(plan.workers).services.append(service)
    if flavour != "native":
        for number in range(rng.randint(1, 4)):
            plan.plain_workers.append(
                PlainWorkerPlan(f"P{number}", rng.random() < 0.2, speed(), restart_s=10 ** rng.uniform(-1, 0.5))
            )
    if flavour == "plain":
        services[:] = [""]


@dataclass
class Habits:
    """What the clients of a run have in common: how long their work takes, and how often a job of theirs is unusual."""

    work_s: float
    evil: float  #: share of the jobs that end the process of their worker
    hang: float  #: share of the jobs that hold the GIL
    hurried: float  #: share of the jobs with a deadline
    fickle: float  #: share of the jobs that are cancelled
    is_mixed: bool  #: some jobs take a hundred times as long as others

    def job(self, rng: random.Random, token: str, service: str, *, is_of_lab: bool) -> Job:
        """A program of the lab can neither set a deadline nor cancel."""
        one_s = self.work_s * (10 ** rng.uniform(-1, 1) if self.is_mixed else rng.uniform(0.8, 1.2))
        if rng.random() < 0.01:
            one_s = rng.uniform(0.5, 4)
        job = Job(token, service, one_s)
        if rng.random() < self.evil:
            job.kind = "die"
        elif rng.random() < self.hang:
            job.kind = "hang"
        elif rng.random() < 0.02:
            job.kind = "raise"
        if not is_of_lab and rng.random() < self.hurried:
            job.ttl_s = rng.choice([0.0, 10 ** rng.uniform(-3, 1), rng.uniform(0.5, 8)])
        if not is_of_lab and rng.random() < self.fickle:
            job.cancel_after_s = 10 ** rng.uniform(-4, 0.5)
        if rng.random() < 0.003:
            job.pad = 40_000
        return job


def _draw_habits(rng: random.Random) -> Habits:
    return Habits(
        work_s=10 ** rng.uniform(-4.3, -0.3),
        evil=rng.choice([0.0, 0.0, 0.01, 0.04]),
        hang=rng.choice([0.0, 0.0, 0.0, 0.01]),
        hurried=rng.choice([0.0, 0.0, 0.1, 0.5]),
        fickle=rng.choice([0.0, 0.0, 0.05, 0.3]),
        is_mixed=rng.random() < 0.4,
    )


def _draw_clients(rng: random.Random, plan: Plan, flavour: str, services: list[str]) -> None:
    habits = _draw_habits(rng)
    capacity = sum(worker.concurrency for worker in plan.workers) + len(plan.plain_workers)
    budget = min(300, int(20 + plan.faults_s * capacity / habits.work_s * 0.8))

    def jobs(name: str, count: int, first: int, is_of_lab: bool) -> list[Job]:
        service = rng.choice(services)  # drawn for the lab too, whose programs know the nameless one only
        return [
            habits.job(rng, f"{name}/{number}", "" if is_of_lab else service, is_of_lab=is_of_lab)
            for number in range(first, first + count)
        ]

    def bursts(name: str, total: int, *, is_of_lab: bool) -> list[tuple[float, list[Job]]]:
        made: list[tuple[float, list[Job]]] = []
        first = 1
        size_max = rng.choice([1, 5, 30, total])
        while first <= total:
            count = min(rng.randint(1, max(1, size_max)), total - first + 1)
            made.append((rng.uniform(0, plan.faults_s), jobs(name, count, first, is_of_lab)))
            first += count
        return sorted(made, key=lambda burst: burst[0])

    native = 0 if flavour == "plain" and rng.random() < 0.7 else rng.randint(1, 4)
    plain = 0 if flavour == "native" else rng.randint(1, 4)
    share = max(1, budget // (native + plain))
    for number in range(native):
        name, queue_max = f"C{number}", (1000, 1000, 5, 1)[(plan.seed + number) % 4]
        plan.clients.append(ClientPlan(name, bursts(name, rng.randint(1, share), is_of_lab=False), queue_max))
    for number in range(plain):
        name = f"R{number}"
        patience_s = rng.choice([None, None, rng.uniform(1, 6)])
        is_dealer = rng.random() < 0.25
        plan.plain_clients.append(
            PlainClientPlan(
                name,
                rng.random() < 0.3,
                is_dealer,
                None if is_dealer else patience_s,
                bursts(name, rng.randint(1, min(share, 60)), is_of_lab=True),
            )
        )

"""What the broker shows of itself is so: its status page, compared with what the checker knows, and the fields of its trace."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.snapshot import snapshot
from cbw.core.histogram import BOUNDS_S
from cbw.core.messages import OWN_PREFIXES
from cbw.core.record import Record

from .account import Accepted, SeenAttempt
from .figures import Figures
from .looks import Looks
from .plain_workers import PlainWorker
from .told import check_told, check_verdict
from .workers import SimWorker
from .world import ViolationError

ROUNDING_S = 1e-6
CHECKS_PER_LOOK = 4
"""Only each fourth check is one: it takes more time than all else that is checked at that moment."""
QUIET_LOOKS = 4
"""Only each fourth look is one while nothing happens, and the page shows other times than before, and nothing else."""
TOLD_S = 0.001
"""A record is told in the turn in which it happens; what a broker reads in its journal, in its first one."""


class ShownStatus:
    """Looks at a broker's status page now and then, and at each record of its trace."""

    def __init__(self, seed: int, *, has_journal: bool) -> None:
        self._looks = Looks(seed)
        self._figures = Figures(has_journal=has_journal)
        self._took_s: list[
            float
        ] = []  # from the acceptance of each request that this broker has answered, in order of size
        self._took_total_s = 0.0
        self._checks = self._quiet_looks = 0
        self._has_news = False  # since the last look

    def clear(self) -> None:
        """The next broker begins with nothing."""
        self._figures.clear()
        self._took_s.clear()
        self._took_total_s = 0.0

    def heard(self, record: Record, core: BrokerCore, now: float) -> None:
        """
        Raises:
            ViolationError: the record is not of this broker and this moment, or names nobody where it has to.
        """
        _need(0 <= now - record.at < TOLD_S, f"{record.event} was told {now - record.at:g} s late")
        _need((record.role, record.sender) == ("broker", core.name), f"{record.event} is told by {record.sender!r}")
        self._has_news = True
        self._figures.heard(record)
        is_own = record.event == catalogue.ANSWERED and record.service.startswith(OWN_PREFIXES)  # by the broker itself
        for name in NAMED.get(record.event, ()) if not is_own else ():
            _need(bool(getattr(record, name)), f"{record.event} does not tell its {name}")

    def answered(self, service: str, accepted: Accepted, now: float) -> None:
        """A request for ``service`` was answered, or its handler has failed."""
        self._figures.answered(service, accepted, now)
        insort(self._took_s, now - accepted.at)
        self._took_total_s += now - accepted.at

    def check(
        self, core: BrokerCore, accepted: Mapping[int, Accepted], servers: Iterable[SimWorker | PlainWorker], now: float
    ) -> None:
        """
        Raises:
            ViolationError: the page shows something else than what is there.
        """
        self._checks += 1
        if self._checks % CHECKS_PER_LOOK:
            return
        if not self._has_news:
            self._quiet_looks += 1
            if self._quiet_looks % QUIET_LOOKS:
                return
        self._has_news = False
        status = snapshot(core, now)
        self._requests(status, accepted)
        self._latencies(status["latency"])
        _services(status)
        _workers(status, {server.name: server for server in servers}, accepted)
        self._figures.check(core, status, accepted, now)
        check_verdict(status)
        check_told(core, accepted, now)
        self._looks.look(core)

    def _requests(self, status: Mapping[str, Any], accepted: Mapping[int, Accepted]) -> None:
        shares = [status[name] for name in ("waiting", "delayed", "in_flight")]
        _need(
            min(shares) >= 0 and sum(shares) == status["requests"] == len(accepted),
            f"requests: {shares} of {len(accepted)}",
        )
        out = sum(bool(one.attempts) and not one.attempts[-1].void for one in accepted.values())
        _need(status["in_flight"] >= out, f"in_flight is {status['in_flight']}, and {out} requests are with a worker")
        asked = [client["requests"] for client in status["busiest_clients"]]
        _need(asked == sorted(asked, reverse=True) and all(asked), f"busiest clients with {asked} requests")
        _need(len(asked) <= status["clients"] or not asked, "more clients are busy than there are")

    def _latencies(self, shown: Mapping[str, Any]) -> None:
        counts: Sequence[int] = shown["counts"]
        most = self._took_total_s
        _need(
            -ROUNDING_S <= shown["total_s"] <= most + ROUNDING_S,
            f"latencies of {shown['total_s']} s in all, of {most} s",
        )
        least = sum(count * bound for count, bound in zip(counts, (0.0, *BOUNDS_S), strict=True))
        _need(
            least <= shown["total_s"] + ROUNDING_S,
            f"latencies of {shown['total_s']} s in all, but {least} s by their steps",
        )
        shown_longer = sum(counts)
        for count, bound in zip(counts, BOUNDS_S, strict=False):
            shown_longer -= count
            longer = len(self._took_s) - bisect_right(self._took_s, bound)
            _need(shown_longer <= longer, f"more than {longer} latencies are over {bound} s")


NAMED = {
    catalogue.ACCEPTED: ("request",),
    catalogue.HANDED_OUT: ("worker", "task", "attempt"),
    catalogue.ANSWERED: ("worker",),
    catalogue.ATTEMPT_FAILED: ("worker", "text"),
    catalogue.RETURNED: ("worker",),
    catalogue.WORKER_READY: ("worker",),
    catalogue.WORKER_LATE: ("worker",),
    catalogue.EXPIRED: ("request",),
    catalogue.GAVE_UP: ("text",),
}
"""Events, and what they have to name for who reads the log."""


def _services(status: Mapping[str, Any]) -> None:
    services = status["services"]
    rest = status["other_services"]
    for name in ("waiting", "delayed"):
        shown = sum(service[name] for service in services) + rest[name]
        _need(shown == status[name], f"{name} is {status[name]}, and {shown} by the services")
    registered = Counter(service for worker in status["workers"] for service in worker["services"])
    for service in services:
        count = registered[service["service"]]
        _need(
            service["workers"] == count,
            f"{service['workers']} workers serve {service['service']!r}, and {count} by the workers",
        )
        _need(service["free_workers"] <= count, f"more workers are free for {service['service']!r} than serve it")


def _workers(
    status: Mapping[str, Any], servers: Mapping[str, SimWorker | PlainWorker], accepted: Mapping[int, Accepted]
) -> None:
    workers = status["workers"]
    _need(len(workers) == status["worker_count"] == sum(status["worker_states"].values()), "workers are not counted")
    out: Counter[str] = Counter()
    for one in accepted.values():
        attempt: SeenAttempt | None = one.attempts[-1] if one.attempts else None
        if attempt is not None and not attempt.void and attempt.recovered_at is None:
            out[attempt.worker] += 1
    for worker in workers:
        name, server = worker["worker"], servers.get(worker["worker"])
        _need(
            worker["in_hand"] >= out[name], f"{name} has {worker['in_hand']} in hand, of {out[name]} that it was given"
        )
        _need(worker["credit"] >= 0, f"{name} has a credit of {worker['credit']}")
        _need(worker["silent_s"] + ROUNDING_S >= 0, f"{name} was heard in {-worker['silent_s']} s")
        _need(worker["silent_s"] <= worker["age_s"] + ROUNDING_S, f"{name} was heard last before it came")
        is_busy = worker["state"] == "busy"
        _need(not is_busy or worker["in_hand"] > 0, f"{name} is busy with nothing")
        _need(
            worker["state"] != "free" or (worker["in_hand"], worker["credit"] > 0) == (0, True), f"{name} is not free"
        )
        if isinstance(server, SimWorker):
            _need(worker["services"] == server.plan.services, f"{name} serves {worker['services']}")
            _need(worker["concurrency"] == server.plan.concurrency, f"{name} runs {worker['concurrency']} at once")


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(f"status: {text}")

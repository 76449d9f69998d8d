"""Nobody is idle while work waits (G2), and nobody is forgotten whose turn it is: looked at from time to time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .account import Accepted
from .plain_workers import PlainWorker
from .trust import nobody_is_trusted_for_ever
from .turns import Turns
from .unbegun import has_settled, idle_servers, not_begun
from .workers import SimWorker
from .world import ViolationError

if TYPE_CHECKING:
    from .checker import Checker

SAMPLE_S = 0.05
"""Seconds between two looks at G2."""


class Idleness:
    """Since when requests wait beside workers that are idle."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._waiting_since: dict[int, float] = {}
        self._turns = Turns(checker.world)

    def clear(self) -> None:
        """Nobody waits any more."""
        self._waiting_since.clear()
        self._turns.clear()

    def handed_out(self, worker: str, accepted: Accepted) -> None:
        """``worker`` was given this request, for the first time."""
        self._turns.handed_out(worker, accepted.at - SAMPLE_S, self._checker.accepted)

    @property
    def allowance_s(self) -> float:
        """How long a request may wait beside an idle worker: a recall there and back, and it is handed out."""
        return 0.15 + 10 * self._checker.network.slowest_s

    def sample(self) -> None:
        """G2: no worker is idle, as itself sees it, while a request that it could serve waits."""
        checker = self._checker
        now, broker, allowance_s, calm_s = checker.world.now, checker.broker, self.allowance_s, 2 * self.allowance_s
        if not broker.is_alive or broker.core.requests.stopping.is_on or now - broker.settled_at < calm_s:
            self.clear()
            return

        is_calm = partial(has_settled, broker, now - calm_s)
        servers: list[SimWorker | PlainWorker] = [*checker.workers, *checker.plain_workers]
        unbegun = not_begun(broker, checker.attempts, checker.operator.paused, is_calm)
        asked = servers if unbegun else checker.plain_workers  # looking at a late one of these disturbs it
        idle = idle_servers(asked, broker, checker.operator, is_calm, now - allowance_s)
        waiting: dict[int, float] = {}
        for request, service in unbegun:
            since = waiting[request] = self._waiting_since.get(request, now)
            if service in idle and now - since > allowance_s:
                accepted = checker.accepted[request]
                raise ViolationError(
                    f"G2: {accepted.token} has waited for {now - since:.3f} s while {idle[service].name} is idle; its "
                    f"attempts: {[(a.task, a.void) for a in accepted.attempts]}"
                )
        self._waiting_since = waiting
        checker.books.shown.check(broker.core, checker.accepted, servers, now)
        self._turns.sample(broker.core, checker.accepted)
        nobody_is_trusted_for_ever(checker.broker, checker.plan.limits, now)

"""What the broker counts is what it has told, and what leaves it is complete: one batch a peer, and a goodbye at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from operator import itemgetter

from cbw.core import catalogue
from cbw.core.broker import events
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.snapshot import state_of
from cbw.core.messages import OWN_PREFIXES, Goodbye
from cbw.core.record import Record

from .account import Accepted, SeenAttempt
from .broker_manners import BrokerManners
from .lives import Lives
from .status import ShownStatus
from .world import ViolationError

BY_ITSELF = "answered or failed by the broker itself"
COUNTED = {
    BY_ITSELF: "own_services_answered",
    catalogue.ANSWERED: catalogue.ANSWERED,
    catalogue.FAILED: catalogue.FAILED,
    catalogue.GAVE_UP: catalogue.GAVE_UP,
    catalogue.CANCELLED: catalogue.CANCELLED,
    catalogue.EXPIRED: catalogue.EXPIRED,
    catalogue.FENCED: "answers_fenced",
    catalogue.INHERITED: "answers_inherited",
    catalogue.RETURNED: "tasks_returned",
    catalogue.RETRIED: "requests_retried",
    catalogue.ATTEMPT_FAILED: "attempts_failed",
    catalogue.ANSWER_DROPPED: "answers_dropped",
    catalogue.CLIENT_UNCERTAIN: "clients_uncertain",
    catalogue.WORKER_LATE: "workers_late",
    catalogue.WORKER_READY: "workers_registered",
    catalogue.BAD_MESSAGE: "messages_bad",
    catalogue.RESULT_EXPIRED: "results_expired",
    catalogue.RESULT_DROPPED: "results_dropped",
    catalogue.DEAD_LETTER_KEPT: "dead_letters_kept",
    catalogue.DEAD_LETTER_PUSHED_OUT: "dead_letters_pushed_out",
}
"""Events, and the counts that say how many of them there were."""
_COUNTS_OF = itemgetter(*COUNTED.values())
_TOLD_OF = itemgetter(*COUNTED)

CHECKS_PER_SUM = 8
"""The histograms are added up at each eighth check: that takes as long as all else here."""


class Bookkeeping:
    """Compares the trace of a broker with its counts, and looks at its orders."""

    def __init__(self, seed: int, *, has_journal: bool) -> None:
        self._told: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._has_stopped = False
        self._checks = 0
        self.shown = ShownStatus(seed, has_journal=has_journal)
        self._lives = Lives()
        self._manners = BrokerManners(has_no_journal=not has_journal)

    def heard(self, record: Record, core: BrokerCore, now: float) -> None:
        """The broker has told this."""
        is_own = record.event in (catalogue.ANSWERED, catalogue.FAILED) and record.service.startswith(OWN_PREFIXES)
        self._told[BY_ITSELF if is_own else record.event] += 1
        self.shown.heard(record, core, now)
        self._lives.heard(record)

    def recovered(self, core: BrokerCore) -> None:
        """The broker goes on with what it has read in its journal."""
        self._lives.recovered(core)

    def clear(self) -> None:
        """The next broker begins with nothing."""
        self._told = Counter(dict.fromkeys(COUNTED, 0))
        self._has_stopped = False
        self.shown.clear()
        self._lives.clear()
        self._manners.clear()

    def ordered(self, facts: list[events.Event], orders: list[events.Event], core: BrokerCore) -> None:
        """
        Raises:
            ViolationError: a step sends a peer two batches where one would do, the broker stops without a goodbye, or a peer that
                is lost counts as one that is there.
        """
        for fact in facts:
            if isinstance(fact, events.PeerLost):
                _is_given_up(fact, core)
        sent = [order for order in orders if isinstance(order, events.SendToClient | events.SendToWorker)]
        batches = [(type(order).__name__, order.peer, order.dialect.name) for order in sent]
        if len({*batches}) < len(batches):
            raise ViolationError(f"one step, and more than one batch for somebody: {batches}")
        if not self._has_stopped and any(isinstance(order, events.Stop) for order in orders):
            self._has_stopped = True
            told = {order.peer for order in sent if any(type(message) is Goodbye for message in order.messages)}
            here = [client for client in core.clients.by_peer.values() if client.dialect.has_sessions]
            if missed := [client.name for client in here if client.peer not in told]:
                raise ViolationError(f"G12: the broker stops and has not said goodbye to {missed}")

    def hears(self, facts: list[events.Event]) -> None:
        """The broker is about to be told that."""
        self._manners.heard(facts)

    def says(
        self, orders: list[events.Event], accepted: Mapping[int, Accepted], attempts: Mapping[int, SeenAttempt]
    ) -> None:
        """
        Raises:
            ViolationError: after what it has heard, the broker must not say that.
        """
        self._manners.says(orders, accepted, attempts)

    def check(self, core: BrokerCore, accepted: Mapping[int, Accepted]) -> None:
        """
        Raises:
            ViolationError: a count differs from what was told, or a request is not where it is told to be.
        """
        self._lives.check(core, accepted)
        counts = core.outbox.counts
        if _COUNTS_OF(counts) != _TOLD_OF(self._told):
            event, name = next((event, name) for event, name in COUNTED.items() if counts[name] != self._told[event])
            raise ViolationError(f"G9: {name} is {counts[name]}, but {event} was told {self._told[event]} times")
        here = counts["workers_registered"] - counts["workers_lost"]
        if here != len(core.workers.by_peer):
            raise ViolationError(f"G3: {here} workers by the counts, {len(core.workers.by_peer)} in the table")
        self._checks += 1
        if self._checks % CHECKS_PER_SUM:
            return
        core.requests.durations.count()
        timed, answered = sum(core.requests.durations.all.counts), counts[catalogue.ANSWERED] + counts[catalogue.FAILED]
        if timed > answered:
            raise ViolationError(f"G9: {timed} latencies of {answered} answers")


def _is_given_up(lost: events.PeerLost, core: BrokerCore) -> None:
    """Who is lost counts as that from this step on, unless it is somewhere else by now, over another connection. What is parked
    for a program of the lab may be sent to its identity in the same step, in case it is back: only its words show that it is.
    """
    if lost.side is events.Side.WORKER:
        worker = core.workers.by_peer.get(lost.peer)
        is_over = worker is None or state_of(worker) in ("late", "absent")
    else:
        client = core.clients.by_peer.get(lost.peer)
        is_over = client is None or client.absent_since is not None or client.is_only_tried
    if not is_over:
        raise ViolationError(f"G3: {lost.peer!r} is lost, and the broker goes on as if it were there")

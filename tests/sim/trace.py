"""What a broker records of its requests, against what is known of them (G4 to G7, G9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbw.core.record import Record

from .account import Accepted, SeenAttempt
from .blame import may_count
from .ends import need_deadline_passed
from .operator import NAME
from .served import UNSERVED
from .wishes import OWN
from .world import ViolationError

if TYPE_CHECKING:
    from .checker import Checker

BROKE_OFF = "the answer broke off"
"""How the record begins of a stream that is broken."""
LOST_PARTS = "parts of its answer were lost"
"""How the record begins of an attempt that was given up because its client has not got all parts."""


class Trace:
    """The records of one broker, from the first to the last."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.last_of: dict[str, int] = {}
        """By worker, the task given last: it may have ended in the same step."""

    def heard(self, record: Record) -> None:
        """The broker has recorded this."""
        checker = self._checker
        now = checker.world.now
        self._of_clients(record)
        if record.event in ("result_dropped", "result_expired"):
            checker.unsent_answers.discard(record.request)
        if checker.programs.tickets.told(record):
            return
        if not record.request or record.event in ("refused", "fenced", "stored", "task_recovered"):
            return
        request = int(record.request.rpartition("/")[2])
        if record.event.startswith("dead_letter_"):
            accepted = checker.accepted.get(request)
            job = checker.jobs[accepted.token] if accepted is not None else None
            checker.poison.heard(record, accepted, job, checker.broker.core)
            return
        if record.event == "answer_dropped":
            checker.unsent_answers.discard(record.request)
            if request in checker.plain_tokens:
                checker.excuse(checker.plain_tokens[request], "its answer was dropped")
            return
        if record.event == "accepted":
            is_new = record.request not in checker.unsent_answers
            checker.need(is_new, f"G7: {record.request} is run again, though its answer never left the broker")
            checker.need(request not in checker.accepted, f"G4: {record.request} was accepted twice")
            is_of_lab = request in checker.plain_tokens
            token = checker.plain_tokens[request] if is_of_lab else checker.asked[request][0]
            has_room = (
                is_of_lab or checker.jobs[token].kind == OWN or len(checker.accepted) < checker.plan.limits.requests_max
            )
            checker.need(has_room, f"G9: {token} was accepted over the limit")
            ttl = checker.ttl[request]
            checker.accepted[request] = Accepted(token, None if ttl is None else now + ttl, now)
            checker.durability.accepted(request, checker.accepted[request])
            checker.delays.accepted(request, now)
            checker.fairness.heard(record, request, checker.jobs[token])
            return
        accepted = checker.accepted.get(request)
        if accepted is None:
            raise ViolationError(f"G4: {record.event} for {record.request}, which is not in the broker")
        checker.fairness.heard(record, request, checker.jobs[accepted.token])
        if checker.delays.heard(record, request, accepted, now):
            return
        if record.event == "handed_out":
            self._handed_out(record, request, accepted)
        elif record.event == "returned":
            attempt = accepted.attempts[-1]
            checker.need(attempt.task == record.task and not attempt.void, f"G4: task {record.task} returned twice")
            checker.durability.may_be_taken_away(attempt)
            attempt.void = "restarted" if record.text.startswith(LOST_PARTS) else "returned"
        elif record.event == "attempt_failed":
            self._attempt_failed(record, accepted)
        else:
            self._ended(record, request, accepted)

    def _ended(self, record: Record, request: int, accepted: Accepted) -> None:
        checker = self._checker
        del checker.accepted[request]
        is_of_lab = request in checker.plain_tokens
        checker.durability.ended(request, record, accepted.token, is_of_lab=is_of_lab)
        is_own = checker.jobs[accepted.token].kind == OWN
        if record.event in ("answered", "failed") and not is_of_lab and not is_own:
            checker.unsent_answers.add(record.request)  # the broker may answer what it runs itself again at any time
        if is_own and record.event != "cancelled":
            checker.need(not accepted.attempts, f"G4: {accepted.token} was handed out, and is the broker's own")
        elif record.text.startswith(BROKE_OFF):
            if accepted.attempts:
                accepted.attempts[-1].void = accepted.attempts[-1].void or "failed"
        elif record.event in ("answered", "failed"):
            attempt = accepted.attempts[-1]
            is_live = attempt.task == record.task and not attempt.void
            checker.need(is_live, f"G4: {accepted.token} ended with the answer of a void attempt, {record.task}")
            attempt.is_accepted = True
            checker.books.shown.answered(record.service, accepted, checker.world.now)
        elif record.event == "gave_up":
            checker.poison.gave_up(record.request, accepted, checker.jobs[accepted.token])
        elif record.event == "expired" and UNSERVED in record.text:
            checker.served.ended(record, accepted, checker.world.now)
        elif record.event == "expired":
            asked_at = checker.asked.get(request, ("", None))[1]
            need_deadline_passed(accepted, asked_at, checker.jobs[accepted.token].ttl_s, checker.world.now)
        elif record.event == "cancelled" and NAME in record.text:
            checker.operator.ended(record, accepted, checker.jobs[accepted.token])
            if is_of_lab:
                checker.excuse(accepted.token, record.text)
        elif record.event == "cancelled" and is_of_lab:
            self._plain_cancelled(accepted.token, record.text)

    def _of_clients(self, record: Record) -> None:
        checker = self._checker
        checker.unsent_answers.heard(record)
        checker.durability.record(record)
        checker.delays.kept(record)
        if record.event == "client_gone" and record.client not in checker.plain_clients:
            for token in checker.durability.take_unsent(record.client).values():
                checker.excuse(token, "its client is gone and had no name")

    def _plain_cancelled(self, token: str, why: str) -> None:
        checker = self._checker
        client = checker.plain_clients.get(token.partition("/")[0])
        connection = client.connection_to(checker.broker.clients) if client else None
        is_there = connection is not None and not connection.is_lost and why.startswith("away")
        checker.need(not is_there, f"G4: {token} was cancelled ({why}), but its client is connected and waits")
        checker.excuse(token, why)

    def _handed_out(self, record: Record, request: int, accepted: Accepted) -> None:
        checker = self._checker
        now, token = checker.world.now, accepted.token
        checker.operator.handed_out(record)
        is_in_time = accepted.deadline_at is None or accepted.deadline_at > now - 1e-6
        checker.need(
            is_in_time, f"G6: {token} was handed out {now - (accepted.deadline_at or 0):.3f} s after its deadline"
        )
        is_free = not accepted.attempts or accepted.attempts[-1].void
        checker.need(bool(is_free), f"G4: {token} was handed out, but an attempt lives")
        checker.need(
            record.attempt == 1 + accepted.failed,
            f"G5: {token} is at attempt {record.attempt}, but {accepted.failed} have failed",
        )
        lab = {worker.name for worker in checker.plain_workers}
        died = accepted.died(lab, is_stream=checker.jobs[token].kind.startswith("stream"))
        checker.need(
            died < checker.plan.limits.attempts_max, f"G5: {token} was handed out again after {died} workers died of it"
        )
        checker.need(record.task not in checker.attempts, f"G4: task {record.task} was given twice")
        if record.attempt == 1:
            checker.idleness.handed_out(record.worker, accepted)
        attempt = checker.attempts[record.task] = SeenAttempt(record.task, request, token, now, record.worker)
        accepted.attempts.append(attempt)
        self.last_of[record.worker] = record.task

    def _attempt_failed(self, record: Record, accepted: Accepted) -> None:
        checker = self._checker
        attempt = accepted.attempts[-1]
        checker.need(attempt.task == record.task and not attempt.void, f"G5: task {record.task} failed twice")
        attempt.void = "failed"
        may = may_count(attempt, checker.plan, checker.durability, checker.unread, checker.world.now)
        checker.need(may, f"G5: {attempt.token}: attempt {record.task} counts, but {record.text!r} is not so")
        connection = attempt.connection
        attempt.is_excused |= connection is None or connection.link.process.is_frozen

"""Each check passes a good trace and fails one with the fault that it is there for."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.verify.checks import judge, report
from cbw.verify.idle import IDLE_S_MAX, WAY_S_MAX
from cbw.verify.verdict import EVIDENCE_MAX, Verdict


def broker(at: float, event: str, **fields: object) -> Record:
    return Record(at, catalogue.EventName(event), role="broker", sender="BRO", **fields)  # type: ignore[arg-type]


def ready(at: float, worker: str, services: str = "s") -> Record:
    return broker(at, "worker_ready", worker=worker, text=services)


def accepted(at: float, request: str, service: str = "s") -> Record:
    return broker(at, "accepted", request=request, service=service)


def given(at: float, event: str, request: str, worker: str, task: int, service: str = "s") -> Record:
    """A broker's record of what became of an attempt."""
    return broker(at, event, request=request, service=service, worker=worker, task=task)


def sent(at: float, request: str, service: str = "s", *, text: str | None = None) -> Record:
    client = request.partition("/")[0]
    return Record(
        at,
        catalogue.SENT,
        role="client",
        sender=client,
        request=request,
        client=client,
        service=service,
        text=request if text is None else text,
    )


def got(at: float, request: str, text: str) -> Record:
    client = request.partition("/")[0]
    return Record(at, catalogue.GOT, role="client", sender=client, request=request, client=client, text=text)


def failed(at: float, request: str, text: str = "no answer") -> Record:
    client = request.partition("/")[0]
    return Record(at, catalogue.FAILED, role="client", sender=client, request=request, client=client, text=text)


def begun(at: float, worker: str, request: str = "", task: int = 0, service: str = "s") -> Record:
    return Record(
        at, catalogue.BEGUN, role="worker", sender=worker, request=request, service=service, worker=worker, task=task
    )


def done(at: float, worker: str, request: str = "", task: int = 0, service: str = "s") -> Record:
    return Record(
        at, catalogue.DONE, role="worker", sender=worker, request=request, service=service, worker=worker, task=task
    )


def hurt(at: float, event: str, worker: str, request: str, task: int = 0) -> Record:
    return Record(
        at, catalogue.EventName(event), role="verify", sender="verify", request=request, worker=worker, task=task
    )


def started(at: float, service: str = "s") -> Record:
    return Record(at, catalogue.STARTED, role="verify", sender="verify", service=service)


def verdict(name: str, records: list[Record]) -> Verdict:
    ordered = sorted(records, key=lambda record: record.at)
    return next(found for found in judge(ordered) if found.name == name)


def without(records: list[Record], *events: str) -> list[Record]:
    return [record for record in records if record.event not in events]


def test_no_record_is_an_error() -> None:
    with pytest.raises(UsageError, match="no record"):
        judge([])


def test_checks_with_nothing_to_judge_say_so_and_pass() -> None:
    verdicts = judge([broker(0.0, "stopping")])
    assert [found.name for found in verdicts] == [
        "own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker", "killed-broker", "restarted-broker",
    ]  # fmt: skip
    assert all(found.passed and found.result == "not tried" and found.figures["judged"] == 0 for found in verdicts)


def test_the_report_is_what_programs_were_promised() -> None:
    whole = report(judge([sent(0.0, "A/1"), got(1.0, "A/1", "B/1 W")]))
    assert list(whole) == ["checks", "passed"]
    assert whole["passed"] is False
    assert isinstance(whole["checks"], list)
    assert all(list(check) == ["name", "passed", "figures"] for check in whole["checks"])


class TestOwnReplies:
    name = "own-replies"

    def test_replies_to_their_own_requests(self) -> None:
        found = verdict(self.name, [sent(0, "A/1"), sent(0, "B/1"), got(1, "B/1", "B/1 W"), got(2, "A/1", "A/1 W")])
        assert found.passed
        assert found.result == "kept"
        assert (found.figures["judged"], found.figures["clients"]) == (2, 2)

    def test_swapped_replies(self) -> None:
        found = verdict(self.name, [sent(0, "A/1"), sent(0, "B/1"), got(1, "A/1", "B/1 W"), got(2, "B/1", "A/1 W")])
        assert not found.passed
        assert found.figures["wrong"] == 2
        assert found.evidence[0] == "A asked 'A/1' and got 'B/1 W'"

    def test_replies_swapped_between_requests_of_one_client(self) -> None:
        assert not verdict(self.name, [sent(0, "A/1"), sent(0, "A/2"), got(1, "A/1", "A/2 W")]).passed

    def test_a_reply_whose_request_only_begins_alike(self) -> None:
        assert not verdict(self.name, [sent(0, "A/1"), got(1, "A/1", "A/10 W")]).passed

    def test_a_reply_whose_request_is_the_beginning_of_another(self) -> None:
        records = [sent(0, "A/1", text="A-1"), sent(0, "A/2", text="A-1 b")]
        assert not verdict(self.name, [*records, got(1, "A/1", "A-1 b W"), got(1, "A/2", "A-1 b W")]).passed
        assert verdict(self.name, [*records, got(1, "A/1", "A-1 W"), got(1, "A/2", "A-1 b W")]).passed

    def test_a_worker_with_a_space_in_its_name(self) -> None:
        records = [sent(0, "A/1"), got(1, "A/1", "A/1 b W")]
        assert verdict(self.name, [ready(0, "b W"), *records]).passed
        assert not verdict(self.name, records).passed

    @pytest.mark.parametrize(("asked", "answered"), [("", ""), ("A-1", "HELLO"), ("A-1", ""), ("what", "A-1 W")])
    def test_replies_that_do_not_name_their_requests_are_not_judged(self, asked: str, answered: str) -> None:
        records = [sent(0, "A/1", text=asked), got(1, "A/1", answered)]
        found = verdict(self.name, records)
        assert (found.result, found.figures["judged"], found.figures["unread"]) == ("not tried", 0, 1)
        assert "1 replies, but none that names its request" in found.summary
        assert not verdict(self.name, [*records, got(2, "A/1", "")]).passed, "but a second one is"

    def test_but_in_a_verification_they_are(self) -> None:
        assert not verdict(self.name, [started(0), sent(0, "A/1"), got(1, "A/1", "HELLO")]).passed

    def test_what_nobody_had_begun_is_no_answer(self) -> None:
        records = [started(0), sent(0, "A/1"), sent(0, "A/2"), begun(1, "W", "A/1"), begun(1, "V", "A/2")]
        records += [got(2, "A/1", "A/1 W"), got(2, "A/2", "A/2 V")]
        assert verdict(self.name, records).passed
        found = verdict(self.name, [*records, sent(3, "A/3"), got(4, "A/3", "A/3 W")])
        assert found.evidence == ["A/3 was answered in the name of W, which had not begun it"]
        assert not verdict(self.name, [record for record in records if record.worker != "V"]).passed
        assert not verdict(self.name, [*records, sent(3, "A/3"), begun(3, "V", "A/3"), got(4, "A/3", "A/3")]).passed
        assert verdict(self.name, without([*records, sent(3, "A/3"), got(4, "A/3", "A/3 W")], "started")).passed
        assert verdict(self.name, without(records, "begun")).passed, "nothing is known of the workers"

    def test_answers_that_nobody_asked_for(self) -> None:
        unasked = Record(3, catalogue.UNASKED, role="client", sender="A", client="A", count=2)
        found = verdict(self.name, [sent(0, "A/1"), got(1, "A/1", "A/1 W"), unasked])
        assert found.evidence == ["A got 2 answers to requests that had ended"]

    def test_a_second_reply(self) -> None:
        assert not verdict(self.name, [sent(0, "A/1"), got(1, "A/1", "A/1 W"), got(2, "A/1", "A/1 W")]).passed

    def test_a_reply_that_nobody_asked_for(self) -> None:
        assert not verdict(self.name, [got(1, "A/1", "A/1 W")]).passed

    @pytest.mark.parametrize("end", [[], [failed(1, "A/1")]])
    def test_a_request_without_an_answer(self, end: list[Record]) -> None:
        records = [sent(0, "A/1"), *end, sent(2, "A/2"), got(3, "A/2", "A/2 W")]
        assert not verdict(self.name, [started(0), *records]).passed, "a verification is owed its answers"
        other = verdict(self.name, records)
        assert other.passed, "in other traces a client may have been stopped, or an error been right"
        assert other.figures["unanswered" if not end else "failed"] == 1

    def test_the_request_of_a_worker_that_was_hurt_is_not_judged_twice(self) -> None:
        records = [started(0), sent(0, "A/1"), hurt(1, "killed", "W1", "A/1"), failed(2, "A/1")]
        assert verdict(self.name, records).passed
        assert not verdict("killed-worker", records).passed

    def test_many_faults_have_few_lines(self) -> None:
        records = [record for n in range(99) for record in (sent(n, f"A/{n}"), got(n + 0.5, f"A/{n}", "B/1"))]
        found = verdict(self.name, records)
        assert found.figures["wrong"] == 99
        assert len(found.evidence) == EVIDENCE_MAX


class TestNoIdleWhileWaiting:
    name = "no-idle-while-waiting"

    def one(self, handed_out_at: float) -> list[Record]:
        return [
            ready(0.0, "W1"),
            accepted(1.0, "A/1"),
            given(handed_out_at, "handed_out", "A/1", "W1", 1),
            given(handed_out_at + 1, "answered", "A/1", "W1", 1),
        ]

    def test_handed_out_at_once(self) -> None:
        found = verdict(self.name, self.one(1.0))
        assert found.passed
        assert found.result == "kept"
        assert (found.figures["longest_s"], found.figures["intervals"], found.figures["source"]) == (0.0, 0, "broker")

    def test_a_worker_left_free(self) -> None:
        found = verdict(self.name, self.one(1.0 + 2 * IDLE_S_MAX))
        assert not found.passed
        assert found.figures["longest_s"] == found.figures["p99_s"] == pytest.approx(2 * IDLE_S_MAX)
        assert "W1 was free while A/1 waited" in found.evidence[0]

    def test_a_worker_left_free_for_a_moment(self) -> None:
        found = verdict(self.name, self.one(1.0 + 0.5 * IDLE_S_MAX))
        assert found.passed
        assert found.figures["total_s"] == pytest.approx(0.5 * IDLE_S_MAX)

    def test_a_worker_of_another_service_is_not_to_blame(self) -> None:
        records = [ready(0.0, "W2", "other"), *self.one(1.0), accepted(1.0, "A/2")]
        records += [given(2.0, "handed_out", "A/2", "W1", 2), given(3.0, "answered", "A/2", "W1", 2)]
        assert verdict(self.name, records).passed
        assert not verdict(self.name, [ready(0.0, "W2", "other,s"), *records[1:]]).passed

    def favourite(self) -> list[Record]:
        records = [ready(0.0, "W1"), ready(0.0, "W2")]
        records += [accepted(1.0, f"A/{n}") for n in range(4)]
        for n in range(4):
            records.append(given(1.0 + n, "handed_out", f"A/{n}", "W1", n))
            records.append(given(1.9999 + n, "answered", f"A/{n}", "W1", n))
        return records

    def test_one_worker_gets_all_while_another_is_free(self) -> None:
        found = verdict(self.name, self.favourite())
        assert not found.passed
        assert found.figures["longest_s"] == pytest.approx(3.0, abs=0.01)

    def poured(self) -> list[Record]:
        records = [ready(0.0, "W1"), ready(0.0, "W2")]
        records += [accepted(1.0, f"A/{n}") for n in range(4)]
        return records + [given(1.0, "handed_out", f"A/{n}", "W1", n) for n in range(4)]

    def test_what_lies_in_the_hand_of_a_busy_worker_waits_too(self) -> None:
        records = self.poured()
        for n in range(4):
            records += [begun(1.01 + n, "W1", task=n), done(1.9 + n, "W1", task=n)]
            records.append(given(1.91 + n, "answered", f"A/{n}", "W1", n))
        assert not verdict(self.name, records).passed
        assert verdict(self.name, without(records, "begun", "done")).passed, "the broker alone cannot know"

    def test_what_is_recalled_soon_enough_has_waited_little(self) -> None:
        records = [*self.poured(), begun(1.001, "W1", task=0), given(1.01, "returned", "A/1", "W1", 1)]
        records += [given(1.01, "handed_out", "A/1", "W2", 5), given(2.0, "answered", "A/0", "W1", 0)]
        records += [begun(2.001, "W1", task=2), given(2.5, "answered", "A/2", "W1", 2), begun(2.501, "W1", task=3)]
        records += [given(3.0, "answered", "A/3", "W1", 3), given(3.0, "answered", "A/1", "W2", 5)]
        found = verdict(self.name, records)
        assert found.passed
        assert found.figures["longest_s"] == pytest.approx(0.009)

    def test_what_is_on_its_way_does_not_wait(self) -> None:
        records = [*self.one(1.0), ready(0.0, "W2"), begun(1.5, "W1", task=1)]
        assert verdict(self.name, records).passed

    def test_a_request_that_waits_for_ever(self) -> None:
        found = verdict(self.name, [*self.one(1.0)[:2], broker(5.0, "client_hello")])
        assert not found.passed
        assert found.figures["longest_s"] == pytest.approx(4.0)
        assert "end of the trace" in found.evidence[-1]

    def test_one_long_wait_does_not_hide_among_many_short_ones(self) -> None:
        """Of 2000 intervals 4 are long, which p99 allows; but they kept a sixth of all requests waiting."""
        records = [ready(0.0, "W1")]
        for n in range(2000):
            at = 1.0 + n * 0.01
            records += [accepted(at, f"S/{n}"), given(at + 0.001, "handed_out", f"S/{n}", "W1", n)]
            records.append(given(at + 0.002, "answered", f"S/{n}", "W1", n))
        for n in range(4):
            at = 100.0 + 10 * n
            tasks = [(f"L{n}/{m}", 10_000 + 100 * n + m) for m in range(100)]
            records += [accepted(at, request) for request, _ in tasks]
            records += [given(at + 5, "handed_out", request, "W1", task) for request, task in tasks]
            records += [given(at + 6, "answered", request, "W1", task) for request, task in tasks]
        found = verdict(self.name, records)
        assert found.figures["p99_s"] == pytest.approx(0.001, abs=0.0002)
        assert found.figures["request_p99_s"] == pytest.approx(5.0)
        assert not found.passed

    def test_a_late_worker_is_not_free(self) -> None:
        records = [
            ready(0.0, "W1"),
            accepted(1.0, "A/1"),
            given(1.0, "handed_out", "A/1", "W1", 1),
            broker(3.0, "worker_late", worker="W1"),
            given(3.0, "attempt_failed", "A/1", "W1", 1),
            broker(5.0, "fenced", worker="W1", task=1),
            given(5.0, "handed_out", "A/1", "W1", 2),
            given(6.0, "answered", "A/1", "W1", 2),
        ]
        assert verdict(self.name, records).passed
        assert not verdict(self.name, without(records, "worker_late")).passed

    def test_a_worker_that_wants_nothing_is_not_free(self) -> None:
        records = [*self.one(3.0), broker(0.5, "credit_changed", worker="W1", text="0")]
        assert not verdict(self.name, records[:-1]).passed
        assert verdict(self.name, [*records, broker(3.0, "credit_changed", worker="W1", text="1")]).passed
        assert not verdict(self.name, [*records, broker(2.0, "credit_changed", worker="W1", text="1")]).passed

    def test_a_cancelled_task_keeps_its_slot_until_the_worker_is_done_with_it(self) -> None:
        records = [
            *self.one(1.0)[:3],
            given(1.5, "cancelled", "A/1", "W1", 1),
            accepted(1.6, "A/2"),
            broker(4.0, "fenced", worker="W1", task=1),
            given(4.0, "handed_out", "A/2", "W1", 2),
        ]
        assert verdict(self.name, records).passed
        records[-1].at = 5.0
        assert not verdict(self.name, records).passed

    @pytest.mark.parametrize("event", ["expired", "cancelled", "stopped"])
    def test_what_has_ended_waits_no_more(self, event: str) -> None:
        records = [accepted(1.0, "A/1"), broker(2.0, event, request="A/1", service="s"), ready(3.0, "W1")]
        assert verdict(self.name, [*records, broker(9.0, "stopping")]).passed

    def test_given_up_for_good(self) -> None:
        records = [*self.one(1.0)[:3], ready(1.0, "W2"), broker(2.0, "worker_lost", worker="W1")]
        records += [given(2.0, "attempt_failed", "A/1", "W1", 1), given(2.0, "gave_up", "A/1", "W1", 1)]
        assert verdict(self.name, [*records, broker(9.0, "stopping")]).passed

    def test_a_lost_worker_is_not_free_and_its_request_waits_again(self) -> None:
        records = [*self.one(1.0)[:3], broker(2.0, "worker_lost", worker="W1")]
        records.append(given(2.0, "attempt_failed", "A/1", "W1", 1))
        assert verdict(self.name, [*records, broker(9.0, "stopping")]).passed
        assert not verdict(self.name, [*records, ready(3.0, "W2"), broker(9.0, "stopping")]).passed

    def test_a_broker_that_starts_again_has_forgotten(self) -> None:
        records = [accepted(1.0, "A/1"), broker(2.0, "started"), ready(3.0, "W1"), broker(9.0, "stopping")]
        assert verdict(self.name, records).passed
        assert not verdict(self.name, without(records, "started")).passed

    def test_a_trace_that_begins_in_the_middle(self) -> None:
        records = [
            given(0.0, "answered", "A/0", "W1", 1),
            given(0.5, "handed_out", "A/1", "W1", 2),
            given(0.6, "handed_out", "A/2", "W2", 3),
            given(0.7, "answered", "A/2", "W2", 3),
            accepted(1.0, "A/3"),
            given(2.0, "handed_out", "A/3", "W2", 4),
        ]
        assert not verdict(self.name, records).passed, "W2 was free, and nothing before hides it"

    def test_only_the_service_of_the_verification_is_judged(self) -> None:
        theirs = [ready(0.0, "T", "theirs"), accepted(1.0, "X/1", "theirs"), broker(9.0, "stopping")]
        ours = [started(0.5, "s"), *self.one(1.0)]
        assert not verdict(self.name, [*theirs, *self.one(1.0)]).passed
        found = verdict(self.name, [*theirs, *ours])
        assert found.passed
        assert found.figures["judged"] == 1

    def ends(self, begun_at: float) -> list[Record]:
        return [
            sent(0.0, "A/0"),
            begun(0.001, "W1", "A/0"),
            done(0.1, "W1", "A/0"),
            sent(1.0, "A/1"),
            begun(begun_at, "W1", "A/1"),
            done(2.0, "W1", "A/1"),
            got(2.0, "A/1", "A/1 W1"),
        ]

    def test_without_the_broker_the_ends_are_judged_and_the_way_allowed(self) -> None:
        found = verdict(self.name, self.ends(1.0 + WAY_S_MAX))
        assert found.passed
        assert found.figures["source"] == "clients and workers"
        assert "for the way to the broker and back" in found.evidence[0]
        assert not verdict(self.name, self.ends(1.0 + WAY_S_MAX + 2 * IDLE_S_MAX)).passed

    def test_from_the_ends_a_beginning_that_is_told_twice_counts_once(self) -> None:
        """By a worker's trace, and by that of its handler."""
        twice = [record for record in self.ends(1.001) for _ in range(2 if record.event in ("begun", "done") else 1)]
        assert verdict(self.name, twice).figures["judged"] == 2

    @pytest.mark.parametrize("event", ["killed", "frozen"])
    def test_from_the_ends_what_a_hurt_worker_had_does_not_wait(self, event: str) -> None:
        records = [*self.ends(1.001), sent(3.0, "A/2"), begun(3.001, "W2", "A/2"), hurt(3.5, event, "W2", "A/2")]
        records += [begun(7.0, "W1", "A/2"), hurt(7.1, "thawed", "W2", "A/2"), done(7.2, "W2", "A/2")]
        assert verdict(self.name, [*records, done(8.0, "W1", "A/2")]).passed

    def test_a_worker_that_gets_nothing_of_a_repeated_load_is_free(self) -> None:
        before = [*self.ends(1.9), Record(2.5, catalogue.LOAD_REPEATED, role="verify", sender="verify")]
        before += [sent(3.0, "A/2"), sent(3.0, "A/3"), begun(3.01, "W2", "A/2"), done(4.0, "W2", "A/2")]
        found = verdict(self.name, [*before, begun(4.01, "W2", "A/3"), done(5.0, "W2", "A/3")])
        assert not found.passed and "W1 was free while" in found.evidence[1]
        assert found.figures["judged"] == 2
        assert verdict(self.name, [*before, begun(3.01, "W1", "A/3"), done(5.0, "W1", "A/3")]).passed

    def test_workers_that_do_not_say_which_request_they_began_cannot_be_judged(self) -> None:
        records = [sent(0.0, "A/0"), begun(0.1, "W1", task=1), done(3.0, "W1", task=1), sent(4.0, "A/1")]
        assert verdict(self.name, [*records, begun(9.0, "W1", task=2)]).result == "not tried"


class TestKilledWorker:
    name = "killed-worker"

    def records(self) -> list[Record]:
        return [
            sent(0.0, "A/1"),
            given(0.05, "handed_out", "A/1", "W1", 1),
            begun(0.1, "W1", "A/1", 1),
            hurt(0.5, "killed", "W1", "A/1", 1),
            given(0.55, "attempt_failed", "A/1", "W1", 1),
            given(0.56, "handed_out", "A/1", "W2", 2),
            begun(0.6, "W2", "A/1", 2),
            done(1.6, "W2", "A/1", 2),
            given(1.65, "answered", "A/1", "W2", 2),
            got(1.7, "A/1", "A/1 W2"),
        ]

    def test_two_verifications_in_one_trace(self) -> None:
        """Their requests have the same names."""
        later = [msgspec.structs.replace(record, at=record.at + 10) for record in self.records()]
        found = verdict(self.name, [started(-1), *self.records(), started(9), *later])
        assert found.passed
        assert (found.figures["judged"], found.figures["unanswered"]) == (2, 0)
        assert len(found.evidence) == 2
        assert (
            verdict(self.name, [started(-1), *without(self.records(), "got"), started(9), *later]).figures["unanswered"]
            == 1
        )

    def test_answered_by_another(self) -> None:
        found = verdict(self.name, self.records())
        assert found.passed
        assert found.figures["handed_out_again_s"] == pytest.approx(0.06)
        assert found.figures["begun_again_s"] == pytest.approx(0.1)
        assert found.figures["answered_s"] == pytest.approx(1.2)
        assert found.evidence == [
            "W1 was killed while it worked on A/1; W2 was given it 0.060 s later and had answered it "
            "1.200 s after the harm"
        ]

    def test_what_a_task_is_may_come_from_the_broker(self) -> None:
        """The workers of other runs record tasks only."""
        records = self.records()
        for record in records:
            if record.role == "worker":
                record.request = ""
        assert verdict(self.name, records).passed

    def test_without_the_broker(self) -> None:
        found = verdict(self.name, [record for record in self.records() if record.role != "broker"])
        assert found.passed
        assert found.figures["handed_out_again_s"] is None
        assert found.figures["begun_again_s"] == pytest.approx(0.1)

    def test_never_answered(self) -> None:
        found = verdict(self.name, self.records()[:-1])
        assert not found.passed
        assert found.figures["unanswered"] == 1

    def test_answered_with_an_error(self) -> None:
        found = verdict(self.name, [*self.records()[:-1], failed(1.7, "A/1", "the deadline passed")])
        assert not found.passed
        assert "the deadline passed" in found.evidence[0]

    def test_killed_before_it_had_begun(self) -> None:
        records = [record for record in self.records() if record.worker != "W1" or record.event != "begun"]
        assert not verdict(self.name, records).passed

    def test_killed_after_it_was_done(self) -> None:
        assert not verdict(self.name, [*self.records(), done(0.4, "W1", "A/1", 1)]).passed

    def test_answered_in_the_name_of_the_dead(self) -> None:
        records = self.records()
        records[-1].text = "A/1 W1"
        found = verdict(self.name, records)
        assert not found.passed
        assert "by W1 itself" in found.evidence[0]

    def test_answered_by_somebody_who_had_not_begun_it(self) -> None:
        records = self.records()
        records[-1].text = "A/1 W3"
        assert not verdict(self.name, records).passed

    @pytest.mark.parametrize(
        "second", [got(2.0, "A/1", "A/1 W2"), given(2.0, "answered", "A/1", "W1", 1)], ids=["client", "broker"]
    )
    def test_answered_twice(self, second: Record) -> None:
        found = verdict(self.name, [*self.records(), second])
        assert not found.passed
        assert "2 times" in found.evidence[0]

    def test_one_of_two_lost(self) -> None:
        records = [*self.records(), sent(5.0, "B/1"), begun(5.1, "W2", "B/1", 3), hurt(5.2, "killed", "W2", "B/1", 3)]
        found = verdict(self.name, records)
        assert not found.passed
        assert (found.figures["judged"], found.figures["unanswered"]) == (2, 1)

    def test_a_trace_without_a_kill_proves_nothing_and_breaks_nothing(self) -> None:
        found = verdict(self.name, without(self.records(), "killed"))
        assert found.passed
        assert found.result == "not tried"


class TestFrozenWorker:
    name = "frozen-worker"

    def records(self) -> list[Record]:
        return [
            sent(0.0, "A/1"),
            given(0.05, "handed_out", "A/1", "W1", 1),
            begun(0.1, "W1", "A/1", 1),
            hurt(0.5, "frozen", "W1", "A/1", 1),
            given(3.5, "attempt_failed", "A/1", "W1", 1),
            given(3.5, "handed_out", "A/1", "W2", 2),
            begun(3.6, "W2", "A/1", 2),
            hurt(3.7, "thawed", "W1", "A/1", 1),
            done(3.8, "W1", "A/1", 1),
            broker(3.9, "fenced", worker="W1", task=1),
            given(4.6, "answered", "A/1", "W2", 2),
            got(4.7, "A/1", "A/1 W2"),
            begun(5.5, "W1", "A/2", 3),
        ]

    def test_fenced_and_used_again(self) -> None:
        found = verdict(self.name, self.records())
        assert found.passed
        assert (found.figures["fenced"], found.figures["late"], found.figures["used_again"]) == (1, 1, 1)
        assert "its late answer was fenced off" in found.evidence[0]

    @pytest.mark.parametrize("event", ["fenced", "thawed", "got"])
    def test_without(self, event: str) -> None:
        assert not verdict(self.name, without(self.records(), event)).passed

    def test_something_else_was_fenced(self) -> None:
        records = self.records()
        next(record for record in records if record.event == "fenced").task = 7
        found = verdict(self.name, records)
        assert not found.passed
        assert "not fenced off" in found.evidence[0]

    def test_not_used_again(self) -> None:
        assert not verdict(self.name, self.records()[:-1]).passed

    def test_its_late_answer_is_delivered(self) -> None:
        records = self.records()
        next(record for record in records if record.event == "got").text = "A/1 W1"
        assert not verdict(self.name, records).passed

    def test_its_late_answer_is_delivered_as_well(self) -> None:
        assert not verdict(self.name, [*self.records(), got(4.8, "A/1", "A/1 W1")]).passed

    def test_without_the_broker_it_must_be_late_all_the_same(self) -> None:
        records = [record for record in self.records() if record.role != "broker"]
        found = verdict(self.name, records)
        assert found.passed
        assert "reached nobody" in found.evidence[0]
        assert not verdict(self.name, [record for record in records if record.event != "done"]).passed

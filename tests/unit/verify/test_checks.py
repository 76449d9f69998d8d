"""Each check passes a good trace and fails one with the fault that it is there for."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.verify.checks import judge, summary_of
from cbw.verify.verdict import EVIDENCE_MAX

from .records import begun, broker, done, failed, given, got, hurt, ready, sent, started, verdict, without


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
    whole = summary_of(judge([sent(0.0, "A/1"), got(1.0, "A/1", "B/1 W")]))
    assert list(whole) == ["checks", "passed", "unseen"]
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

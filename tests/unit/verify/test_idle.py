"""The check that no worker is free while a request waits: on good traces, and on those with the fault that it is there for."""

from __future__ import annotations

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.idle import IDLE_S_MAX, WAY_S_MAX

from .records import accepted, begun, broker, done, given, got, hurt, ready, sent, started, verdict, without


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

    def test_a_worker_that_goes_on_with_a_task_of_an_earlier_broker(self) -> None:
        recovered = given(0.1, "task_recovered", "A/0", "W1", 9)
        records = [broker(0.0, "started"), ready(0.1, "W1"), accepted(1.0, "A/1")]
        end = [given(2.0, "answered", "A/0", "W1", 9), given(2.0, "handed_out", "A/1", "W1", 10)]
        end.append(given(3.0, "answered", "A/1", "W1", 10))
        assert verdict(self.name, [*records[:2], recovered, records[2], *end]).passed
        assert not verdict(self.name, [*records, *end]).passed

    def test_with_a_journal_a_request_waits_when_it_is_stored(self) -> None:
        started = broker(0.0, "started", fields={"has_journal": True})
        begin = [started, ready(0.1, "W1"), accepted(1.0, "A/1"), broker(2.0, "stored", request="A/1", service="s")]
        end = given(3.0, "answered", "A/1", "W1", 1)
        assert verdict(self.name, [*begin, given(2.0, "handed_out", "A/1", "W1", 1), end]).passed
        assert not verdict(self.name, [*begin, given(2.5, "handed_out", "A/1", "W1", 1), end]).passed

    def test_a_journal_is_known_from_what_it_stores(self) -> None:
        """The trace of a deployment begins later than its brokers."""
        begin = [ready(0.1, "W1"), accepted(1.0, "A/1"), broker(2.0, "stored", request="A/1", service="s")]
        end = given(3.0, "answered", "A/1", "W1", 1)
        assert verdict(self.name, [*begin, given(2.0, "handed_out", "A/1", "W1", 1), end]).passed
        assert not verdict(self.name, [*begin, given(2.5, "handed_out", "A/1", "W1", 1), end]).passed

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

    def test_from_the_ends_a_beginning_that_is_told_after_the_answer_leaves_nobody_at_work(self) -> None:
        late = [sent(1.0, "A/1"), got(2.0, "A/1", "A/1 W1"), done(2.0, "W1", "A/1"), begun(2.5, "W1", "A/1")]
        rest = [sent(3.0, "A/2"), begun(5.0, "W1", "A/2"), done(6.0, "W1", "A/2"), got(6.0, "A/2", "A/2 W1")]
        assert not verdict(self.name, [*late, *rest]).passed, "it was free for two seconds"

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

"""Each check passes a good trace and fails one with the fault that it is there for."""

from __future__ import annotations

import pytest

from cbw.core.events import Record
from cbw.errors import UsageError
from cbw.verify.checks import IDLE_S_MAX, Verdict, judge


def broker(at: float, event: str, **fields: object) -> Record:
    return Record(at, event, "broker", "BRO", **fields)  # type: ignore[arg-type]


def sent(at: float, request: str) -> Record:
    client = request.partition("/")[0]
    return Record(at, "sent", "client", client, request, client, text=request)


def got(at: float, request: str, text: str) -> Record:
    client = request.partition("/")[0]
    return Record(at, "got", "client", client, request, client, text=text)


def begun(at: float, worker: str, request: str) -> Record:
    return Record(at, "begun", "worker", worker, request, worker=worker)


def done(at: float, worker: str, request: str) -> Record:
    return Record(at, "done", "worker", worker, request, worker=worker)


def hurt(at: float, event: str, worker: str, request: str) -> Record:
    return Record(at, event, "verify", "verify", request, worker=worker)


def verdict(name: str, records: list[Record]) -> Verdict:
    return next(found for found in judge(records) if found.name == name)


def test_no_record_is_an_error() -> None:
    with pytest.raises(UsageError, match="no record"):
        judge([])


class TestOwnReplies:
    def test_replies_to_their_own_requests(self) -> None:
        found = verdict("own-replies", [sent(0, "A/1"), sent(0, "B/1"), got(1, "B/1", "B/1 W"), got(1, "A/1", "A/1 W")])
        assert found.passed
        assert found.figures["judged"] == 2

    def test_swapped_replies(self) -> None:
        found = verdict("own-replies", [sent(0, "A/1"), sent(0, "B/1"), got(1, "A/1", "B/1 W"), got(1, "B/1", "A/1 W")])
        assert not found.passed
        assert found.figures["wrong"] == 2

    def test_a_reply_whose_request_only_begins_alike(self) -> None:
        assert not verdict("own-replies", [sent(0, "A/1"), got(1, "A/1", "A/10 W")]).passed

    def test_a_second_reply(self) -> None:
        assert not verdict("own-replies", [sent(0, "A/1"), got(1, "A/1", "A/1 W"), got(2, "A/1", "A/1 W")]).passed

    def test_a_request_without_an_answer(self) -> None:
        found = verdict("own-replies", [sent(0, "A/1")])
        assert not found.passed
        assert found.figures["unanswered"] == 1


class TestNoIdleWhileWaiting:
    def records(self, handed_out_at: float) -> list[Record]:
        return [
            broker(0.0, "worker_ready", worker="W1", text="s"),
            broker(1.0, "accepted", request="A/1", service="s"),
            broker(handed_out_at, "handed_out", request="A/1", service="s", worker="W1", task=1),
            broker(handed_out_at + 1, "answered", request="A/1", service="s", worker="W1", task=1),
        ]

    def test_handed_out_at_once(self) -> None:
        found = verdict("no-idle-while-waiting", self.records(1.0))
        assert found.passed
        assert found.figures["longest_s"] == 0.0

    def test_a_worker_left_free(self) -> None:
        found = verdict("no-idle-while-waiting", self.records(1.0 + 2 * IDLE_S_MAX))
        assert not found.passed
        assert found.figures["longest_s"] == pytest.approx(2 * IDLE_S_MAX)

    def test_a_worker_of_another_service_is_not_to_blame(self) -> None:
        records = [broker(0.0, "worker_ready", worker="W2", text="other"), *self.records(1.0)]
        records.insert(3, broker(1.0, "accepted", request="A/2", service="s"))
        records.append(broker(9.0, "handed_out", request="A/2", service="s", worker="W1", task=2))
        late = next(record for record in records if record.event == "answered")
        late.at = 9.0
        assert verdict("no-idle-while-waiting", records).passed

    def test_one_worker_gets_all_while_another_is_free(self) -> None:
        records = [broker(0.0, "worker_ready", worker=name, text="s") for name in ("W1", "W2")]
        for number in range(4):
            records.append(broker(1.0, "accepted", request=f"A/{number}", service="s"))
        for number in range(4):
            records.append(broker(1.0 + number, "handed_out", service="s", worker="W1", task=number))
            records.append(broker(1.9 + number, "answered", service="s", worker="W1", task=number))
        assert not verdict("no-idle-while-waiting", records).passed

    def test_a_request_that_waits_for_ever(self) -> None:
        assert not verdict("no-idle-while-waiting", self.records(1.0)[:2]).passed

    def test_a_late_worker_is_not_free(self) -> None:
        records = [
            broker(0.0, "worker_ready", worker="W1", text="s"),
            broker(1.0, "accepted", service="s"),
            broker(1.0, "handed_out", service="s", worker="W1", task=1),
            broker(3.0, "worker_late", worker="W1"),
            broker(3.0, "attempt_failed", service="s", worker="W1", task=1),
            broker(5.0, "fenced", worker="W1", task=1),
            broker(5.0, "handed_out", service="s", worker="W1", task=2),
            broker(6.0, "answered", service="s", worker="W1", task=2),
        ]
        assert verdict("no-idle-while-waiting", records).passed

    def test_without_the_broker_the_ends_are_judged(self) -> None:
        good = [
            begun(0.0, "W1", "A/0"),
            done(0.1, "W1", "A/0"),
            sent(1.0, "A/1"),
            begun(1.001, "W1", "A/1"),
            done(2.0, "W1", "A/1"),
        ]
        assert verdict("no-idle-while-waiting", [sent(0.0, "A/0"), *good]).passed
        good[3].at = 1.5
        assert not verdict("no-idle-while-waiting", [sent(0.0, "A/0"), *good]).passed


class TestKilledWorker:
    def records(self) -> list[Record]:
        return [
            sent(0.0, "A/1"),
            begun(0.1, "W1", "A/1"),
            hurt(0.5, "killed", "W1", "A/1"),
            begun(0.6, "W2", "A/1"),
            done(1.6, "W2", "A/1"),
            got(1.7, "A/1", "A/1 W2"),
        ]

    def test_answered_by_another(self) -> None:
        found = verdict("killed-worker", self.records())
        assert found.passed
        assert found.figures["begun_again_s_max"] == pytest.approx(0.1)
        assert found.figures["answered_s_max"] == pytest.approx(1.2)

    def test_never_answered(self) -> None:
        found = verdict("killed-worker", self.records()[:-1])
        assert not found.passed
        assert found.figures["lost"] == 1

    def test_killed_before_it_had_begun(self) -> None:
        records = [record for record in self.records() if record.worker != "W1" or record.event != "begun"]
        assert not verdict("killed-worker", records).passed

    def test_answered_in_the_name_of_the_dead(self) -> None:
        records = self.records()
        records[-1].text = "A/1 W1"
        assert not verdict("killed-worker", records).passed

    def test_answered_twice(self) -> None:
        assert not verdict("killed-worker", [*self.records(), got(2.0, "A/1", "A/1 W2")]).passed

    def test_a_trace_without_a_kill_proves_nothing_and_breaks_nothing(self) -> None:
        found = verdict("killed-worker", [sent(0.0, "A/1"), got(1.0, "A/1", "A/1 W1")])
        assert found.passed
        assert found.figures["judged"] == 0


class TestFrozenWorker:
    def records(self) -> list[Record]:
        return [
            broker(0.0, "worker_ready", worker="W1", text="s"),
            sent(0.0, "A/1"),
            begun(0.1, "W1", "A/1"),
            hurt(0.5, "frozen", "W1", "A/1"),
            begun(3.6, "W2", "A/1"),
            got(4.7, "A/1", "A/1 W2"),
            hurt(5.0, "thawed", "W1", "A/1"),
            done(5.1, "W1", "A/1"),
            broker(5.1, "fenced", worker="W1", task=1),
            begun(5.5, "W1", "A/2"),
        ]

    def test_fenced_and_used_again(self) -> None:
        assert verdict("frozen-worker", self.records()).passed

    @pytest.mark.parametrize("event", ["fenced", "thawed", "got"])
    def test_without(self, event: str) -> None:
        assert not verdict("frozen-worker", [record for record in self.records() if record.event != event]).passed

    def test_not_used_again(self) -> None:
        assert not verdict("frozen-worker", self.records()[:-1]).passed

    def test_its_late_answer_is_delivered(self) -> None:
        records = self.records()
        records.append(got(5.2, "A/1", "A/1 W1"))
        assert not verdict("frozen-worker", records).passed

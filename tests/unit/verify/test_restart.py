"""The checks of a deployment's restarts pass a good trace and fail one with the fault that they are there for."""

from __future__ import annotations

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.checks import judge
from cbw.verify.verdict import Verdict

from .records import begun, broker, done, failed, given, got, hurt, sent, verdict, without


def note(at: float, event: str, text: str = "") -> Record:
    """Of the verification itself."""
    return Record(at, catalogue.EventName(event), role="verify", sender="verify", text=text)


def deployed(services: str = "bro wor log") -> Record:
    return note(0.0, "deployed", services)


def logged(records: list[Record]) -> list[Record]:
    """The records as they come through the logger: numbered by each sender."""
    last: dict[str, int] = {}
    for record in records:
        last[record.sender] = record.seq = last.get(record.sender, 0) + 1
        record.boot = f"boot of {record.sender}"
    return records


def gap(at: float, count: int) -> Record:
    return Record(at, catalogue.GAP, role="logger", sender="LOG", count=count)


def test_the_checks_of_deployments_are_there_for_deployments_only() -> None:
    assert len(judge([broker(0.0, "stopping")])) == 6
    names = [found.name for found in judge([deployed(), broker(1.0, "stopping")])]
    assert names[6:] == ["cut-off-worker", "complete-log"]


class TestCutOffWorker:
    name = "cut-off-worker"

    def records(self) -> list[Record]:
        return [
            deployed(),
            sent(0.0, "A/1"),
            begun(0.1, "W1", "A/1", 1),
            hurt(0.5, "cut_off", "W1", "A/1", 1),
            begun(3.6, "W2", "A/1", 2),
            got(4.7, "A/1", "A/1 W2"),
            hurt(5.0, "reconnected", "W1", "A/1", 1),
            begun(6.5, "W1", "A/2", 3),
        ]

    def test_answered_by_another_and_used_again(self) -> None:
        found = verdict(self.name, self.records())
        assert found.result == "kept"
        assert found.figures["answered_s"] == pytest.approx(4.2)
        assert "1 worker cut off, 1 of 1 requests answered" in found.summary

    @pytest.mark.parametrize("event", ["got", "reconnected"])
    def test_without(self, event: str) -> None:
        assert not verdict(self.name, without(self.records(), event)).passed

    def test_never_used_again(self) -> None:
        found = verdict(self.name, self.records()[:-1])
        assert "not used again" in found.evidence[0]

    def test_its_own_late_answer_counted(self) -> None:
        records = [*without(self.records(), "got"), got(5.5, "A/1", "A/1 W1")]
        assert "answered by W1 itself" in verdict(self.name, records).evidence[0]

    def test_its_request_is_not_judged_twice(self) -> None:
        records = [note(0.0, "started"), *without(self.records(), "got"), failed(9.0, "A/1")]
        assert verdict("own-replies", records).passed


class TestFrozenWorker:
    """Of a deployment without a logger: what is printed has no task numbers."""

    def records(self, fenced_at: float) -> list[Record]:
        return [
            deployed("bro wor"),
            sent(0.0, "A/1"),
            begun(0.1, "W1", "A/1"),
            hurt(0.5, "frozen", "W1", "A/1"),
            begun(3.6, "W2", "A/1"),
            hurt(3.7, "thawed", "W1", "A/1"),
            got(4.7, "A/1", "A/1 W2"),
            begun(4.8, "W1", "A/2"),
            broker(fenced_at, "fenced", worker="W1"),
        ]

    def test_what_was_fenced_when_it_woke_is_its_late_answer(self) -> None:
        assert verdict("frozen-worker", self.records(3.8)).result == "kept"
        assert verdict("frozen-worker", self.records(4.81)).result == "kept", "Docker notes lines a little out of order"

    def test_what_was_fenced_much_later_is_another(self) -> None:
        assert verdict("frozen-worker", self.records(9.0)).result == "broken"


class TestBrokerDown:
    name = "killed-broker"

    def records(self, how: str = "killed") -> list[Record]:
        return [
            deployed(),
            sent(1.0, "A/1"),
            sent(1.0, "A/2"),
            begun(1.1, "W1", "A/1"),
            note(1.5, f"broker_{how}"),
            sent(1.7, "B/1"),
            note(2.0, "broker_back"),
            begun(2.5, "W2", "A/1"),
            got(3.5, "A/1", "A/1 W2"),
            got(3.6, "A/2", "A/2 W1"),
            got(3.7, "B/1", "B/1 W1"),
        ]

    @pytest.mark.parametrize("how", ["killed", "restarted"])
    def test_all_are_answered(self, how: str) -> None:
        found = verdict(f"{how}-broker", self.records(how))
        assert found.result == "kept"
        figures = found.figures
        assert (figures["judged"], figures["lost"], figures["answered_twice"], figures["executed_again"]) == (
            3,
            0,
            0,
            1,
        )
        assert figures["recovery_s"] == pytest.approx(2.0)
        assert figures["answered_s"] == pytest.approx(2.2)
        assert how in found.evidence[0]

    @pytest.mark.parametrize("request_id", ["A/1", "A/2", "B/1"])
    def test_one_is_lost(self, request_id: str) -> None:
        records = [record for record in self.records() if (record.event, record.request) != ("got", request_id)]
        found = verdict(self.name, [*records, failed(9.0, request_id, "no answer in time")])
        assert not found.passed
        assert found.figures["lost"] == 1
        assert found.evidence == [f"{request_id} was not answered after the broker was killed: no answer in time"]

    def test_one_is_answered_twice(self) -> None:
        found = verdict(self.name, [*self.records(), got(4.0, "A/2", "A/2 W2")])
        assert not found.passed
        assert found.figures["answered_twice"] == 1

    def test_it_does_not_come_back(self) -> None:
        assert not verdict(self.name, without(self.records(), "broker_back", "got")).passed

    def test_nothing_was_open(self) -> None:
        found = verdict(self.name, [deployed(), note(1.5, "broker_killed"), note(2.0, "broker_back")])
        assert not found.passed
        assert "proves nothing" in found.evidence[0]

    def test_two_restarts_are_judged_one_by_one(self) -> None:
        second = [sent(5.0, "C/1"), note(5.5, "broker_killed"), note(6.0, "broker_back")]
        assert not verdict(self.name, [*self.records(), *second]).passed
        found = verdict(self.name, [*self.records(), *second, got(8.5, "C/1", "C/1 W1")])
        assert found.result == "kept"
        assert found.figures["recovery_s"] == pytest.approx(3.0)

    def test_each_way_is_judged_for_itself(self) -> None:
        second = [sent(5.0, "C/1"), note(5.5, "broker_restarted"), note(6.0, "broker_back")]
        records = [*self.records(), *second]
        assert verdict("killed-broker", records).result == "kept"
        assert not verdict("restarted-broker", records).passed


class TestCompleteLog:
    name = "complete-log"

    def story(self) -> list[Record]:
        """What a broker and a worker send to the logger of a request."""
        return logged(
            [
                broker(1.1, "accepted", request="A/1"),
                given(1.1, "handed_out", "A/1", "W1", 1),
                begun(1.2, "W1", "A/1", 1),
                done(2.2, "W1", "A/1", 1),
                given(2.3, "answered", "A/1", "W1", 1),
            ]
        )

    def judged(self, story: list[Record], *more: Record) -> Verdict:
        return verdict(self.name, [deployed(), sent(1.0, "A/1"), *story, got(2.4, "A/1", "A/1 W1"), *more])

    def test_the_whole_story(self) -> None:
        found = self.judged(self.story())
        assert found.result == "kept"
        assert (found.figures["judged"], found.figures["records"]) == (1, 5)

    @pytest.mark.parametrize("number", range(5))
    def test_a_record_that_is_not_there(self, number: int) -> None:
        story = self.story()
        missing = story.pop(number)
        found = self.judged(story)
        assert not found.passed
        assert missing.event.replace("_", " ") in found.evidence[0]

    def test_a_counted_gap_is_no_silent_loss_but_the_story_is_incomplete_all_the_same(self) -> None:
        story = self.story()
        del story[1]  # the second of the broker's three
        found = self.judged(story, gap(3.0, 1))
        assert (found.figures["lost"], found.figures["counted_gaps"], found.figures["untold"]) == (0, 1, 1)

    def test_a_gap_in_what_belongs_to_no_request(self) -> None:
        other = logged([Record(3.0 + n, catalogue.CREDIT_CHANGED, role="broker", sender="BRO") for n in range(3)])
        del other[1]
        for record in other:
            record.boot = "another"
        assert not self.judged(self.story(), *other).passed
        assert self.judged(self.story(), *other, gap(9.0, 1)).passed

    def test_a_record_that_is_there_twice(self) -> None:
        story = self.story()
        found = self.judged([*story, story[2]])
        assert not found.passed
        assert found.figures["written_twice"] == 1

    def test_workers_that_do_not_log_owe_nothing(self) -> None:
        assert self.judged(logged([record for record in self.story() if record.role == "broker"])).passed

    def test_what_died_with_its_sender(self) -> None:
        story = [record for record in self.story() if record.event != "answered"]
        found = self.judged(story, note(2.6, "broker_killed"))
        assert found.passed
        assert found.figures["died_with_their_sender"] == 1
        assert not self.judged(story, note(9.0, "broker_killed")).passed, "there was time enough to send it"
        assert not self.judged(story, note(2.6, "broker_restarted")).passed, "it was asked to end, and may say all"

    def test_an_empty_log(self) -> None:
        found = self.judged([])
        assert not found.passed
        assert "LOGGER_HOST" in found.evidence[0]

    def test_a_deployment_without_a_logger(self) -> None:
        assert (
            verdict(self.name, [deployed("bro wor"), sent(1.0, "A/1"), got(2.0, "A/1", "A/1 W1")]).result == "not tried"
        )

    def test_how_soon_it_wrote_again(self) -> None:
        found = self.judged(self.story(), note(3.0, "logger_killed"), note(3.7, "logger_writes"))
        assert found.figures["recovery_s"] == pytest.approx(0.7)


class TestNoIdleWhileWaiting:
    name = "no-idle-while-waiting"

    def records(self, free_s: float) -> list[Record]:
        """As clients and containers tell it: W1 is free for so long while A/2 waits."""
        return [
            deployed("bro wor"),
            sent(1.0, "A/1"),
            sent(1.0, "A/2"),
            begun(1.0, "W1", "A/1"),
            done(2.0, "W1", "A/1"),
            begun(2.0 + free_s, "W1", "A/2"),
        ]

    def test_docker_may_notice_late_what_a_container_prints(self) -> None:
        assert verdict(self.name, self.records(0.2)).passed
        assert not verdict(self.name, self.records(0.4)).passed
        assert not verdict(self.name, self.records(0.2)[1:]).passed, "a worker of ours is allowed less"

    def test_nothing_is_judged_while_the_broker_is_down(self) -> None:
        records = [*self.records(0.0), done(3.0, "W1", "A/2")]
        down = [note(4.0, "broker_killed"), sent(4.1, "A/3"), begun(9.0, "W1", "A/3")]
        assert verdict(self.name, [*records, *down]).passed
        assert not verdict(self.name, [*records, *down[1:]]).passed

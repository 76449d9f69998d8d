"""How long requests took: by service and with each worker, counted many at a time, within bounds."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core import messages
from cbw.core.broker import durations, looks
from cbw.core.broker.durations import HALF_LIFE, Durations, ServiceActivity
from cbw.core.broker.snapshot import snapshot
from cbw.core.histogram import BOUNDS_S, Latencies, RecentLatencies, bucket_quantile

from .control import Control
from .system import CoreSystem, worker_said


def counted(system: CoreSystem) -> Durations:
    found = system.core.requests.durations
    found.count()
    return found


def serve(system: CoreSystem, service: str, *ids: int, waits_s: float = 0.0) -> None:
    """A worker of its own serves these requests, and leaves."""
    system.ask(*ids, service=service)
    system.worker(f"W-{service}", services=(service,), concurrency=len(ids))
    system.wait(waits_s, f"W-{service}")
    system.answer_all(f"W-{service}")
    system.lose_worker(f"W-{service}")


def test_what_nobody_looks_at_does_not_pile_up(system: CoreSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "COUNTED_TOGETHER", 3)
    system.worker(concurrency=7)
    system.ask(*range(7))
    tasks = system.take_tasks("W1")
    found = system.core.requests.durations
    system.answer("W1", *tasks[:2])
    assert len(found.answered) == 2 and not found.by_service
    system.answer("W1", *tasks[2:])
    assert not found.answered and sum(found.by_service["s"].requests.counts) == 7


def test_a_request_is_timed_from_its_acceptance_and_an_attempt_from_its_handing_out(system: CoreSystem) -> None:
    system.ask(1)
    system.wait(2.0)
    system.worker()
    system.wait(0.5, "W1")
    system.answer_all("W1")
    of_service = counted(system).by_service["s"]
    assert of_service.requests.total_s == pytest.approx(2.5)
    assert of_service.attempts.total_s == pytest.approx(0.5)


def test_workers_show_their_own_quantiles(system: CoreSystem) -> None:
    for name, service, waits_s in (("W1", "a", 0.3), ("W2", "b", 3.0)):
        system.worker(name, services=(service,))
        system.ask(ord(service), service=service)
        system.wait(waits_s, "W1", "W2")
        system.answer_all(name)
    system.client("ADMIN")
    rows = {row["worker"]: row for row in Control(system).ask(looks.LIST_WORKERS)["workers"]}
    assert 0.2 < rows["W1"]["p50_s"] <= rows["W1"]["p99_s"] <= 0.5
    assert 2.0 < rows["W2"]["p50_s"] <= rows["W2"]["p99_s"] <= 5.0
    system.worker("W3", services=("c",))
    assert snapshot(system.core, system.now)["workers"][2]["p50_s"] is None


def test_a_quantile_is_never_above_the_slowest_or_below_the_quickest(system: CoreSystem) -> None:
    """Buckets are wide: one request of 1.5 s is in that from 1 s to 2 s, and one of 150 s beyond the last."""
    system.worker("W1", services=("s",), credit=1)
    for request, took_s in enumerate((1.125, 150.0), 1):
        system.ask(request)
        (task,) = system.take_tasks("W1")
        system.wait(took_s, "W1")
        system.answer("W1", task)
        counted(system)
        row = snapshot(system.core, system.now)["workers"][0]
        least_s = 1.125 - 1e-6
        most_s = took_s + 1e-6
        for p50_s, p99_s in ((row["p50_s"], row["p99_s"]), (shown(system).p50_s, shown(system).p99_s)):
            assert p50_s is not None and p99_s is not None and least_s <= p50_s <= p99_s <= most_s


def shown(system: CoreSystem, service: str = "s") -> ServiceActivity:
    """What a broker tells of what a service has done."""
    (row,) = [row for row in snapshot(system.core, system.now)["services"] if row["service"] == service]
    return msgspec.convert({name: row[name] for name in ServiceActivity.__struct_fields__}, ServiceActivity)


def test_the_rate_of_a_service_is_that_of_the_last_seconds(system: CoreSystem) -> None:
    """Nobody looks meanwhile: that changes nothing."""
    system.worker()
    system.wait(100.0, "W1")
    system.ask(1)
    system.answer_all("W1")  # at 200 s
    system.wait(60.0, "W1")
    for number in range(2, 42):
        system.ask(number)
        system.answer_all("W1")
        system.wait(0.25, "W1")
    assert shown(system).answered == 41
    assert shown(system).rate == pytest.approx(4.0)
    system.wait(5.0, "W1")
    rate = shown(system).rate
    assert rate is not None and 1.6 < rate < 2.4, "half of that is longer ago than 10 s"
    system.wait(10.0, "W1")
    assert shown(system).rate == 0.0


def test_the_quantiles_of_a_service_are_those_of_the_minute_up_to_its_last_answer(system: CoreSystem) -> None:
    system.worker()
    for number in range(20):
        system.ask(number)
        system.answer_all("W1")
    system.wait(65.0, "W1")
    for number in range(20, 22):
        system.ask(number)
        system.wait(3.0, "W1")
        system.answer_all("W1")
    p50_s, p99_s = shown(system).p50_s, shown(system).p99_s
    assert p50_s is not None and p99_s is not None
    assert 2.0 < p50_s <= p99_s <= 5.0, "the quick ones are longer ago"
    system.wait(600.0, "W1")
    assert (shown(system).p50_s, shown(system).p99_s) == (p50_s, p99_s), "of an idle service they stay"


def test_failures_of_a_service_are_errors_of_handlers_and_what_was_given_up(system: CoreSystem) -> None:
    system.worker()
    system.ask(1, 2)
    (task,) = system.take_tasks("W1")
    error = messages.Answer(task.id, messages.Status.FAILED, messages.error_body("ValueError", "no"))
    system.tell(worker_said(b"W1", [error]))
    assert (shown(system).answered, shown(system).failed) == (1, 1)
    for number in range(2, 5):
        system.lose_worker(f"W{number - 1}")
        system.worker(f"W{number}")
    system.lose_worker("W4")
    system.worker("W5")
    assert (shown(system).answered, shown(system).failed) == (1, 2)


def test_what_is_kept_of_a_service_is_bounded(system: CoreSystem) -> None:
    system.worker()
    for number in range(3 * durations.MARKS_MAX):
        system.ask(number)
        system.answer_all("W1")
        system.wait(durations.SLOT_S, "W1")
        counted(system)
    found = counted(system).by_service["s"]
    assert found.marks == durations.MARKS_MAX
    rate = shown(system).rate
    assert rate == pytest.approx(1 / durations.SLOT_S, rel=0.2)


def test_of_too_many_services_nothing_is_told(system: CoreSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "TIMED_SERVICES_MAX", 1)
    for service in "ab":
        system.worker(f"W-{service}", services=(service,))
        system.ask(ord(service), service=service)
        system.answer_all(f"W-{service}")
        counted(system)
    assert shown(system, "a").answered == 1
    assert shown(system, "b") == ServiceActivity()


def test_the_rate_of_a_worker_is_that_of_the_last_seconds(system: CoreSystem) -> None:
    def rates() -> list[float]:
        return [row["rate"] for row in snapshot(system.core, system.now)["workers"]]

    system.worker("W1")
    system.worker("W2", services=("other",))
    for number in range(40):  # two a second
        system.ask(number)
        system.answer_all("W1")
        system.wait(0.5, "W1", "W2")
        if number == 3:
            assert rates() == [pytest.approx(2.0), 0.0]
    assert rates() == [pytest.approx(2.0), 0.0]
    system.wait(16.0, "W1", "W2")
    assert rates() == [0.0, 0.0]


def test_of_many_a_sample_is_counted_for_their_workers(system: CoreSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ones changes: two workers that answer in turns are both seen, though every second answer is counted."""
    monkeypatch.setattr(durations, "SAMPLE_MAX", 4)
    for name in ("W1", "W2"):
        system.worker(name, concurrency=4)
    for first in (0, 8):
        system.ask(*range(first, first + 8))
        mine, others = system.take_tasks("W1"), system.take_tasks("W2")
        for one, other in zip(mine, others, strict=True):
            system.answer("W1", one)
            system.answer("W2", other)
        counted(system)
    took = [worker.took for worker in system.core.workers.by_peer.values()]
    assert [sum(each.counts) if each is not None else 0 for each in took] == [4, 4]
    assert sum(counted(system).by_service["s"].attempts.counts) == 16


def test_what_a_worker_did_lately_weighs_most() -> None:
    took = RecentLatencies(HALF_LIFE)
    for _ in range(10 * HALF_LIFE):
        took.add(0.0015)
    assert sum(took.counts) < 2 * HALF_LIFE + 1
    for _ in range(HALF_LIFE + HALF_LIFE // 2):
        took.add(1.5)
    assert (bucket_quantile(took.counts, 0.5) or 0) > 1.0, "it has become slow"


def test_services_beyond_the_bound_are_counted_together(system: CoreSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "TIMED_SERVICES_MAX", 2)
    for service in "ab":
        system.worker(f"K-{service}", services=(service,), credit=1)
        system.ask(ord(service), service=service)
        system.answer_all(f"K-{service}")
        counted(system)
    serve(system, "c", 1)
    found = counted(system)
    assert list(found.by_service) == ["a", "b"]
    assert sum(found.others.requests.counts) == 1


def test_a_service_that_is_gone_makes_room_and_no_count_falls(
    system: CoreSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "TIMED_SERVICES_MAX", 2)
    for number, service in enumerate("abc"):
        serve(system, service, number, waits_s=0.3)
        total = sum(counted(system).all.counts)
        assert total == number + 1
    assert list(counted(system).by_service) == ["b", "c"]
    others = counted(system).others
    assert (sum(others.requests.counts), sum(others.attempts.counts)) == (1, 1)
    assert counted(system).all.total_s == pytest.approx(0.9)


def test_the_oldest_of_each_service_tells_the_age_of_its_queue(system: CoreSystem) -> None:
    def ages() -> dict[str, float]:
        shown = snapshot(system.core, system.now)
        return {row["service"]: row["oldest_s"] for row in shown["services"]}

    system.client("C2")
    system.ask(1)
    system.wait(3.0)
    system.ask(1, 2, client="C2")
    assert ages() == {"s": pytest.approx(3.0)}
    system.worker("W1")  # gets what has waited longest
    assert ages() == {"s": 0.0}
    system.wait(1.0, "W1")
    assert ages() == {"s": pytest.approx(1.0)}
    system.worker("W2", concurrency=2)
    assert ages() == {"s": 0.0}


def test_a_merged_histogram_has_all_counts() -> None:
    one, other = Latencies(), Latencies()
    one.add([0.1, BOUNDS_S[-1] * 2])
    other.add([0.1, 0.3])
    one.merge(other)
    assert sum(one.counts) == 4 and one.counts[-1] == 1 and one.total_s == pytest.approx(0.5 + BOUNDS_S[-1] * 2)

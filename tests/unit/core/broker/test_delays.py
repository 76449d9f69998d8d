"""Requests that are not to be handed out yet: because their handler wants another try, or their client a later beginning."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker.events import StopRequested
from cbw.core.broker.snapshot import snapshot
from cbw.core.messages import Status

from .system import CoreSystem, client_said, worker_said


def retry(system: CoreSystem, worker: str = "W1", after_s: float | None = 1.0, text: str = "no route") -> None:
    """``worker`` fails at all that it has got, and wants to try again."""
    body = messages.error_body("ConnectionError", text)
    said = [messages.Answer(task.id, Status.RETRY, body, after_s) for task in system.take_tasks(worker)]
    assert said
    system.tell(worker_said(worker.encode(), said))


def ask_later(system: CoreSystem, *ids: int, delay_s: float, ttl: float | None = None, client: str = "C1") -> None:
    requests = [messages.Request(i, "s", b"%d" % i, ttl, delay_s=delay_s) for i in ids]
    system.tell(client_said(client.encode(), requests))


def error(system: CoreSystem, client: str = "C1") -> tuple[Status, str, str]:
    (answer,) = (each for each in system.take(client) if isinstance(each, messages.Answer))
    return answer.status, *messages.error_of(answer.body)


@pytest.fixture
def system() -> CoreSystem:
    system = CoreSystem()
    system.worker("W1")
    system.client("C1")
    return system


def test_the_broker_announces_that_it_takes_retries(system: CoreSystem) -> None:
    (welcome,) = system.take("W1")
    assert isinstance(welcome, messages.Welcome) and welcome.takes_retries


def test_a_retry_waits_for_its_time_and_knows_how_many_there_were(system: CoreSystem) -> None:
    system.ask(1)
    retry(system, after_s=1.0)
    assert system.answers() == []
    system.wait(0.95, "W1")
    assert system.take_tasks("W1") == []
    system.wait(0.1, "W1")
    (task,) = (each for each in system.take("W1") if isinstance(each, messages.Task))
    assert (task.retries, task.attempt) == (1, 1)
    system.answer("W1", task)
    assert system.answers() == [(1, Status.OK)]
    assert system.events()[-6:] == ["accepted", "handed_out", "retried", "due", "handed_out", "answered"]
    assert system.core.outbox.counts["requests_retried"] == 1


def test_another_worker_may_get_the_retry(system: CoreSystem) -> None:
    system.ask(1)
    retry(system)
    system.lose_worker("W1")
    system.worker("W2")
    system.wait(1.1, "W2")
    assert system.bodies("W2") == [1]


@pytest.mark.parametrize("after_s", [None, 0.0, -1.0, float("nan")])
def test_a_retry_without_a_time_is_due_at_once(system: CoreSystem, after_s: float | None) -> None:
    system.ask(1)
    retry(system, after_s=after_s)
    assert system.bodies("W1") == [1]


def test_a_retry_is_at_most_a_year_away(system: CoreSystem) -> None:
    system.ask(1)
    retry(system, after_s=float("inf"))
    assert system.core.wake_at < float("inf") and system.core.requests.dispatcher.services["s"].delayed == 1


def test_a_worker_is_free_for_others_meanwhile(system: CoreSystem) -> None:
    system.ask(1, 2)
    retry(system)
    assert system.bodies("W1") == [2]


def test_the_worker_says_when_retries_are_used_up_and_the_error_how_often_it_was_tried(system: CoreSystem) -> None:
    system.ask(1)
    retry(system, after_s=0.0)
    retry(system, after_s=0.0)
    (task,) = system.take_tasks("W1")
    assert task.retries == 2
    failed = messages.Answer(task.id, Status.FAILED, messages.error_body("ConnectionError", "no route"))
    system.tell(worker_said(b"W1", [failed]))
    status, kind, text = error(system)
    assert (status, kind) == (Status.FAILED, "ConnectionError") and text.startswith("no route (tried 3 times); kept as")


def test_an_error_without_retries_is_left_as_it_is(system: CoreSystem) -> None:
    ask_later(system, 1, delay_s=0.1)
    system.wait(0.2, "W1")
    (task,) = system.take_tasks("W1")
    failed = messages.Answer(task.id, Status.FAILED, messages.error_body("ValueError", "bad"))
    system.tell(worker_said(b"W1", [failed]))
    assert error(system) == (Status.FAILED, "ValueError", "bad")


def test_a_retry_that_would_be_due_after_the_deadline_ends_at_once(system: CoreSystem) -> None:
    system.ask(1, ttl=5.0)
    retry(system, after_s=1.0)
    system.wait(1.1, "W1")
    retry(system, after_s=4.0)
    status, kind, text = error(system)
    assert (status, kind) == (Status.FAILED, "ConnectionError")
    assert text == "no route (tried 2 times: the deadline is before the next try, which would be in 4 s)"
    assert system.core.requests.count == 0


def test_a_retry_that_finds_no_worker_expires_and_tells_of_its_tries(system: CoreSystem) -> None:
    system.ask(1, ttl=2.0)
    retry(system, after_s=1.0)
    system.lose_worker("W1")
    system.wait(2.1)
    status, _, text = error(system)
    assert status is Status.EXPIRED and "its handler failed once, at last with ConnectionError: no route" in text


def test_a_broker_that_stood_still_beyond_delay_and_deadline_hands_nothing_out(system: CoreSystem) -> None:
    system.ask(1, ttl=5.0)
    retry(system, after_s=1.0)
    system.now += 6.0
    system.tell(worker_said(b"W1", [messages.Beat()]))
    assert error(system)[0] is Status.EXPIRED and system.take_tasks("W1") == []


def test_it_can_be_cancelled_while_it_is_delayed(system: CoreSystem) -> None:
    system.ask(1)
    retry(system)
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    assert system.answers() == [(1, Status.CANCELLED)]
    assert len(system.core.requests.dispatcher.delays) == 0
    system.wait(1.1, "W1")
    assert system.take_tasks("W1") == []


def test_sent_again_it_joins(system: CoreSystem) -> None:
    system.ask(1)
    retry(system)
    system.ask(1)
    assert system.take_tasks("W1") == [] and system.core.requests.count == 1


def test_a_crash_costs_an_attempt_and_a_retry_does_not(system: CoreSystem) -> None:
    system.ask(1)
    retry(system, after_s=0.0)
    system.take("W1")
    system.lose_worker("W1")
    system.worker("W1")
    (task,) = (each for each in system.take("W1") if isinstance(each, messages.Task))
    assert (task.attempt, task.retries) == (2, 1)
    body = messages.error_body("ConnectionError", "no route")
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.RETRY, body, 0.5)]))
    system.wait(0.6, "W1")
    (task,) = system.take_tasks("W1")
    assert (task.attempt, task.retries) == (2, 2), "and it still travels alone"
    system.lose_worker("W1")
    system.worker("W1")
    system.take("W1")
    system.lose_worker("W1")
    assert error(system)[0] is Status.GAVE_UP


def test_a_broker_that_stops_tells_the_client_to_ask_its_successor(system: CoreSystem) -> None:
    system.ask(1, 2)
    retry(system, after_s=60.0)
    system.tell(StopRequested(system.now + 5.0))
    assert system.answers() == [(1, Status.STOPPING)]
    retry(system, after_s=60.0)  # the other one is with a worker until then
    assert system.answers() == [(2, Status.STOPPING)]


def test_an_answer_of_a_void_attempt_does_not_delay(system: CoreSystem) -> None:
    system.ask(1)
    (task,) = system.take_tasks("W1")
    system.lose_worker("W1")
    system.worker("W1")
    system.worker("W2")
    body = messages.error_body("ConnectionError", "late")
    system.tell(worker_said(b"W2", [messages.Answer(task.id, Status.RETRY, body, 60.0)]))
    assert system.core.outbox.counts["answers_fenced"] == 1 and len(system.core.requests.dispatcher.delays) == 0


# --- delays that the client wants


def test_a_delayed_request_is_not_handed_out_before_its_time(system: CoreSystem) -> None:
    ask_later(system, 1, delay_s=2.0)
    system.ask(2)
    assert system.bodies("W1") == [2]
    system.answer("W1", messages.Task(1, "s", b"", None, 1))
    system.wait(1.9, "W1")
    assert system.bodies("W1") == []
    system.wait(0.2, "W1")
    assert system.bodies("W1") == [1]
    assert "delayed" in system.events()


def test_delayed_requests_come_in_the_order_of_their_times() -> None:
    system = CoreSystem()
    system.worker("W1", concurrency=9)
    system.client("C1")
    ask_later(system, 1, delay_s=3.0)
    ask_later(system, 2, 3, delay_s=1.0)
    ask_later(system, 4, delay_s=2.0)
    system.wait(4.0, "W1")
    assert system.bodies("W1") == [2, 3, 4, 1]


@pytest.mark.parametrize("delay_s", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_delay_out_of_bounds_is_refused(system: CoreSystem, delay_s: float) -> None:
    ask_later(system, 1, delay_s=delay_s)
    assert error(system)[0] is Status.BAD_REQUEST


def test_a_delay_that_is_not_below_the_deadline_is_refused(system: CoreSystem) -> None:
    ask_later(system, 1, delay_s=2.0, ttl=2.0)
    status, _, text = error(system)
    assert status is Status.BAD_REQUEST
    assert text == "it is not to be handed out for 2 s, and its deadline is 2 s"


def test_delayed_requests_count_towards_the_limits() -> None:
    system = CoreSystem(requests_max=2)
    system.client("C1")
    ask_later(system, 1, 2, 3, delay_s=60.0)
    assert system.answers() == [(3, Status.BUSY)]


def test_they_are_seen(system: CoreSystem) -> None:
    ask_later(system, 1, 2, delay_s=60.0)
    system.ask(3, 4)
    retry(system, after_s=60.0)
    shown = snapshot(system.core, system.now)
    assert (shown["requests"], shown["delayed"], shown["waiting"], shown["in_flight"]) == (4, 3, 0, 1)
    (service,) = shown["services"]
    assert (service["service"], service["delayed"], service["waiting"]) == ("s", 3, 0)


def test_a_service_stays_as_long_as_anything_is_delayed_for_it() -> None:
    system = CoreSystem()
    system.client("C1")
    ask_later(system, 1, delay_s=60.0)
    system.wait(0.1)
    assert [service["delayed"] for service in snapshot(system.core, system.now)["services"]] == [1]
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    assert snapshot(system.core, system.now)["services"] == []


def test_ended_requests_are_swept_out() -> None:
    system = CoreSystem()
    system.client("C1")
    ask_later(system, *range(1, 3001), delay_s=60.0)
    system.tell(client_said(b"C1", [messages.Cancel(number) for number in range(1, 2001)]))
    delays = system.core.requests.dispatcher.delays
    assert len(delays) == 1000 and sum(1 for _ in delays) < 2000
    system.worker("W1", concurrency=2000)
    system.wait(61.0, "W1")
    assert len(system.bodies("W1")) == 1000 and delays.dead == 0


def test_one_whose_deadline_is_here_when_its_delay_is_over_is_not_handed_out(system: CoreSystem) -> None:
    """The broker stood still from before the one until exactly the other."""
    ask_later(system, 1, delay_s=1.0, ttl=2.0)
    system.now += 2.0
    system.tell()
    assert system.take_tasks("W1") == []
    assert system.answers() == [(1, Status.EXPIRED)]

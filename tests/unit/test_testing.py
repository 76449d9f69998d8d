"""The system in memory does what a real one does, and what its documentation says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

import cbw
from cbw.testing import System


@pytest.fixture
def system() -> Iterator[System]:
    with System() as system:
        yield system


def upper(text: str) -> str:
    return text.upper()


def who(context: cbw.Context) -> int:
    return context.attempt


def test_a_handler_by_its_service(system: System) -> None:
    @system.service("double")
    def double(number: int) -> int:
        return 2 * number

    assert system.call(21, "double", returns=int) == 42
    assert double(1) == 2


def test_a_lone_function_serves_the_nameless_service(system: System) -> None:
    system.worker(upper)
    assert system.call("hello", returns=str) == "HELLO"
    assert system.now == 0


def test_errors_of_the_handler_are_those_of_the_real_client(system: System) -> None:
    @system.service("divide")
    def divide(a: int, b: int) -> float:
        return a / b

    assert system.call({"a": 1, "b": 4}, "divide", returns=float) == 0.25
    with pytest.raises(cbw.HandlerFailed) as failed:
        system.call({"a": 1, "b": 0}, "divide")
    assert (failed.value.kind, failed.value.service) == ("ZeroDivisionError", "divide")
    with pytest.raises(cbw.BadRequest):
        system.call({"a": 1}, "divide")


def test_an_async_handler_in_an_async_test(system: System) -> None:
    """Whoever tests with an event loop has one that runs already, in which none of the handlers can."""

    async def upper_later(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    async def test() -> None:
        system.worker(upper_later)
        assert system.call("hello", returns=str) == "HELLO"

    asyncio.run(test())


def test_an_async_handler(system: System) -> None:
    @system.service()
    async def wait(text: str) -> str:
        await asyncio.sleep(0)
        return text

    assert system.call("hello", returns=str) == "hello"


def test_a_handler_that_asks_another_service(system: System) -> None:
    system.worker({"upper": upper}, work_time_s=1)

    @system.service()
    def greet(name: str) -> str:
        return f"Hello {system.call(name, 'upper', returns=str)}"

    assert system.call("ada", returns=str) == "Hello ADA"
    assert system.now == 1


def test_the_time_of_work_passes_without_waiting(system: System) -> None:
    system.worker(upper, work_time_s=3600)
    began_at = time.monotonic()
    request = system.submit("hello", timeout=None)
    system.pass_time(3599)
    assert not request.is_ended
    system.pass_time(1)
    assert request.is_ended
    assert request.result(returns=str) == "HELLO"
    assert time.monotonic() - began_at < 600
    assert system.counts["workers_lost"] == 0, "it kept beating"


def test_workers_share_the_work(system: System) -> None:
    for number in range(4):
        system.worker(upper, id=f"W{number}", work_time_s=1)
    requests = [system.submit(str(number)) for number in range(8)]
    system.pass_time(2)
    assert [request.result(returns=str) for request in requests] == [str(number) for number in range(8)]
    taken = [record.worker for record in system.records if record.event == "handed_out"]
    assert taken == ["W0", "W1", "W2", "W3"] * 2


def test_concurrency_is_how_many_run_at_once(system: System) -> None:
    system.worker(upper, concurrency=3, work_time_s=1)
    requests = [system.submit("x") for _ in range(6)]
    system.pass_time(1)
    assert [request.is_ended for request in requests] == [True] * 3 + [False] * 3
    system.pass_time(1)
    assert all(request.is_ended for request in requests)


def test_a_worker_killed_in_the_middle(system: System) -> None:
    first = system.worker(who, work_time_s=2)
    request = system.submit()
    system.pass_time(1)
    first.kill()
    system.worker(who)
    assert request.result(returns=int) == 2
    assert request.story == ["accepted", "handed_out", "attempt_failed", "handed_out", "answered"]
    assert system.now == 1


def test_a_frozen_worker_is_lost_and_its_late_answer_fenced_off(system: System) -> None:
    frozen = system.worker(upper, id="SLOW", work_time_s=1)
    request = system.submit("hello")
    frozen.freeze()
    system.worker(upper, id="GOOD")
    assert request.result(returns=str) == "HELLO"
    assert 2.9 < system.now < 4, "after three beats"
    system.pass_time(60)
    frozen.thaw()
    assert system.counts["answers_fenced"] == 1
    assert request.story[-1] == "fenced"
    system.pass_time(2)
    assert {worker.name for worker in system.broker.workers.by_peer.values()} == {"SLOW", "GOOD"}


def test_a_handler_that_crashes_its_workers_is_given_up(system: System) -> None:
    crashed = []

    def crash(body: str) -> str:
        if body == "poison":
            crashed.append(body)
            next(worker for worker in workers if worker.is_alive).kill()
        return body

    workers = [system.worker(crash) for _ in range(4)]
    with pytest.raises(cbw.GaveUp, match="3 workers failed"):
        system.call("poison")
    assert len(crashed) == 3
    assert system.call("good", returns=str) == "good"


def test_attempts_max_is_a_limit_of_the_system() -> None:
    with System(cbw.Limits(attempts_max=1)) as system:
        worker = system.worker(lambda body: worker.kill())
        with pytest.raises(cbw.GaveUp, match="1 worker failed"):
            system.call()


def test_an_expired_request_is_never_begun(system: System) -> None:
    with pytest.raises(cbw.Expired):
        system.call("hello", timeout=5)
    assert system.now == 5
    ran = []
    system.worker(lambda body: ran.append(body))
    assert ran == []


def test_a_handler_sees_the_time_that_is_left(system: System) -> None:
    left: list[float | None] = []

    @system.service()
    def take_a_while(context: cbw.Context) -> None:
        left.append(context.time_left)
        system.pass_time(2)
        left.append(context.time_left)

    system.call(timeout=10)
    system.call(timeout=None)
    assert left == [10, 8, None, None]


def test_cancel_what_waits_and_what_runs(system: System) -> None:
    seen: list[cbw.Context] = []

    def remember(body: str, context: cbw.Context) -> None:
        seen.append(context)

    system.worker(remember, work_time_s=1)
    running, waiting, other = (system.submit(name) for name in ("running", "waiting", "other"))
    running.cancel()
    waiting.cancel()
    with pytest.raises(cbw.Cancelled):
        running.result()
    with pytest.raises(cbw.Cancelled):
        waiting.result()
    other.result()
    assert [context.is_cancelled for context in seen] == [True, False]


def test_a_task_that_is_cancelled_before_its_worker_has_read_it_is_not_begun(system: System) -> None:
    seen: list[bytes] = []

    def remember(body: bytes) -> None:
        seen.append(body)

    worker = system.worker(remember)
    worker.freeze()
    request = system.submit("unwanted")
    request.cancel()
    worker.thaw()
    assert system.call("wanted") == b""
    assert seen == [b"wanted"]


def test_a_broker_that_is_killed_and_started_again(system: System) -> None:
    system.worker(upper, work_time_s=2)
    request = system.submit("hello")
    system.pass_time(1)
    system.kill_broker()
    system.pass_time(10)
    system.start_broker()
    assert request.result(returns=str) == "HELLO"
    assert system.counts["answers_fenced"] == 1, "of the attempt that the old broker had handed out"


def test_a_client_that_loses_its_connection(system: System) -> None:
    client = system.client("C1")
    worker = system.worker(upper, work_time_s=2)
    request = client.submit("hello")
    client.cut()
    system.pass_time(5)
    assert not request.is_ended
    client.mend()
    assert request.is_ended
    assert request.result(returns=str) == "HELLO"
    assert request.story == ["accepted", "handed_out", "answered"]
    worker.stop()
    assert not worker.is_alive


def test_a_stopped_worker_finishes_what_runs_and_returns_the_rest(system: System) -> None:
    leaving = system.worker(upper, work_time_s=1)
    running, waiting = system.submit("one"), system.submit("two")
    leaving.stop()
    assert leaving.is_alive
    system.worker(upper)
    assert waiting.is_ended
    assert running.result(returns=str) == "ONE"
    assert not leaving.is_alive
    assert system.counts["attempts_failed"] == 0


def test_two_that_live_under_one_id(system: System) -> None:
    system.worker(upper, id="W1")
    second = system.worker(upper, id="W1")
    system.pass_time(10)
    assert not second.is_alive
    assert second.core.refused is not None


def test_a_request_outlives_its_client(system: System) -> None:
    client = system.client()
    ticket = client.start("one", "s", deadline_s=100)
    assert not ticket.is_durable, "the broker in memory has no journal"
    assert client.start("one", "s", ticket=ticket) == ticket
    with pytest.raises(cbw.TicketTaken):
        client.start("two", "s", ticket=ticket)
    client.cut()
    system.pass_time(90)
    other = system.client()
    with pytest.raises(cbw.Expired):
        other.result(ticket, timeout=1)
    system.worker({"s": upper})
    assert [other.result(ticket, returns=str) for _ in range(2)] == ["ONE", "ONE"]
    assert [r.event for r in system.records if r.request == f"ticket/{ticket}"] == [
        "accepted",
        "handed_out",
        "answered",
    ]
    system.kill_broker()
    system.start_broker()
    with pytest.raises(cbw.UnknownTicket):
        other.result(ticket)


def test_nobody_will_ever_answer(system: System) -> None:
    with pytest.raises(cbw.NoAnswer):
        system.call(timeout=None)


def test_the_same_every_time() -> None:
    def run() -> list[tuple[float, str, str, str]]:
        with System() as system:
            workers = [system.worker(upper, concurrency=2, work_time_s=0.3) for _ in range(3)]
            requests = [system.submit(f"{number}", timeout=2 + number) for number in range(20)]
            system.pass_time(0.5)
            workers[0].kill()
            workers[1].freeze()
            results = [request.result(returns=str) for request in requests]
            assert results == [f"{number}" for number in range(20)]
            return [(record.at, record.event, record.request, record.worker) for record in system.records]

    assert run() == run()


def test_priorities_order_what_waits_of_one_client(system: System) -> None:
    served: list[bytes] = []
    requests = [system.submit(body, priority=priority) for body, priority in ((b"low", 0), (b"usual", 5), (b"high", 9))]
    system.worker(lambda body: served.append(body))
    for request in requests:
        request.result()
    assert served == [b"high", b"usual", b"low"]


def test_a_handler_that_fails_twice_is_called_again_in_simulated_time(system: System) -> None:
    tries: list[tuple[float, int]] = []

    def handler(body: bytes, context: cbw.Context) -> bytes:
        tries.append((system.now, context.retries))
        if context.retries < 2:
            raise ConnectionResetError("no route")
        return body

    system.worker(handler, retries=2, retry_on=(ConnectionError,), backoff_s=(10, 60))
    request = system.submit("tea")
    assert request.result(returns=str) == "tea"
    assert [used for _, used in tries] == [0, 1, 2]
    assert 10 <= tries[1][0] <= 20 and 20 <= tries[2][0] - tries[1][0] <= 40
    assert request.story[-4:] == ["retried", "due", "handed_out", "answered"]


def test_retries_are_used_up(system: System) -> None:
    def handler(body: bytes) -> bytes:
        raise cbw.Retry("not ready", after_s=1)

    system.worker(handler)
    with pytest.raises(cbw.HandlerFailed, match=r"Retry: not ready \(tried 6 times\)"):
        system.call("tea")
    assert system.counts["requests_retried"] == 5


def test_a_delayed_request_takes_its_time(system: System) -> None:
    system.worker(upper)
    request = system.submit("tea", delay_s=30)
    system.pass_time(29)
    assert not request.is_ended
    assert request.result(returns=str) == "TEA" and system.now >= 30


def test_a_delayed_request_is_sent_again_with_the_rest_of_its_delay(system: System) -> None:
    system.worker(upper)
    request = system.submit("tea", delay_s=30, timeout=40)
    system.pass_time(20)
    system.kill_broker()
    system.pass_time(1)
    system.start_broker()
    assert request.result(returns=str) == "TEA" and 30 <= system.now < 31


@pytest.mark.parametrize("delay_s", [-1, float("nan"), "5", 60, 1e12])
def test_a_delay_that_makes_no_sense(system: System, delay_s: float) -> None:
    with pytest.raises(cbw.UsageError):
        system.call("tea", delay_s=delay_s, timeout=60)


def test_a_request_with_a_ticket_may_be_delayed(system: System) -> None:
    system.worker(upper)
    client = system.client()
    ticket = client.start("tea", delay_s=30, deadline_s=40)
    assert system.now < 1, "the broker has it"
    assert client.result(ticket, returns=str, timeout=None) == "TEA" and 30 <= system.now < 31
    with pytest.raises(cbw.UsageError):
        client.start("tea", delay_s=30, deadline_s=30)

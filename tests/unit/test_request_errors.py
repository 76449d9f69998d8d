"""What an error of a request tells: which request it was, so that its story can be looked up."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import cbw
from cbw import Limits
from cbw.client.result import exception_for
from cbw.core import messages
from cbw.core.broker.dead_letters import Filter
from cbw.core.client.events import Ended
from cbw.testing import System


@pytest.fixture
def system() -> System:
    return System()


def upper(body: bytes) -> bytes:
    return body.upper()


def broken(body: bytes) -> int:
    raise KeyError("milk")


def test_an_error_names_its_request_as_traces_do(system: System) -> None:
    system.worker({"price": broken})
    client = system.client("C1")
    for number in (1, 2):
        with pytest.raises(cbw.HandlerFailed) as failed:
            client.call(b"", "price")
        assert (failed.value.request, failed.value.request_id) == (f"C1/{number}", number)
        assert any(record.request == failed.value.request for record in system.records)
    shown = "".join(traceback.format_exception(failed.value))
    assert "request C1/2 for the service 'price'" in shown
    assert str(failed.value) == "KeyError: 'milk'"


def test_so_does_one_that_the_client_makes_itself(system: System) -> None:
    client = system.client("C1")
    system.kill_broker()
    with pytest.raises(cbw.Expired) as expired:
        client.call(b"", timeout=1)
    assert expired.value.request == "C1/1"


def test_so_does_an_answer_that_cannot_be_read(system: System) -> None:
    system.worker(upper)
    with pytest.raises(cbw.BadAnswer) as bad:
        system.client("C1").call("milk", returns=int)
    assert bad.value.request == "C1/1"


def test_of_a_ticket_the_error_names_the_ticket(system: System) -> None:
    system.worker({"price": broken})
    client = system.client("C1")
    ticket = client.start(b"", "price", ticket="order 7")
    with pytest.raises(cbw.HandlerFailed) as failed:
        client.result(ticket)
    assert failed.value.request == "ticket/order 7"


def test_an_error_survives_pickling() -> None:
    error = cbw.HandlerFailed("'milk'", kind="KeyError", request_id=7, service="price", request="C1/7")
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error) and str(again) == str(error)


def test_asyncio_is_no_exception() -> None:
    async def ask() -> None:
        async with cbw.AsyncClient("127.0.0.1:1", id="C1") as client:
            with pytest.raises(cbw.Expired) as expired:
                await client.call(b"", timeout=0.001)
            assert expired.value.request == "C1/1"

    asyncio.run(ask())


# --- what a handler says


def no_tea(article: str) -> int:
    raise cbw.Failure("not_found", data={"article": article})


async def no_tea_later(article: str) -> int:
    return no_tea(article)


@pytest.mark.parametrize("handler", [no_tea, no_tea_later])
def test_a_failure_reaches_the_client_as_it_was_raised(system: System, handler: Callable[..., Any]) -> None:
    system.worker({"price": handler})
    with pytest.raises(cbw.Failure) as failed:
        system.client("C1").call("tea", "price")
    failure = failed.value
    assert (failure.code, failure.data, failure.request) == ("not_found", {"article": "tea"}, "C1/1")
    assert isinstance(failure, cbw.HandlerFailed) and failure.kind == "not_found" == str(failure)
    again = pickle.loads(pickle.dumps(failure))
    assert vars(again) == vars(failure)


def test_a_failure_whose_retries_are_used_up_is_a_dead_letter_and_keeps_its_data(system: System) -> None:
    system.worker({"price": no_tea}, retries=1, retry_on=(cbw.Failure,))
    with pytest.raises(cbw.Failure) as failed:
        system.client("C1").call("tea", "price")
    assert failed.value.data == {"article": "tea"} and "tried 2 times" in failed.value.text
    (letter,) = system.broker.requests.dead.find(Filter())
    assert letter.kind == "not_found"
    assert [attempt.reason for attempt in letter.attempts] == ["not_found", "not_found"]


def test_the_broker_records_why_a_request_failed(system: System) -> None:
    system.worker({"price": no_tea})
    with pytest.raises(cbw.Failure):
        system.call("tea", "price")
    assert [record.text for record in system.records if record.event == "failed"] == ["not_found"]


def test_an_answer_that_is_too_large_is_no_exception_of_the_handler() -> None:
    system = System(Limits(body_bytes_max=1000))
    system.worker(lambda body: b"x" * 1001)
    with pytest.raises(cbw.AnswerTooBig, match="1001 bytes; the broker allows 1000") as error:
        system.call(b"")
    assert not isinstance(error.value, cbw.HandlerFailed | cbw.TooBig)


def test_an_error_is_no_such_answer_however_long_it_is() -> None:
    def long(body: bytes) -> None:
        raise KeyError("x" * 100_000)

    system = System(Limits(body_bytes_max=1000))
    system.worker(long)
    with pytest.raises(cbw.HandlerFailed) as error:
        system.call(b"")
    assert error.value.kind == "KeyError"


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_traceback_is_sent_to_clients_only_if_the_broker_is_told_to(is_sent: bool) -> None:
    system = System(Limits(send_tracebacks=is_sent))
    system.worker(broken)
    with pytest.raises(cbw.HandlerFailed) as error:
        system.call(b"")
    assert ('raise KeyError("milk")' in error.value.traceback) is is_sent
    assert ('raise KeyError("milk")' in "".join(traceback.format_exception(error.value))) is is_sent


def test_a_failure_of_a_wrong_worker_is_an_error_all_the_same() -> None:
    for kind, data in (("code", "no JSON"), ("", "null")):
        body = messages.error_body(kind, "text", data=data)
        ended = Ended(None, messages.Answer(1, messages.Status.FAILED, body), "s", "C1")
        assert type(exception_for(ended)) is cbw.HandlerFailed

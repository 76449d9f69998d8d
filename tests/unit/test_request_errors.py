"""What an error of a request tells: which request it was, so that its story can be looked up."""

from __future__ import annotations

import asyncio
import pickle
import traceback

import pytest

import cbw
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

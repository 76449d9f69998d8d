"""A program that submits requests and leaves: what it has submitted is done, or it hears what became of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cbw

from .conftest import Broker, Connect, Log, StartWorker
from .program import PATIENCE_S, environment

SUBMIT = """\
import sys, cbw
with cbw.Client(sys.argv[1]) as client:
    for number in range(20):
        client.submit(f"{number}")
"""
SUBMIT_ASYNC = """\
import asyncio, sys, cbw
async def main():
    async with cbw.AsyncClient(sys.argv[1]) as client:
        for number in range(20):
            client.submit(f"{number}")
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [SUBMIT, SUBMIT_ASYNC], ids=["Client", "AsyncClient"])
def test_all_that_was_submitted_is_done(broker: Broker, start_worker: StartWorker, log: Log, program: str) -> None:
    start_worker("W1", "note_done")
    subprocess.run([sys.executable, "-c", program, broker.address], check=True, timeout=PATIENCE_S, env=environment())
    assert sorted(map(int, log.lines)) == list(range(20))


def test_an_error_of_the_program_is_not_held_up(broker: Broker) -> None:
    with pytest.raises(ZeroDivisionError), cbw.Client(broker.address, timeout=None) as client:
        future = client.submit("nobody serves this")
        raise ZeroDivisionError
    with pytest.raises(cbw.Closed):
        future.result(PATIENCE_S)


def test_close_waits_if_it_is_asked_to(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "echo")
    waiting, leaving = connect(broker), connect(broker)
    answered = waiting.submit("x")
    waiting.close(wait=True)
    assert answered.result(0) == b"x"
    unanswered = leaving.submit("x", "nobody serves this")
    leaving.close()
    with pytest.raises(cbw.Closed):
        unanswered.result(PATIENCE_S)


def test_a_request_whose_time_is_up_holds_up_nobody(broker: Broker) -> None:
    with cbw.Client(broker.address) as client:
        future = client.submit("x", "nobody serves this", timeout=0.5)
    with pytest.raises(cbw.Expired):
        future.result(0)


def test_a_callback_may_close_its_client(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "echo")
    client = connect(broker)
    future = client.submit("x")
    future.add_done_callback(lambda _: client.close(wait=True))
    assert future.result(PATIENCE_S) == b"x"

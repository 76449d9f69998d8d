"""Handlers that take a list of requests, in real workers: how large the lists are, and what becomes of one that kills."""

from __future__ import annotations

from pathlib import Path

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, Start
from .program import Program

BATCHES = """\
import os
from pathlib import Path

import cbw

HERE = Path(__file__).parent
plain, loop = cbw.Service("plain"), cbw.Service("loop")


def note(words: list[str]) -> None:
    with (HERE / "log").open("a") as log:
        log.write(f"{len(words)}\\n")


@plain.task(name="length", batch=8, wait_ms=300)
def length(words: list[str]) -> list[int | Exception]:
    note(words)
    if "die" in words:
        os._exit(1)
    return [len(word) if word != "no" else cbw.Failure("no") for word in words]


@loop.task(name="length", batch=8, wait_ms=300)
async def length_async(words: list[str]) -> list[int | Exception]:
    return length(words)
"""


@pytest.fixture(params=["threads", "processes"])
def worker(request: pytest.FixtureRequest, start: Start, broker: Broker, tmp_path: Path) -> Program:
    (tmp_path / "batches.py").write_text(BATCHES)
    processes = ["--processes", 1] if request.param == "processes" else []
    program = start(
        *("worker", "W1", HOST, broker.worker_port, "--app", "batches", *processes), PYTHONPATH=str(tmp_path)
    )
    broker.program.wait_for("worker ready", "plain.length")
    broker.program.wait_for("worker ready", "loop.length")
    return program


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("service", ["plain.length", "loop.length"])
def test_a_full_batch_does_not_wait_and_the_rest_does(
    broker: Broker, connect: Connect, service: str, tmp_path: Path
) -> None:
    words = ["x" * number for number in range(1, 17)] + ["no", "tea"]
    answers = list(connect(broker).map(words, service, returns=int, return_errors=True))
    assert answers[:16] == list(range(1, 17)) and answers[17] == 3
    assert isinstance(answers[16], cbw.Failure) and answers[16].code == "no"
    assert Log(tmp_path / "log").lines == ["8", "8", "2"]


def test_one_that_kills_is_given_up_alone(start: Start, broker: Broker, connect: Connect, tmp_path: Path) -> None:
    """Attempts are counted for each request; after the first, each travels alone."""
    (tmp_path / "batches.py").write_text(BATCHES)
    start(*("worker", "W1", HOST, broker.worker_port, "--app", "batches", "--processes", 1), PYTHONPATH=str(tmp_path))
    broker.program.wait_for("worker ready", "plain.length")
    words = ["tea", "die", "coffee"]
    answers = list(connect(broker).map(words, "plain.length", returns=int, return_errors=True))
    assert answers[0] == 3 and answers[2] == 6
    assert isinstance(answers[1], cbw.GaveUp)

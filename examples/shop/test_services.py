"""The services, tested in memory: no broker, no port, no waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from adviser import TEXTS, adviser, describe
from stock import LEFT, price, stock, take

import cbw
from cbw.testing import System


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """A system with both services, and a full stock."""
    monkeypatch.setitem(LEFT, "tea", 12)
    with System() as system:
        system.worker(stock)
        system.worker(adviser)
        yield system


def test_a_task_is_a_function() -> None:
    assert price("tea", count=3) == 1470


def test_what_is_taken_is_not_there_any_more(shop: System) -> None:
    assert shop.call(take, "tea", count=10) == 2
    with pytest.raises(cbw.Failure) as caught:
        shop.call(take, "tea", count=3)
    assert (caught.value.code, caught.value.data) == ("not_enough", {"left": 2})


def test_a_description_comes_word_by_word(shop: System) -> None:
    assert list(shop.stream(describe, "tea")) == TEXTS["tea"].split()


def test_a_killed_worker_costs_no_answer() -> None:
    with System() as system:
        first = system.worker(stock, work_time_s=2)
        request = system.submit(price, "tea", count=2)
        system.pass_time(1)
        first.kill()
        system.worker(stock)
        assert request.result() == 980


def test_nobody_serves_it() -> None:
    with System() as system, pytest.raises(cbw.Expired) as caught:
        system.call(take.with_options(require_worker=True), "tea")
    assert caught.value.kind == "no_worker"

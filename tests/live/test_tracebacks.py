"""Whoever has written a handler sees where it failed, whatever the worker's options are; whoever asked does not."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

import cbw
from cbw.observe.trace import read

from .conftest import HOST, Broker, Connect, Start
from .program import wait_until

SHOP = """\
import logging

PRICES = {"tea": 490}


def price(article: str) -> int:
    logging.getLogger("shop").info("asked for %s", article)
    return PRICES[article]


async def price_later(article: str) -> int:
    return price(article)
"""
LINE = "return PRICES[article]"


@pytest.mark.parametrize("options", [[], ["--processes", 1], ["--verbose"], ["--processes", 1, "--verbose"]], ids=str)
@pytest.mark.parametrize("handler", ["price", "price_later"])
def test_a_traceback_is_printed(
    start: Start, broker: Broker, connect: Connect, tmp_path: Path, handler: str, options: list[object]
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    worker = start(
        "worker", "W1", HOST, broker.worker_port, "--handler", f"shop:{handler}", *options, PYTHONPATH=str(tmp_path)
    )
    with pytest.raises(cbw.HandlerFailed) as failed:
        connect(broker).call("milk")
    worker.wait_for("INFO shop: asked for milk")
    worker.wait_for("W1 error", "KeyError: 'milk'")
    worker.wait_for(LINE)
    assert worker.count(LINE) == 1, worker
    assert str(failed.value) == "KeyError: 'milk'"


def test_a_traceback_stands_in_the_trace(start: Start, broker: Broker, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    trace = tmp_path / "trace.jsonl"
    start(
        "worker", "W1", HOST, broker.worker_port, "--handler", "shop:price", "--trace", trace, PYTHONPATH=str(tmp_path)
    )
    with pytest.raises(cbw.HandlerFailed):
        connect(broker).call("milk")
    wait_until(lambda: '"event":"error"' in trace.read_text(), "it is in the trace")
    (failure,) = [record for record in read(str(trace)) if record.event == "error"]
    assert failure.fields is not None and LINE in failure.fields["traceback"]


def test_an_error_at_import_shows_where(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("prices = {}\nprices['tea']\n")
    worker = start("worker", "W1", HOST, 1, "--handler", "broken:price", PYTHONPATH=str(tmp_path))
    assert worker.exit_code() == 2
    assert worker.count("broken:price does not import: KeyError: 'tea'") and worker.count("prices['tea']"), worker
    assert not worker.count("importlib"), worker


def test_a_flood_of_failures_is_not_a_flood_of_lines(
    start: Start, broker: Broker, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    worker = start("worker", "W1", HOST, broker.worker_port, "--handler", "shop:price", PYTHONPATH=str(tmp_path))
    worker.wait_for("connected")
    began_at = time.monotonic()
    answers = list(connect(broker).map(["milk"] * 2000, return_errors=True))
    assert all(isinstance(answer, cbw.HandlerFailed) for answer in answers)
    assert worker.count(LINE) <= 20 * (time.monotonic() - began_at + 2), worker


def test_a_worker_of_the_library_tells_logging(
    broker: Broker, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    worker = cbw.Worker(f"{HOST}:{broker.worker_port}")

    @worker.service()
    def price(article: str) -> int:
        raise KeyError(article)

    thread = threading.Thread(target=worker.run)
    thread.start()
    with caplog.at_level(logging.ERROR, "cbw"), pytest.raises(cbw.HandlerFailed):
        connect(broker).call("milk")
    worker.stop()
    thread.join(10)
    assert "raise KeyError(article)" in caplog.text

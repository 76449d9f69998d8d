"""What handlers log carries the request that they serve, and joins its story."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.observe.trace import read

from .conftest import HOST, Connect, Log, Start, StartBroker
from .contract import log_later, log_line
from .program import wait_until


def lines_of(trace: Path) -> list[Record]:
    return [record for record in read(str(trace)) if record.event == catalogue.LOG] if trace.exists() else []


@pytest.mark.parametrize("processes", [0, 1])
def test_log_lines_join_the_story_of_their_request(
    start: Start, start_broker: StartBroker, connect: Connect, log: Log, tmp_path: Path, processes: int
) -> None:
    broker, trace = start_broker("--trace", str(tmp_path / "broker")), tmp_path / "worker"
    apps = ("--app", "contract:archive", "--app", "contract:depot", "--concurrency", 4, "--processes", processes)
    options = (*apps, "--trace", str(trace))
    worker = start("worker", "W1", HOST, broker.worker_port, *options, CBW_TEST_LOG=str(log.path))
    broker.program.wait_for("worker ready", " worker W1", count=3)
    client = connect(broker, id="C1")
    names = {word: client.call(log_line, word) for word in ("one", "two")}
    later = {word: client.submit(log_later, word) for word in ("three", "four", "five")}
    names |= {word: future.result() for word, future in later.items()}
    wait_until(lambda: len(lines_of(trace)) >= 5, "five lines")
    told = {record.text: record for record in lines_of(trace)}
    assert {text: record.request for text, record in told.items()} == {f"says {word}": names[word] for word in names}
    assert len(set(names.values())) == 5
    one = told["says one"]
    assert (one.client, one.service, one.level, one.fields) == ("C1", "archive.log_line", "info", {"logger": "archive"})
    assert one.worker.startswith("W1")
    assert worker.count("INFO archive: says one") == 1

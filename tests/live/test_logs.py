"""``cbw logs`` on the log of a running system: followed through rotations, stories of requests whose workers died."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

import cbw
from cbw.logger.logfile import files_of
from cbw.observe.trace import LogTarget, Trace

from .conftest import HOST, Start, broker_of
from .program import Program, wait_until


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The log's file."""
    return tmp_path / "logs" / "logs"


@pytest.fixture
def log_port(start: Start, logs: Path) -> int:
    """The text port of a logger that rotates often."""
    line = start("logger", 0, logs, "--rotate-bytes", 65536, "--keep", 100).wait_for("text on port")
    return int(line.split("text on port ")[1].split(",")[0])


def ended(start: Start, *arguments: object, code: int = 0) -> Program:
    program = start("logs", *arguments)
    assert program.exit_code() == code, program
    return program


def figures(start: Start, *arguments: object) -> dict[str, object]:
    found: dict[str, object] = json.loads("\n".join(ended(start, *arguments, "--json").lines))
    return found


def client_of(port: int, name: str, log_port: int) -> cbw.Client:
    target = LogTarget(HOST, log_port)
    trace = Trace(is_printing=False, name=name, log=target)
    return cbw.Client(f"{HOST}:{port}", id=name, timeout=60, trace=trace)


def test_lines_that_anybody_may_send(start: Start, tmp_path: Path) -> None:
    """A time beyond all calendars, and text that looks like a record but is none."""
    path = tmp_path / "logs"
    known = b'{"at":1.0,"event":"accepted","role":"broker","sender":"B","request":"C/1","client":"C"}\n'
    path.write_bytes(b'{"at":1e20,"event":"x","sender":"A"}\nsaid "request":"caf\\xe9/1" here\n' + known)
    shown = ended(start, path).lines
    assert shown[0].startswith("1e+20")
    assert len(shown) == 3
    assert "C/1" in "\n".join(ended(start, "story", "C/9", path, code=1).errors)
    ended(start, "stats", path)


def test_a_damaged_file_is_told_of_by_all(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "logs"
    lines = [
        b'{"at":%d.0,"event":"accepted","role":"broker","sender":"B","request":"C/%d"}\n' % (n, n) for n in range(9000)
    ]
    packed = gzip.compress(b"".join(lines))
    path.with_name("logs.20250101T000000.000000.gz").write_bytes(packed[: len(packed) // 2])
    path.write_bytes(b'{"at":99999.0,"event":"started","role":"broker","sender":"B"}\n')
    for arguments in ([path], ["stats", path], ["story", "C/1", path]):
        assert ended(start, *arguments).count("is damaged, the rest of it is missing here")
    verify = start("verify", "--trace", path)
    assert verify.exit_code() == 2
    assert verify.count("is damaged")


def test_the_story_of_a_request_whose_worker_died(start: Start, logs: Path, log_port: int) -> None:
    place = {"LOGGER_HOST": HOST, "LOGGER_PORT": str(log_port)}
    broker = broker_of(start("broker", 0, 0, "--listen", HOST, **place))
    options = ("--work-time", 3, "-v")
    workers = {name: start("worker", name, HOST, broker.worker_port, *options, **place) for name in ("W1", "W2")}
    for name in workers:
        broker.program.wait_for("worker ready", f" worker {name}")
    with client_of(broker.client_port, "C1", log_port) as client:
        pending = client.submit(b"hello")
        wait_until(lambda: any(worker.count("begun") for worker in workers.values()), "a worker has begun it")
        victim = next(name for name, worker in workers.items() if worker.count("begun"))
        heir = next(name for name in workers if name != victim)
        wait_until(lambda: logs.read_bytes().count(b'"event":"begun"') == 1, "the log knows that it has")
        workers[victim].kill()
        pending.result()
    for event in ("done", "answered", "got"):  # each role tells the logger on its own
        wait_until(lambda event=event: f'"event":"{event}"' in logs.read_text(), f"the log knows {event}")  # type: ignore[misc]

    story = figures(start, "story", "C1/1", logs)
    assert (story["outcome"], story["worker"]) == ("answered", heir)
    attempts = story["attempts"]
    assert isinstance(attempts, list)
    assert [(attempt["worker"], attempt["outcome"]) for attempt in attempts] == [(victim, "lost"), (heir, "answered")]
    records = story["records"]
    assert isinstance(records, list)
    assert [record["event"] for record in records if record["event"] != "resent"] == [
        "sent", "accepted", "handed_out", "begun", "attempt_failed", "handed_out", "begun", "done", "answered", "got",
    ]  # fmt: skip
    told = ended(start, "story", "C1/1", logs)
    assert "C1/1, from" in told.lines[0] and f"answered by {heir} after" in told.lines[0]

    unknown = ended(start, "story", "C1/2", logs, code=1)
    assert unknown.count("there is no request C1/2") and unknown.count("There are: C1/1"), unknown

    stats = figures(start, "stats", logs, "--since", "1h")
    assert (stats["requests"], stats["answered"], stats["attempts_lost"], stats["gaps"]) == (1, 1, 1, 0)
    assert ended(start, "stats", logs).count("requests   1: 1 answered, 0 open")
    assert stats["slow"] == [] and stats["workers"][heir]["took_s"]["p50"] > 2  # type: ignore[index]
    assert ended(start, "stats", logs).count("(nameless)", " 1 ")
    assert all(
        "worker lost" in line or "attempt failed" in line for line in ended(start, logs, "--level", "warning").lines
    )
    assert len(ended(start, logs, "--service", "", "--event", "answered").lines) == 1
    assert ended(start, logs, "--service", "other").lines == []
    assert ended(start, logs, "--level", "loud", code=2).count("'loud' is not one of 'debug', 'info'")
    lines = ended(start, logs, "--event", "worker lost", "--worker", victim).lines
    assert len(lines) == 1 and "worker lost" in lines[0] and victim in lines[0]


def test_followed_from_before_its_beginning_through_rotations(start: Start, logs: Path) -> None:
    follower = start("logs", "-f", logs, "--grep", "number")
    follower.wait_for("waiting for it")
    logger = start("logger", 0, logs, "--rotate-bytes", 65536, "--keep", 100)
    port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://{HOST}:{port}")
        for number in range(5000):
            push.send(b"number %d %s" % (number, b"x" * 100))
        follower.wait_for("number 4999 ")
    assert len(files_of(logs)) > 5
    assert [int(line.split()[1]) for line in follower.lines] == list(range(5000)), "each once, and in order"
    follower.signal(signal.SIGINT)
    assert follower.exit_code() == 130
    found = ended(start, logs, "--grep", "number").lines
    assert [int(line.split()[1]) for line in found] == list(range(5000))
    last = ended(start, logs, "-n", 3, "--grep", "number").lines
    assert last == found[-3:]


def test_what_a_stranger_sends_does_not_control_the_terminal(start: Start, tmp_path: Path) -> None:
    (tmp_path / "logs").write_bytes(b"\x1b[31mred\x07\n" + b'{"at":1,"event":"log","text":"\\u001b[2Jx"}\n')
    program = ended(start, tmp_path)
    assert program.lines[0] == "\\u001b[31mred\\u0007"
    assert "\\u001b[2Jx" in program.lines[1]


def test_a_reader_that_stops_reading(start: Start, tmp_path: Path) -> None:
    """As ``cbw logs | head`` does."""
    (tmp_path / "logs").write_bytes(b"line\n" * 1_000_000)
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(
        [sys.executable, "-m", "cbw", "logs", str(tmp_path)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(write_end)
    assert done.returncode == 1 and done.stderr == b""


def test_bad_questions(start: Start, tmp_path: Path) -> None:
    for arguments in (
        [tmp_path / "none"],
        [tmp_path, "--since", "soon"],
        [tmp_path, "--grep", "("],
        [tmp_path, "--event", "worker_lsot"],
        [tmp_path, "--role", "brokers"],
        [tmp_path, "--since", "2025-01-31T17:30:00", "--until", "2025-01-31T17:00:00"],
        [tmp_path, "-f", "--until", "1m"],
        [tmp_path / "logs" / "in a file", "-f"],
        ["story"],
        ["stats", tmp_path / "none"],
    ):
        (tmp_path / "logs").write_bytes(b"")
        program = ended(start, *arguments, code=2)
        assert program.errors, "without a word"
    assert ended(start, "stats", tmp_path).lines == ["no records in that time"]

"""Real workers that die of a request, a broker that is killed, and ``cbw dead`` as people type it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker
from .program import HERE, PATIENCE_S, Program, environment, wait_until

Dead = Callable[..., Program]


@pytest.fixture
def dead(start: Start) -> Dead:
    """``dead(broker, "list")``: the program, which has ended."""

    def run(broker: Broker, *arguments: object, code: int = 0) -> Program:
        command, *rest = arguments
        program = start("dead", command, "--broker", broker.address, *rest)
        assert program.exit_code() == code, program
        return program

    return run


@pytest.fixture
def poisoned(start_broker: StartBroker, start_worker: StartWorker, connect: Connect) -> Broker:
    """A broker with two dead letters: one of the service crash, and one of a body that is no text."""
    broker = start_broker("--attempts-max", 1)
    client = connect(broker, id="C1")
    for name, service, body in (("W1", "crash", b"kill me"), ("W2", "other", b"exit")):
        start_worker(name, f"{service}=crash", at=broker)
        with pytest.raises(cbw.GaveUp):
            client.call(body, service)
    return broker


def test_a_request_that_kills_its_workers_outlives_the_broker_and_is_sent_again(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, dead: Dead, log: Log, tmp_path: Path
) -> None:
    options = ("--journal", tmp_path / "journal", "--attempts-max", 2)
    broker = start_broker(*options)
    for name in ("W1", "W2"):
        start_worker(name, "s=crash", at=broker)
    with pytest.raises(cbw.GaveUp) as caught:
        connect(broker, id="C1").call("kill me", "s")
    assert log.count("begun kill me") == 2
    found = re.search(r"cbw dead show (\S+)", str(caught.value))
    assert found, caught.value
    name = found[1]
    broker.program.kill()
    broker = start_broker(*options, client_port=broker.client_port, worker_port=broker.worker_port)
    broker.program.wait_for("goes on with its journal", "1 dead letter")

    (line,) = dead(broker, "list").lines
    columns = line.split("\t")
    assert columns[:5] == [name, "s", "C1/1", "2", "7"] and "2 workers failed at it" in columns[6]
    shown = "\n".join(dead(broker, "show", name).lines)
    for words in ("attempt 1 by W", "attempt 2 by W", "lost its connection", "kill me"):
        assert words in shown
    assert dead(broker, "show", name, "--body").lines == ["kill me"]
    assert json.loads(dead(broker, "show", name, "--json").lines[0])["body"] == "kill me"

    assert dead(broker, "requeue", name).lines == ["1 dead letter sent again"]
    assert dead(broker, "list").lines == []
    broker.program.kill()  # what was sent again is as safe as any other request
    broker = start_broker(*options, client_port=broker.client_port, worker_port=broker.worker_port)
    start_worker("W3", "s=noted", at=broker)
    log.wait_for("done kill me")
    assert dead(broker, "show", name, code=1).errors[0] == f"cbw: there is no dead letter '{name}'"


def test_a_child_process_that_crashes_tells_its_exit_code(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, dead: Dead
) -> None:
    broker = start_broker()
    start_worker("W1", "crash", at=broker, options=["--processes", 1])
    with pytest.raises(cbw.GaveUp):
        connect(broker).call("exit")
    (letter,) = json.loads(dead(broker, "list", "--json", "--error", "7").lines[0])["letters"]
    shown = json.loads(dead(broker, "show", letter["id"], "--json").lines[0])
    assert len(shown["attempts"]) == 3 and all("7" in attempt["reason"] for attempt in shown["attempts"])


def test_filters_and_acts_in_bulk(poisoned: Broker, dead: Dead) -> None:
    assert len(dead(poisoned, "list").lines) == 2
    assert [line.split("\t")[1] for line in dead(poisoned, "list", "--service", "other").lines] == ["other"]
    assert dead(poisoned, "list", "--older-than", "1h").lines == []
    assert len(dead(poisoned, "list", "--newer-than", "1h", "--limit", 1).lines) == 1
    refused = dead(poisoned, "drop", "--service", "other", code=2)
    assert "this would drop 1 dead letter" in refused.errors[0] and "--yes" in refused.errors[1]
    assert len(dead(poisoned, "list").lines) == 2
    assert dead(poisoned, "drop", "--service", "other", "--yes").lines == ["1 dead letter dropped"]
    assert dead(poisoned, "requeue", "--all", "--yes", "--ttl", "0.3s").lines == ["1 dead letter sent again"]

    def is_back() -> bool:
        return "the deadline passed" in "".join(dead(poisoned, "list").lines)

    wait_until(is_back, "the request that nobody serves is a dead letter again")
    (name, *_) = dead(poisoned, "list").lines[0].split("\t")
    story = dead(poisoned, "show", name)
    assert story.count("  requeued  1 time before") == 1 and story.count("  body      7 bytes") == 1, story
    again = dead(poisoned, "requeue", name, "--ttl", "0.3s", "--json")
    assert json.loads(again.lines[0]) == {"requeued": 1, "left": 0, "missing": []}
    wait_until(is_back, "it is a dead letter once more")
    (name, *_) = dead(poisoned, "list").lines[0].split("\t")
    assert json.loads(dead(poisoned, "drop", name, "--json").lines[0]) == {"dropped": 1, "missing": []}
    assert json.loads(dead(poisoned, "drop", name, "--json", code=1).errors[0])["text"].endswith(f"of that id: {name}")
    assert dead(poisoned, "drop", "--all").lines == ["0 dead letters dropped"]


def test_export(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, dead: Dead, tmp_path: Path
) -> None:
    broker = start_broker("--attempts-max", 1)
    client = connect(broker)
    bodies = ["kill é", b"\xff\x00", bytes(2_000_000)]
    for number, body in enumerate(bodies):
        start_worker(f"W{number}", "die", at=broker)
        with pytest.raises(cbw.GaveUp):
            client.call(body)
    file = tmp_path / "letters"
    assert "3 dead letters exported" in dead(broker, "export", file).errors
    one, two, three = [json.loads(line) for line in file.read_text().splitlines()]
    assert (one["body"], two["body_base64"], three["body"]) == ("kill é", "/wA=", "\0" * 2_000_000)
    assert one["attempts"][0]["worker"] == "W0" and one["exported_at"] > 0
    assert len(dead(broker, "export", "--limit", 2).lines) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list", "--older-than", "soon"], 2, "'soon' is no length of time"),
        (["list", "--limit", 0], 2, "--limit"),
        (["show"], 2, "ID"),
        (["show", "x-1"], 1, "there is no dead letter 'x-1'"),
        (["show", "x-1", "--body"], 1, "there is no dead letter 'x-1'"),
        (["show", "x-1", "--body", "--json"], 2, "exclude each other"),
        (["requeue"], 2, "which dead letters?"),
        (["drop"], 2, "which dead letters?"),
        (["drop", "x-1", "x-2"], 1, "x-1, x-2"),
        (["requeue", "--all", "--ttl", "-1"], 2, "no length of time"),
        (["requeue", "--all", "--yes", "--ttl", "0"], 2, "more than 0"),
        (["export", "/no/such/folder/file"], 2, "No such file"),
        (["bury"], 2, "No such command"),
    ],
)
def test_bad_input(shared: Broker, start: Start, arguments: list[object], code: int, words: str) -> None:
    command, *rest = arguments
    program = start("dead", command, *(() if command == "bury" else ("--broker", shared.address)), *rest)
    assert program.exit_code() == code and words in "\n".join(program.errors), program


def test_without_a_broker(start: Start) -> None:
    program = start("dead", "list", "--broker", f"{HOST}:1", "--timeout", 0.5)
    assert program.exit_code() == 3 and "no broker at" in "\n".join(program.errors)


def on_a_terminal(broker: Broker, *arguments: str, typed: bytes = b"") -> tuple[int, str]:
    """The exit code and the output of ``cbw dead`` whose three streams are a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "cbw", "dead", arguments[0], "--broker", broker.address, *arguments[1:]]
    variables = environment(COLUMNS="150", TERM="dumb")
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=HERE, env=variables)
    os.close(slave)
    os.write(master, typed)
    out, deadline = b"", time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and select.select([master], [], [], PATIENCE_S)[0]:
        try:
            block = os.read(master, 1 << 16)
        except OSError:  # as Linux says that the other side is closed
            break
        out += block
    os.close(master)
    return process.wait(PATIENCE_S), out.decode()


def test_on_a_terminal_there_is_a_table_and_a_question(poisoned: Broker) -> None:
    code, out = on_a_terminal(poisoned, "list")
    assert code == 0 and "2 of 2 dead letters" in out and "│" in out and "crash" in out
    code, out = on_a_terminal(poisoned, "drop", "--service", "crash", typed=b"n\n")
    assert code == 1 and "drop 1 dead letter?" in out and "nothing was changed" in out
    code, out = on_a_terminal(poisoned, "drop", "--service", "crash", typed=b"y\n")
    assert code == 0 and "1 dead letter dropped" in out

"""A broker looked into and steered by the commands that people type, from ``cbw ps`` to ``cbw top``."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable

import pytest

import cbw

from .conftest import Broker, Connect, Start, StartWorker
from .program import HERE, PATIENCE_S, Program, environment, wait_until
from .terminal import run_on_a_terminal

Run = Callable[..., Program]


@pytest.fixture
def run(start: Start, broker: Broker) -> Run:
    """``run("ps")``: the program, which has ended."""

    def run_one(command: str, *arguments: object, code: int = 0, at: str = "") -> Program:
        program = start(command, "--broker", at or broker.address, *arguments)
        assert program.exit_code() == code, program
        return program

    return run_one


def requests(run: Run, *options: object) -> list[str]:
    return [line.split("\t")[0] for line in run("requests", *options).lines]


def test_what_waits_is_listed_explained_and_cancelled(
    run: Run, broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W1", "s=hang")
    client = connect(broker, id="C1")
    futures = [client.submit("30", "s") for _ in range(4)]
    wait_until(lambda: len(requests(run)) == 4, "four requests")
    (running,) = requests(run, "--state", "running")
    assert running == "C1/1" and requests(run, "--state", "waiting", "--limit", 1) == ["C1/2"]
    assert run("why", "C1/1").count("C1/1: worker W1 has had it for") == 1
    assert (
        run("why", "C1/3").count("waits for service s: 1 before it, 1 worker busy for", "nobody idle may serve it") == 1
    )
    told = json.loads(run("why", "C1/3", "--json").lines[0])
    assert (told["state"], told["before"]) == ("waiting", 1)
    assert run("why", "C1/99", code=1).count("no request 'C1/99' is here") == 1
    services = [line.split("\t") for line in run("ps").lines]
    assert services[0][:7] == ["service", "s", "3", "1", "0", "1", "0"] and services[0][7].endswith("s")
    assert services[0][8:13] == ["0.0/s", "", "", "0", "0"] and services[0][13].endswith("s") and services[0][14] == ""
    assert services[1][1:9] == ["W1", "busy", "1/1", "0.0/s", "", "", "0", "0"] and services[1][9].endswith("s")
    assert run("cancel", "C1/1", "C1/3").lines == ["2 requests cancelled"]
    for number in (0, 2):
        with pytest.raises(cbw.Cancelled, match=r"cancelled by .+ \(cbw cancel\)"):
            futures[number].result(PATIENCE_S)
    assert run("purge", "s", code=2).count("this would end 2 requests of s, and nobody can confirm it") == 1
    assert json.loads(run("purge", "s", "--yes", "--json").lines[0])["purged"] == 2
    assert run("cancel", "C1/99", code=1).count("not there: C1/99") == 1
    assert broker.program.count("cancel asked", "C1/1, C1/3") == 1


def test_a_worker_is_drained_and_a_service_paused(
    run: Run, broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    for name in ("W1", "W2"):
        start_worker(name, "s=echo")
    client = connect(broker, id="C1")
    assert run("drain", "W1").lines == ["1 worker drained"]
    assert run("drain", "W9", code=1).count("not there: W9") == 1
    for number in range(5):
        client.call(str(number), "s")
    workers = {row["worker"]: row for row in json.loads(run("ps", "--json").lines[0])["workers"]}
    assert (workers["W1"]["state"], workers["W1"]["answered"]) == ("drained", 0)
    assert (workers["W2"]["state"], workers["W2"]["answered"]) == ("free", 5)
    assert workers["W2"]["rate"] > workers["W1"]["rate"] == 0
    (service,) = json.loads(run("ps", "--json").lines[0])["services"]
    assert (service["answered"], service["failed"]) == (5, 0) and service["rate"] > 0
    assert 0 < service["p50_s"] <= service["p99_s"] and service["age_s"] > 0
    (listed,) = json.loads(connect(broker, id="C2").call(b"", "cbw.services"))
    assert (listed["answered"], listed["p99_s"]) == (5, service["p99_s"]) and listed["rate"] > 0
    assert run("undrain", "W1").lines == ["1 worker undrained"]
    assert run("pause", "s").lines == ["paused: s"]
    future = client.submit("later", "s")
    assert run("why", "C1/6").count("service s is paused") == 1
    assert not future.done()
    assert run("resume", "s").lines == ["1 service resumed"]
    assert future.result(PATIENCE_S) == b"later"


def test_a_tab_in_a_name_begins_no_column(run: Run, connect: Connect, broker: Broker) -> None:
    client = connect(broker, id="C\t1")
    client.submit("x", "a\tb\nc")
    wait_until(lambda: run("requests").lines, "the request")
    assert run("requests").lines[0].split("\t")[:3] == ["C\\t1/1", "a\\tb\\nc", "waiting"]
    assert run("ps").lines[0].split("\t")[:3] == ["service", "a\\tb\\nc", "1"]
    assert run("services").lines[0].split("\t")[:3] == ["a\\tb\\nc", "0", "1"]


def test_with_keys_only_an_admin_may(start: Start, keys: object) -> None:
    from .conftest import broker_of

    broker = broker_of(start("broker", 0, 0, "--keys", keys))
    refused = start("ps", "--broker", broker.address, "--keys", f"{keys}/client.key_secret")
    assert refused.exit_code() == 7 and refused.count("the key client is not good for the service 'cbw.status'") == 1
    allowed = start("pause", "s", "--broker", broker.address, "--keys", keys)
    assert allowed.exit_code() == 0 and allowed.lines == ["paused: s"]
    broker.program.wait_for("service paused", "s")


def test_top_in_a_terminal_of_80_by_24(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "s=hang")
    client = connect(broker, id="C1")
    futures = [client.submit("30", "s") for _ in range(3)]
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "cbw", "top", "--broker", broker.address, "--every", "0.2"]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=HERE,
        env=environment(COLUMNS="80", LINES="24", TERM="xterm"),
    )
    os.close(slave)
    shown = ""

    def screen() -> list[str]:
        """What stands on it now, line by line."""
        nonlocal shown
        while select.select([master], [], [], 0.05)[0]:
            shown += os.read(master, 65536).decode()
        frames = re.findall(r"\x1b\[H(.*?)\x1b\[J", shown, re.DOTALL)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames[-1]).replace("\r", "").split("\n") if frames else []

    def wait_for(text: str) -> list[str]:
        wait_until(lambda: any(text in line for line in screen()), f"{text!r} in {screen()}")
        return screen()

    lines = wait_for("2 wait for s, its only worker is busy: add workers.")
    assert len(lines) == 24 and max(map(len, lines)) <= 80
    wait_for("W1")
    os.write(master, b"d")
    wait_for("draining")
    wait_for("drained: W1")
    os.write(master, b"u\t")
    wait_for("requests 3")
    os.write(master, b"\x1b[B\x1b[Bc")
    wait_for("cancelled: C1/")
    os.write(master, b"w")
    wait_for("worker W1 has had it for")
    os.write(master, b"s")
    lines = wait_for("The story of C1/")
    wait_for("handed out W1")
    assert len(lines) == 24 and max(map(len, lines)) <= 80
    os.write(master, b"x")
    wait_for("requests 2")
    wait_until(lambda: sum(future.done() for future in futures) == 1, "one is cancelled")
    os.write(master, b"\t")
    lines = wait_for("services 1")
    assert lines[3].split() == ["SERVICE", "WAITINGv", "OLDEST", "RUN", "WORKERS", "RATE", "P50", "P99", "STATE"]
    assert lines[4].split()[0] == "s" and "/s" in lines[4]
    os.write(master, b"q")
    assert process.wait(PATIENCE_S) == 0
    os.close(master)


@pytest.mark.parametrize("columns", [80, 200])
def test_ps_on_a_terminal(broker: Broker, start_worker: StartWorker, connect: Connect, columns: int) -> None:
    """A narrow one shows fewer columns, and all of these."""
    start_worker("worker-of-a-long-name-1", "render=echo", "s=hang")
    client = connect(broker, id="C1")
    client.call("x", "render")
    client.submit("30", "s")
    code, shown = run_on_a_terminal("ps", "--broker", broker.address, COLUMNS=str(columns))
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= columns and "…" not in shown
    heads = [re.split(r"[\s┃]+", line.strip("┃ ")) for line in lines if "p99" in line]
    assert all({"rate", "p50", "p99", "failed", "state"} <= set(head) for head in heads) and len(heads) == 2
    assert ({"answered", "since"} <= set(heads[0])) is (columns == 200)
    (render,) = [line for line in lines if "render" in line and "/s" in line and "worker" not in line]
    assert re.search(r"\d\.\d/s[\s│]+\d\S* ms[\s│]+\d\S* ms", render)


def test_top_without_a_terminal_says_what_to_use(run: Run) -> None:
    assert run("top", code=2).count("cbw top wants a terminal") == 1


def test_top_prints_a_line_of_json_at_each_look(
    start: Start, broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    """Without a terminal, until it is stopped, which is no error."""
    start_worker("W1", "s=hang")
    future = connect(broker, id="C1").submit("30", "s")
    top = start("top", "--json", "--every", "0.2", "--broker", broker.address)
    wait_until(lambda: top.count("C1/1") >= 2, "two looks at the request")
    first, second = (json.loads(line) for line in [line for line in top.lines if "C1/1" in line][:2])
    assert second["time"] - first["time"] > 0.1
    assert [row["worker"] for row in second["status"]["workers"]] == ["W1"]
    assert [(row["request"], row["state"]) for row in second["requests"]] == [("C1/1", "running")]
    future.cancel()
    wait_until(lambda: json.loads(top.lines[-1])["requests"] == [], "it looks again")
    top.terminate()
    assert top.exit_code() == 0


def test_one_look_of_top_is_the_first_line(broker: Broker) -> None:
    command = f"{sys.executable} -m cbw top --json --every 0.2 --broker {broker.address} | head --lines 1"
    done = subprocess.run(command, shell=True, capture_output=True, env=environment(), check=True, timeout=PATIENCE_S)
    assert json.loads(done.stdout)["status"]["worker_count"] == 0 and not done.stderr

"""``cbw verify`` on a real system that keeps its promises, and on brokers that do not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cbw.cli.main import main
from cbw.verify.caller import CALLERS
from cbw.verify.checks import judge
from cbw.verify.load import LOAD_TRIES
from cbw.verify.scenario import LOAD_REQUESTS, Scenario, Target, merged
from cbw.verify.verdict import Verdict

from .conftest import Start, StartBroker
from .faulty_broker import FAULTS
from .program import environment, wait_until
from .terminal import run_on_a_terminal

CHECKS = [
    "own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker", "killed-broker", "restarted-broker",
]  # fmt: skip
FOUND_BY = {
    # fault: the checks that must find it, and those that must also if they have no trace of the broker
    "swaps_replies": (["own-replies"], ["own-replies"]),
    "answers_twice": (["own-replies"], ["own-replies"]),
    "invents_answers": (["own-replies"], ["own-replies"]),
    "has_a_favourite": (["no-idle-while-waiting"], ["no-idle-while-waiting"]),
    "starves_one": (["no-idle-while-waiting"], []),
    "is_deaf": (["killed-worker", "frozen-worker"], ["killed-worker", "frozen-worker"]),
    "has_no_fence": (["frozen-worker"], []),
    "delivers_late_answers": (["frozen-worker"], ["frozen-worker"]),
}
TRIES = 3
"""A broker that leaves workers free does so each time."""


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``cbw verify`` to its end."""
    command = [sys.executable, "-m", "cbw", "verify", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=environment(**variables), check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def verify(*arguments: str, exit_code: int) -> Any:
    """The JSON of ``cbw verify``."""
    done = run("--json", *arguments)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


def is_busy_machine(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether all is well but that a worker was free for a moment too long, as on a machine with more to do than it can."""
    failed = [check["name"] for check in json.loads(done.stdout)["checks"] if not check["passed"]]
    return done.returncode == 4 and failed == ["no-idle-while-waiting"]


def processes_with(variable: str) -> list[int]:
    """The living processes in whose environment ``variable`` is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


def shown_on_a_terminal(folder: Path) -> tuple[int, str]:
    """The exit code of ``cbw verify``, and what it shows."""
    code, shown = run_on_a_terminal("verify", "--keep", folder, COLUMNS="100", CBW_TEST_MARK=str(folder))
    assert not processes_with(f"CBW_TEST_MARK={folder}")
    return code, shown


def test_a_system_of_its_own(tmp_path: Path) -> None:
    """On a terminal: how far it is, and a table. Its traces, judged again, give the same."""
    for attempt in range(TRIES):
        folder = tmp_path / str(attempt)
        code, text = shown_on_a_terminal(folder)
        if code == 0 or not is_busy_machine(run("--json", "--trace", *map(str, folder.glob("*.jsonl")))):
            break
    assert code == 0, text
    for word in ("starting a broker", "killing WOR_", "freezing WOR_", "waking WOR_", "result", *CHECKS, "kept"):
        assert word in text, text

    paths = [str(path) for path in folder.glob("*.jsonl")]  # as a shell gives them for *
    report = verify("--trace", *paths, exit_code=0)
    assert list(report) == ["checks", "passed", "unseen"]
    assert report["passed"] is True
    assert [check["name"] for check in report["checks"]] == CHECKS
    for check in report["checks"]:
        assert list(check) == ["name", "passed", "figures"]
        assert check["passed"] is True and check["figures"]["judged"]
    assert report["checks"][1]["figures"]["source"] == "broker"
    done = run(*[word for path in paths for word in ("--trace", path)])
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("kept")] == CHECKS
    assert re.search(
        r"WOR_\d was killed while it worked on CLI_1/\d+; WOR_\d was given it \d\.\d+ s later", done.stdout
    )
    assert not done.stderr
    assert run("--keep", str(folder)).returncode == 2, "a second run would mix with them"
    assert run("--keep", "/proc/nowhere").returncode == 2


def test_a_broker_that_runs(start_broker: StartBroker, tmp_path: Path) -> None:
    trace = tmp_path / "broker"
    broker = start_broker("--trace", trace)
    where = ["--broker", broker.address, "--worker-port", str(broker.worker_port)]
    folder = tmp_path / "ours"
    done = run(*where, "--keep", str(folder), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, "progress is for terminals"
    assert broker.program.is_running
    for has_trace in (False, True):
        verdicts = judged(folder, *([trace] if has_trace else []))
        assert all(verdict.passed for verdict in verdicts.values())
        tried = [name for name, verdict in verdicts.items() if verdict.figures["judged"]]
        assert tried == CHECKS[:4], "another's broker is not brought down"
        source = verdicts["no-idle-while-waiting"].figures["source"]
        assert source == ("broker" if has_trace else "clients and workers")
        frozen = verdicts["frozen-worker"].figures
        assert (frozen["late"], frozen["fenced"]) == (frozen["judged"], frozen["judged"] if has_trace else 0)


def test_a_slow_moment_of_the_machine_is_not_taken_for_a_free_worker(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = start_broker()
    said: list[str] = []

    def stand_still() -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            time.sleep(0.3)
            os.kill(broker.program.pid, number)

    def say(line: str) -> None:
        said.append(line)
        if "requests each" in line and sum("requests each" in each for each in said) == 1:
            threading.Thread(target=stand_still).start()

    with Scenario(str(tmp_path), Target("127.0.0.1", broker.client_port, broker.worker_port), say) as scenario:
        scenario.run()
    repeated = sum("once more" in line for line in said)
    assert repeated >= 1, "more often on a machine that is slow itself"
    found = judged(tmp_path)["no-idle-while-waiting"]
    assert int(found.figures["judged"] or 0) < 2 * CALLERS * LOAD_REQUESTS, "what came before is not judged"
    assert found.passed or repeated == LOAD_TRIES - 1


def judged(folder: Path, *more: Path) -> dict[str, Verdict]:
    """The verdicts of a run whose traces were kept in ``folder``."""
    return {found.name: found for found in judge(merged(map(str, [*folder.glob("*.jsonl"), *more])))}


def try_fault(fault: str, folder: Path) -> tuple[Any, dict[str, Verdict]]:
    """What ``cbw verify`` says of a broker with that fault, with and without the broker's own trace."""
    trace, ours = folder / "broker", folder / "ours"
    command = [sys.executable, "-m", "tests.live.faulty_broker", fault, "0", "0", "--listen", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--trace", str(trace)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        client_port, worker_port = re.findall(r"port (\d+)", process.stdout.readline())
        options = ["--trace", str(trace), "--keep", str(ours), *(["--timeout", "5"] if fault == "is_deaf" else [])]
        where = ["--broker", f"127.0.0.1:{client_port}", "--worker-port", worker_port]
        return verify(*where, *options, exit_code=4), judged(ours)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("fault", FOUND_BY)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    report, from_the_ends = try_fault(fault, tmp_path)
    assert not report["passed"]
    assert [check["name"] for check in report["checks"]] == CHECKS
    broken = [check["name"] for check in report["checks"] if not check["passed"]]
    assert {*broken} >= {*FOUND_BY[fault][0]}, report
    assert {name for name, found in from_the_ends.items() if not found.passed} >= {*FOUND_BY[fault][1]}, from_the_ends


def test_every_fault_is_tried() -> None:
    assert FOUND_BY.keys() == FAULTS.keys()
    assert {check for checks, _ in FOUND_BY.values() for check in checks} == {*CHECKS[:4]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_breaking_it_off_leaves_nothing_behind(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    mark = f"CBW_TEST_MARK={tmp_path}"
    program = start("verify", "--keep", tmp_path / "traces", CBW_TEST_MARK=str(tmp_path))
    notes = tmp_path / "traces" / "verify.jsonl"
    wait_until(lambda: notes.exists() and b'"frozen"' in notes.read_bytes(), "a worker is frozen")
    assert len(processes_with(mark)) >= 4, "a broker and its workers, whose environment is that of the verification"
    program.signal(number)
    assert program.exit_code() == 128 + number
    assert not processes_with(mark)


def test_a_broker_that_is_not_there() -> None:
    done = run("--broker", "127.0.0.1:1", "--worker-port", "1", "--timeout", "2")
    assert done.returncode == 3
    assert "no broker serves clients at 127.0.0.1:1" in done.stderr


def test_workers_that_cannot_reach_the_broker(start_broker: StartBroker) -> None:
    broker = start_broker()
    done = run("--broker", broker.address, "--worker-port", str(broker.client_port))
    assert done.returncode == 3
    assert "--worker-port" in done.stderr or f"workers connect to port {broker.worker_port}" in done.stderr


def test_a_broker_that_takes_longer_than_the_requests_have() -> None:
    """No promise is broken if nobody had the time to keep it."""
    done = run("--timeout", "2")
    assert done.returncode == 2
    assert "the broker gives it up after 3 s (its --liveness)" in done.stderr and "Give --timeout 7." in done.stderr
    done = run(CBW_BROKER_LIVENESS_S="30")
    assert done.returncode == 2
    assert "the broker gives it up after 30 s" in done.stderr


def test_a_broker_that_does_not_start() -> None:
    """Its settings make no sense."""
    done = run(CBW_BROKER_LIVENESS_S="never")
    assert done.returncode == 2
    assert "the broker cannot run like this: Invalid value for '--liveness'" in done.stderr
    done = run(LOGGER_HOST="no host")
    assert done.returncode == 2
    assert "the broker cannot run like this: 'no host' is no host" in done.stderr


@pytest.mark.parametrize("text", ["nonsense\n", "{}\n", "", None])
def test_a_trace_that_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "trace"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as exited:
        main(["verify", "--trace", str(path)])
    assert exited.value.code == 2


def test_a_file_without_the_option() -> None:
    with pytest.raises(SystemExit) as exited:
        main(["verify", "trace.jsonl"])
    assert exited.value.code == 2

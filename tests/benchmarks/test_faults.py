"""The benchmark that kills workers and brokers: what it counts, and what its runner does with processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from benchmarks.faults import __main__ as runner
from benchmarks.faults import cbw_journal
from benchmarks.faults.account import Account, account_of, cell, done_by, in_the_middle
from benchmarks.faults.ledger import LEDGER, Ledger, Line, Reader
from benchmarks.faults.processes import NotMeasured, Started, kill_those_with
from benchmarks.faults.system import ROOT, Command, ComparedSystem, missing
from benchmarks.faults.treatment import TREATMENTS, treat
from benchmarks.program import free_port

NOT_A_PYTHON = "/nonexistent/python"


def lines(*texts: str) -> list[Line]:
    """Lines from ``at what request note…``."""
    found = []
    for text in texts:
        at, what, request, note = f"{text}   ".split(" ", 3)
        found.append(Line(float(at), what, request, note.strip()))
    return found


# --- counting


def test_a_run_in_which_all_goes_well() -> None:
    account = account_of(
        lines(
            "1 asked a",
            "1 asked b",
            "2 begun a w0 7",
            "3 done a w0 7",
            "3.5 answered a",
            "6 begun b w1 8",
            "7 done b w1 8",
            "7.5 answered b",
        ),
        killed_at=5.0,
        in_hand=None,
    )
    assert account == Account(
        asked=2,
        answered=2,
        lost=0,
        failed=0,
        begun_twice=0,
        done_twice=0,
        answered_twice=0,
        first_answer_s=2.5,
        in_hand_s=None,
        all_answered_s=2.5,
        silence_s=2.5,
    )


def test_a_request_without_an_answer_is_lost_unless_its_client_was_told() -> None:
    account = account_of(lines("1 asked a", "1 asked b", "1 asked c", "2 answered a", "3 failed b gave up"), 1.5, None)
    assert (account.answered, account.lost, account.failed) == (1, 1, 1)
    assert account.all_answered_s is None


def test_an_answer_counts_although_its_client_was_told_of_a_failure_before() -> None:
    account = account_of(lines("1 asked a", "2 failed a timeout", "3 answered a"), 1.5, None)
    assert (account.answered, account.lost, account.failed) == (1, 0, 0)


def test_an_interrupted_run_is_begun_twice_but_done_once() -> None:
    account = account_of(
        lines("1 asked a", "2 begun a w0 7", "4 begun a w1 8", "5 done a w1 8", "6 answered a"),
        killed_at=3.0,
        in_hand="a",
    )
    assert (account.begun_twice, account.done_twice, account.answered_twice) == (1, 0, 0)
    assert account.in_hand_s == account.all_answered_s == 3.0


def test_two_answers_and_two_ends_of_one_request_count_once_each() -> None:
    account = account_of(
        lines(
            *("1 asked a", "2 begun a w0 7", "3 done a w0 7", "3.5 answered a one"),
            *("5 begun a w1 8", "6 done a w1 8", "7 answered a two", "8 answered a three"),
        ),
        killed_at=4.0,
        in_hand=None,
    )
    assert (account.begun_twice, account.done_twice, account.answered_twice) == (1, 1, 1)


def test_an_answer_that_was_on_its_way_is_not_the_first_after_the_kill() -> None:
    account = account_of(
        lines(
            *("1 asked a", "1 asked b", "2 begun a w0 7", "3 done a w0 7", "4.1 answered a"),
            *("6 begun b w1 8", "7 done b w1 8", "8 answered b"),
        ),
        killed_at=4.0,
        in_hand=None,
    )
    assert account.first_answer_s == 4.0
    assert account.silence_s == pytest.approx(3.9)


def test_the_order_of_the_lines_does_not_matter() -> None:
    found = lines("1 asked a", "2 begun a w0 7", "3 done a w0 7", "3.5 answered a", "5 answered a other")
    assert account_of(found, 1.0, "a") == account_of(reversed(found), 1.0, "a")


def test_a_run_in_which_nothing_was_asked_has_not_recovered() -> None:
    assert account_of([], 1.0, "a").all_answered_s is None


# --- who is in the middle of a request


def test_a_worker_is_in_the_middle_of_what_it_has_begun_and_not_ended() -> None:
    found = lines("1 begun a w0 7", "2 done a w0 7", "3 begun b w1 8", "4 begun c w0 9")
    assert in_the_middle(found, "w0") == ("c", 9)
    assert in_the_middle(found, "w1") == ("b", 8)
    assert in_the_middle(lines("1 begun a w0 7", "2 done a w0 7"), "w0") is None
    assert done_by(found, "w0") == 1


def test_the_end_of_another_run_of_the_same_request_does_not_count() -> None:
    assert in_the_middle(lines("1 begun a w0 7", "2 begun a w1 8", "3 done a w1 8"), "w0") == ("a", 7)


# --- cells of the table


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ([0, 0, 0], 0, "0"),
        ([3, 1, 2], 0, "2 (1 to 3)"),
        ([1.04, 1.01, 0.96], 1, "1.0"),
        ([None, None, None], 1, "-"),
        ([None, 1.0, 2.0], 1, "2.0 (1.0 to -)"),
    ],
)
def test_a_cell_has_the_median_and_the_range(values: list[float | None], digits: int, text: str) -> None:
    assert cell(values, digits) == text


# --- the ledger


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    reader = Reader(path)

    def write(who: int) -> None:
        ledger = Ledger(path)
        for number in range(200):
            ledger.write("done", f"{who}-{number}", f"w{who} {who}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line.request for line in reader.read()}) == 800
    assert reader.read() == []
    assert all(line.note == f"w{line.request[0]} {line.request[0]}" for line in reader.lines)
    reader.close()


def test_half_a_line_is_read_when_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    reader = Reader(path)
    path.write_bytes(b"1.0 asked a \n2.0 answered ")
    assert [line.what for line in reader.read()] == ["asked"]
    with path.open("ab") as file:
        file.write(b"a some text\n")
    assert reader.read() == [Line(2.0, "answered", "a", "some text")]
    reader.close()


# --- the client

CLIENT = """
from benchmarks.faults import client

class Asker:
    looks = {}
    def ask(self, request):
        return request
    def answer_of(self, request):
        self.looks[request] = self.looks.get(request, 0) + 1
        if request == "1":
            raise client.RequestFailed("it gave up")
        if self.looks[request] == 1:
            raise ConnectionError("away")  # and comes back
        return "first" if self.looks[request] == 2 or request == "0" else "another"

client.run(Asker())
"""


def test_a_client_collects_although_its_system_is_away_and_looks_again_at_the_end(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-c", CLIENT, "client", "3"]
    started = Started("client", Command(command), {LEDGER: str(ledger)}, tmp_path)
    reader = Reader(ledger)
    end_at = time.monotonic() + 20
    while len([line for line in reader.lines if line.what in ("answered", "failed")]) < 3 and time.monotonic() < end_at:
        reader.read()
        time.sleep(0.01)
    started.tell("again")
    assert started.process.wait(20) == 0
    assert started.has_said("asked")
    assert started.has_said("again")
    reader.read()
    found = [(line.what, line.request) for line in reader.lines]
    assert found.count(("asked", "0")) == 1
    assert ("failed", "1") in found
    assert found.count(("answered", "0")) == 1
    assert found.count(("answered", "2")) == 2, "its answer was another one at the end"
    reader.close()
    started.close()


# --- processes


def test_a_process_is_killed_with_the_children_that_left_its_group(tmp_path: Path) -> None:
    started = Started("parent", Command(["sh", "-c", "setsid sleep 1000 & echo $!; wait"]), {}, tmp_path)
    end_at = time.monotonic() + 10
    while not started.output.read_text().endswith("\n") and time.monotonic() < end_at:
        time.sleep(0.01)
    child = Path("/proc") / started.output.read_text().strip()
    assert "sleep" in (child / "cmdline").read_text()
    started.kill()
    _wait_until_gone(child)
    started.close()


def test_what_outlives_its_parent_is_found_by_its_environment(tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    command = ["sh", "-c", "setsid sleep 1000 >&- 2>&- & echo $!"]
    said = subprocess.run(
        command, env={LEDGER: ledger, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=True
    ).stdout
    child = Path("/proc") / said.decode().strip()
    assert child.exists()
    kill_those_with(LEDGER, ledger)
    _wait_until_gone(child)


def _wait_until_gone(process: Path) -> None:
    end_at = time.monotonic() + 10
    while process.exists() and "Z" not in (process / "stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < end_at, f"{process} lives"
        time.sleep(0.01)


def test_a_server_that_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    started = Started("server", Command(["sh", "-c", "echo no such luck"], port=free_port()), {}, tmp_path)
    with pytest.raises(NotMeasured, match="server does not start: no such luck"):
        started.wait_until_ready()
    started.close()


def test_nothing_is_left_of_a_run_whose_client_fails(tmp_path: Path) -> None:
    def servers(*_: object) -> list[Command]:
        return [Command(["env", "-i", "/bin/sh", "-c", "echo $$; exec sleep 1000"])]  # no environment to be found by

    broken = cbw_journal.SYSTEM._replace(module="no.such.module", servers=servers)
    with pytest.raises(NotMeasured, match=r"the client of cbw has ended.*no\.such"):
        treat(broken, "broker", sys.executable, 1, tmp_path)
    _wait_until_gone(Path("/proc") / ((tmp_path / "server-0.out").read_text().strip() or "none"))


def test_a_worker_that_ended_by_itself_is_started_again(tmp_path: Path) -> None:
    started = Started("worker", Command(["sh", "-c", "echo hello"]), {}, tmp_path)
    end_at = time.monotonic() + 20
    while started.output.read_text().count("hello") < 2 and time.monotonic() < end_at:
        started.look_after()
        time.sleep(0.05)
    assert started.restarts >= 1
    started.close()


# --- the whole


@pytest.mark.parametrize("system", runner.SYSTEMS, ids=lambda system: system.key)
def test_what_is_not_installed_is_named(system: ComparedSystem) -> None:
    lacks = missing(system._replace(programs={"no-such-program": "no-such-package"}), NOT_A_PYTHON)
    assert "the Debian package no-such-package" in lacks
    assert bool(system.libraries) == any("requirements.txt" in lack for lack in lacks)


def test_the_page_has_the_rows_of_the_benchmark() -> None:
    page = (ROOT / "docs" / "explanation" / "peers.md").read_text()
    _, table, _ = page.split("<!-- peers -->")
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.split("\n") if line]
    assert head == list(runner.HEAD)
    expected = [
        [system.name, treatment]
        for system in runner.SYSTEMS
        for treatment in runner.treatments_of(system, list(TREATMENTS))
    ]
    assert [row[:2] for row in rows] == expected


def test_the_libraries_of_the_systems_are_in_the_requirements() -> None:
    text = (ROOT / "benchmarks" / "faults" / "requirements.txt").read_text()
    pinned = {line.partition("==")[0].partition("[")[0] for line in text.splitlines() if "==" in line}
    assert pinned >= {library for system in runner.SYSTEMS for library in system.libraries}


@pytest.mark.parametrize("treatment", ["worker", "child", "broker"])
def test_cbw_passes_with_few_requests(treatment: str) -> None:
    requests = 500
    account = treat(cbw_journal.SYSTEM, treatment, sys.executable, requests).account
    assert (account.asked, account.answered, account.answered_twice) == (requests, requests, 0)
    assert account.begun_twice >= (treatment != "broker")
    assert (account.in_hand_s is not None) == (treatment != "broker")

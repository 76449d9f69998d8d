"""What a broker's status port answers to those that ask its own services, over HTTP and without a browser."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from cbw.core.messages import Answer, Status
from cbw.desk import OPERATOR_WAIT_S, Desk
from tests.ports import free_port

from .conftest import HOST, Start, StartWorker, broker_of

JSON = {"Content-Type": "application/json"}


def ask(port: int, method: str, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request(method, path, body if method == "POST" else None, {**JSON, **headers})
    answer = connection.getresponse()
    read = answer.read()
    told = dict(answer.getheaders())
    return answer.status, json.loads(read) if "json" in told.get("Content-Type", "") else read, told


@pytest.fixture
def port(start: Start, start_worker: StartWorker) -> int:
    found = free_port()
    broker = broker_of(start("broker", 0, 0, "--status-port", found))
    start_worker("W1", "s=echo", at=broker)
    return found


def test_without_a_token_everybody_looks_and_nobody_acts(port: int) -> None:
    code, told, _ = ask(port, "POST", "/control/cbw.workers", b'{"service": "s"}')
    assert code == 200 and [worker["worker"] for worker in told["workers"]] == ["W1"]
    for service, body in (
        ("cbw.pause", b'{"services": ["s"]}'),
        ("cbw.dead.body", b'{"id": "x"}'),
        ("cbw.nothing", b""),
    ):
        code, told, _ = ask(port, "POST", f"/control/{service}", body)
        assert code == 401 and "--status-token-file" in told["text"], service
    assert ask(port, "POST", "/control/cbw.why", b'{"request": "C1/1"}')[0] == 404
    assert ask(port, "POST", "/control/cbw.why", b"{")[0] == 400
    code, told, _ = ask(port, "GET", "/live.json")
    assert code == 200 and told["status"]["services"][0]["is_paused"] is False and told["events"]


def test_who_shows_the_token_acts(start: Start, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "token"
    file.write_text("x" * 30)
    file.chmod(0o600)
    broker = broker_of(start("broker", 0, 0, "--status-port", port, "--status-token-file", file))
    shown = {"Authorization": "Bearer " + "x" * 30}
    assert ask(port, "GET", "/")[0] == 200  # there is nothing on it
    for path in ("/live.json", "/status.json"):
        assert ask(port, "GET", path)[0] == 401
    assert ask(port, "POST", "/control/cbw.status")[0] == ask(port, "POST", "/control/cbw.pause")[0] == 401
    code, told, _ = ask(port, "POST", "/control/cbw.pause", b'{"services": ["s"]}', **shown)
    assert (code, told) == (200, {"paused": 1, "all_paused": ["s"]})
    broker.program.wait_for("service paused", f"page {HOST}")


def test_what_is_no_question_is_refused(port: int, start: Start, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"Content-Type": "text/plain"},
        {"Content-Length": "-1"},
        {"Content-Length": str(1 << 30)},
    ]
    for headers in wrong:
        assert ask(port, "POST", "/control/cbw.status", **headers)[0] == 400, headers
    assert ask(port, "POST", "/status.json")[0] == ask(port, "POST", "/other")[0] == 404
    other = free_port()
    start("logger", 0, tmp_path / "logs", "--status-port", other).wait_for("text on port")
    assert ask(other, "GET", "/")[0] == ask(other, "GET", "/live.json")[0] == 404
    assert ask(other, "POST", "/control/cbw.status")[0] == 404


def test_the_page_says_what_a_browser_may_do(port: int) -> None:
    code, page, headers = ask(port, "GET", "/")
    assert code == 200 and page.startswith(b"<!doctype html>")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


def test_a_loop_that_stands_still_is_not_waited_for() -> None:
    desk = Desk(lambda: None)
    assert OPERATOR_WAIT_S <= 1.0 and desk.ask("me", "cbw.status", b"") is None
    assert desk.take() == []  # nobody waits for it any more


def test_each_question_gets_its_own_answer() -> None:
    from cbw.core.broker.events import AnswerOperator

    is_asked = threading.Event()
    desk = Desk(is_asked.set)
    answers: dict[str, Answer | None] = {}
    threads = [
        threading.Thread(target=lambda name=name: answers.update({name: desk.ask(name, "s", b"")})) for name in "abc"
    ]
    for thread in threads:
        thread.start()
    answered = 0
    while answered < 3:
        assert is_asked.wait(5)
        is_asked.clear()
        questions = desk.take()
        answered += len(questions)
        desk.answer(AnswerOperator(one.number, Answer(0, Status.OK, one.name.encode())) for one in reversed(questions))
    for thread in threads:
        thread.join()
    assert {name: answer.body for name, answer in answers.items() if answer} == {"a": b"a", "b": b"b", "c": b"c"}

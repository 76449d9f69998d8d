"""``examples/shop`` with a real broker, real workers, and uvicorn: over HTTP, and in a browser."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Broker, Start, broker_of, programs
from tests.live.program import PATIENCE_S, Program, environment, wait_until
from tests.page.browser import CHROMIUM, DRIVER, Browser
from tests.ports import free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop"
TEXT = "Green leaves from the north of the island, dried in the shade."


class Shop:
    """A broker and a web server, and workers as they are started."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.broker: Broker = broker_of(start("broker", 0, 0, "--liveness", 60))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    @contextlib.contextmanager
    def web(self) -> Iterator[None]:
        """The web server, until it is ended as a service manager does."""
        words = ["uvicorn", "web:app", "--port", str(self._port), "--timeout-graceful-shutdown", "5"]
        variables = environment(BROKER_HOST="127.0.0.1", BROKER_PORT=str(self.broker.client_port))
        with subprocess.Popen(
            [sys.executable, "-m", *words], cwd=EXAMPLE, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                wait_until(lambda: is_reached(self.url), "uvicorn")
                yield
                process.terminate()
                printed, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert b"Traceback" not in printed, printed.decode()

    def work(self, service: str, *options: object) -> Program:
        """A worker for one of the two services."""
        where = ("127.0.0.1", self.broker.worker_port)
        return self._start("worker", service, *where, "--app", service, *options, PYTHONPATH=str(EXAMPLE))

    def ask(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Status and JSON of the answer."""
        try:
            with self.open(path, method) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def open(self, path: str, method: str = "GET") -> HTTPResponse:
        """The answer, to be read."""
        request = urllib.request.Request(self.url + path, method=method)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE_S)
        return answer

    def events(self, path: str) -> list[tuple[str, str]]:
        """Name and value of each event of a stream."""
        with self.open(path) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            blocks = answer.read().decode().strip().split("\n\n")
        pairs = [block.removeprefix("event: ").split("\ndata: ") for block in blocks]
        return [(name, json.loads(value)) for name, value in pairs]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with programs() as start:
        shop = Shop(start)
        with shop.web():
            yield shop


@pytest.fixture
def browser() -> Iterator[Browser]:
    for name in (CHROMIUM, DRIVER):
        if not Path(name).exists():
            pytest.skip(f"{name} is not installed (apt-get install chromium chromium-driver)")
    with contextlib.closing(Browser()) as browser:
        yield browser


def is_reached(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S):
            return True
    except urllib.error.URLError:
        return False


def test_what_it_costs_and_what_is_left(shop: Shop) -> None:
    shop.work("stock")
    assert shop.ask("/articles/tea?count=3") == (200, {"article": "tea", "cents": 1470})
    assert shop.ask("/articles/tea/orders?count=10", "POST") == (200, {"article": "tea", "left": 2})
    status, said = shop.ask("/articles/tea/orders?count=3", "POST")
    assert (status, said["code"], said["data"]) == (409, "not_enough", {"left": 2})
    status, said = shop.ask("/articles/gin")
    assert (status, said["code"]) == (404, "not_found")
    assert said["request"], "so that somebody can look for it in the log"
    assert shop.ask("/articles/tea?count=none")[0] == 422, "FastAPI's own answer"


def test_nobody_is_there(shop: Shop) -> None:
    status, said = shop.ask("/articles/tea/orders", "POST")
    assert (status, said["code"]) == (503, "no_worker")


def test_it_takes_too_long(shop: Shop) -> None:
    worker = shop.work("stock")
    assert shop.ask("/articles/tea")[0] == 200
    worker.signal(signal.SIGSTOP)
    status, said = shop.ask("/articles/tea")
    assert (status, said["code"]) == (504, "worker")
    shop.broker.program.signal(signal.SIGSTOP)
    status, said = shop.ask("/articles/tea")
    assert (status, said["code"]) == (503, "unreachable")


def test_a_description_arrives_word_by_word(shop: Shop) -> None:
    shop.work("adviser")
    told = shop.events("/articles/tea/description")
    assert told == [*(("word", word) for word in TEXT.split()), ("end", "")]
    status, said = shop.ask("/articles/gin/description")
    assert (status, said["code"]) == (404, "not_found"), "an error before the first word has a status"


def test_a_browser_that_leaves_ends_the_work(shop: Shop) -> None:
    worker = shop.work("adviser")
    with shop.open("/articles/tea/description?rounds=1000") as answer:
        assert answer.readline() == b"event: word\n"
    worker.wait_for("tea: no more")


def test_a_worker_that_is_lost_in_the_middle(shop: Shop) -> None:
    worker = shop.work("adviser")
    with shop.open("/articles/tea/description?rounds=1000") as answer:
        assert answer.readline() == b"event: word\n"
        worker.kill()
        rest = answer.read().decode()
    assert "event: failed\n" in rest and "event: end\n" not in rest


def test_in_a_browser(shop: Shop, browser: Browser) -> None:
    shop.work("stock")
    shop.work("adviser")
    assert shop.ask("/articles/cocoa")[0] == 200
    browser.open(shop.url)
    browser.run("document.forms[0].describe.click()")
    browser.wait_for("#description", TEXT)
    browser.run("document.forms[0].buy.click()")
    browser.wait_for("#order", "Yours. 11 left.")
    assert browser.complaints() == []


def test_its_own_tests() -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_services.py"]
    done = subprocess.run([sys.executable, *words], cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout

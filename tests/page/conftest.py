"""A broker with its page, and a browser that shows it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.conftest import Broker, Connect, Start, broker_of, clients, programs
from tests.live.program import Program
from tests.ports import free_port

from .browser import CHROMIUM, DRIVER, Browser

HERE = Path(__file__).parent
TOKEN = "sesame-of-the-status-pages"


class Shown(NamedTuple):
    """A broker, and where its page is."""

    broker: Broker
    url: str


@pytest.fixture(scope="session")
def axe() -> str:
    """The program that looks for what keeps people from using a page."""
    source = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"npm ci failed in {HERE}: {done.stderr[-500:]}")
    return source.read_text()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for all tests of a file."""
    for name in (CHROMIUM, DRIVER):
        if not Path(name).exists():
            pytest.skip(f"{name} is not installed (apt-get install chromium chromium-driver)")
    made = Browser()
    yield made
    made.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """It shows nothing and has said nothing yet: the page of the test before asks on when its broker has ended."""
    chromium.open("about:blank")
    chromium.complaints()
    return chromium


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("worker", ...)``: a program that runs until the test ends."""
    with programs() as start_one:
        yield start_one


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Clients, which are closed when the test ends."""
    with clients() as connect_one:
        yield connect_one


def shown(start: Start, *options: object) -> Shown:
    """A broker with its page."""
    port = free_port()
    broker = broker_of(start("broker", 0, 0, "--status-port", port, "--attempts-max", 1, *options))
    return Shown(broker, f"http://127.0.0.1:{port}/")


def worker(start: Start, at: Shown, name: str, *handlers: str) -> Program:
    """A worker that is registered."""
    options = [part for handler in handlers for part in ("--handler", handler)]
    program = start("worker", name, "127.0.0.1", at.broker.worker_port, *options)
    at.broker.program.wait_for("worker ready", f"worker {name}")
    return program


def handler(service: str, function: str) -> str:
    """The option of a worker that serves it by that function of ``tests/live/handlers.py``."""
    return f"{service}=handlers:{function}"


@pytest.fixture
def open_broker(start: Start) -> Shown:
    """One without a token: everybody may look."""
    return shown(start)


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> Shown:
    """One whose page wants a token."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return shown(start, "--status-token-file", file)

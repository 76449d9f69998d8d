"""What peers say does not act on the terminal of whoever reads it, whichever command prints it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests import fork_server

from .conftest import HOST, Broker, broker_of, handler_options, programs
from .handlers import HOSTILE
from .program import HERE, PATIENCE_S, environment, wait_until

pytestmark = pytest.mark.xdist_group("terminal")  # one system for all tests of this file
OUR_STYLES = re.compile(r"\x1b\[[0-9;]*m")
BLINK = "\x1b[5m"
"""A style that is none of ours, so one in the output is the peer's."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
NAME = f"x{BLINK}\nFORGED\u202e\x9b"
"""An id that a worker and a client give themselves."""


def on_terminal(*arguments: object, stdin: bytes = b"", **variables: str) -> str:
    """What ``cbw ARGUMENTS`` shows on a terminal, with the terminal's ends of lines undone."""
    master, slave = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # nobody has it open any more
                return
            if not data:
                return
            shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    its_input, ours = os.pipe()
    variables = environment(COLUMNS="300", TERM="xterm", **variables)
    try:
        process = fork_server.start([*map(str, arguments)], (its_input, slave, slave), HERE, variables)
        os.close(slave)
        os.close(its_input)
        with os.fdopen(ours, "wb") as its_stdin:
            its_stdin.write(stdin)
        process.wait(PATIENCE_S)
        reader.join(PATIENCE_S)
    finally:
        os.close(master)
    return b"".join(shown).decode(errors="surrogateescape").replace("\r\n", "\n").replace("\r\n", "\n")


def harmless(shown: str) -> str:
    """``shown`` without our own colours, after a look at what else is in it."""
    assert BLINK not in shown, repr(shown)
    text = OUR_STYLES.sub("", shown)
    found = sorted({repr(one) for one in CONTROLS.findall(text)})
    assert not found, f"{found} in {text!r}"
    text.encode()  # no lone surrogates: bytes that are no UTF-8 are shown too
    assert not re.search(r"^FORGED", text, re.MULTILINE), f"a line of a peer's: {text}"
    return text


class Hostile:
    """A system whose worker and client have hostile names, answers and errors, and what it has left behind."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.log = folder / "log"
        self.journal = folder / "journal"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """A system in which every kind of thing has happened once."""
    folder = tmp_path_factory.mktemp("hostile")
    with programs() as start:
        logger = start("logger", 0, folder / "log", "--listen", HOST)
        port = logger.wait_for("text on port").split("text on port ")[1].split(",")[0]
        to_logger = ["--logger-host", HOST, "--logger-port", port, "--log-level", "debug"]
        broker = broker_of(start("broker", 0, 0, "--listen", HOST, "--journal", folder / "journal", *to_logger))
        handlers = handler_options(("hostile", "bad=hostile_failure"))
        retries = ["--retry-on", "ValueError", "--retries", 1, "--backoff", 0.01]
        start("worker", NAME, HOST, broker.worker_port, *handlers, *retries, *to_logger)
        wait_until(lambda: '"worker_ready"' in (folder / "log").read_text(), "the log tells of the worker")
        yield Hostile(broker, folder)


def test_call_and_result(system: Hostile) -> None:
    at = ("--broker", system.broker.address)
    assert "\\u001b[5m" in harmless(on_terminal("call", *at))
    failed = harmless(on_terminal("call", *at, "--service", "bad"))
    assert "\\u001b[5m" in failed and "\\nFORGED" in failed
    started = subprocess.run(
        [sys.executable, "-m", "cbw", "call", *at, "--detach"], input=b"", capture_output=True, check=True
    )
    ticket = started.stdout.decode().strip()
    assert "\\u001b[5m" in harmless(on_terminal("result", *at, ticket))


def test_a_pipe_gets_the_answer_as_it_is(system: Hostile) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cbw", "call", "--broker", system.broker.address],
        input=b"",
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == HOSTILE


def test_client_log_and_story(system: Hostile) -> None:
    shown = harmless(on_terminal("client", NAME, 1, HOST, system.broker.client_port))
    assert "\\u001b[5m" in shown
    for arguments in ((), ("--json",), ("stats",), ("stats", "--json"), ("story", f"{NAME}/1")):
        assert harmless(on_terminal("logs", *arguments, system.log)), arguments
    assert "no request" in harmless(on_terminal("logs", "story", f"{NAME}/2", system.log))


def test_lines_of_json_mean_the_same_on_a_terminal(system: Hostile) -> None:
    line = harmless(on_terminal("logs", "--json", "-n", 1, "--event", "worker_ready", system.log)).strip()
    assert msgspec.json.decode(line)["worker"] == NAME


def test_dead_letters(system: Hostile) -> None:
    at = ("--broker", system.broker.address)
    harmless(on_terminal("call", *at, "--service", "bad", stdin=HOSTILE))
    assert "\\nFORGED" in harmless(on_terminal("dead", "list", *at))
    listed = msgspec.json.decode(harmless(on_terminal("dead", "list", *at, "--json")))
    name = listed["letters"][-1]["id"]
    for options in ((), ("--body",), ("--json",)):
        assert "\\u001b]0;title" in harmless(on_terminal("dead", "show", *at, name, *options))
    harmless(on_terminal("dead", "export", *at))


def test_doctor(system: Hostile) -> None:
    shown = harmless(on_terminal("doctor", system.broker.address, "--worker-port", system.broker.worker_port, "--send"))
    assert "answered in" in shown


def test_journal(system: Hostile) -> None:
    """Last, as the broker must have ended."""
    system.broker.program.signal(signal.SIGTERM)
    system.broker.program.exit_code()
    for command in ("info", "check", "export"):
        harmless(on_terminal("journal", command, system.journal))


def test_what_roles_print_of_their_peers(system: Hostile) -> None:
    for line in (*system.broker.program.lines, *system.broker.program.errors):
        harmless(line)

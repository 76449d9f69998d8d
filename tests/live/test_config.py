"""A file of settings, as the commands use it: precedence, errors, and what cbw config shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import HOST
from .program import Program


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "own.py").write_text(
        "import cbw\nown = cbw.Service('own')\n@own.task()\ndef up(x: str) -> str:\n    return x.upper()\n"
    )
    yield tmp_path


def test_a_whole_system_from_one_file(folder: Path) -> None:
    clients, workers = free_port(), free_port()
    (folder / "cbw.toml").write_text(
        f'broker-host = "{HOST}"\n[broker]\ngrace = 0.5\n'
        f'[worker]\nconcurrency = 3\napp = ["own:own"]\nbroker-port = {workers}\n[client]\ntimeout = 30\n'
    )
    broker = Program("broker", clients, workers, folder=folder)
    worker = Program("worker", "W1", folder=folder)
    try:
        broker.wait_for("worker ready", "(own.up)")
        call = Program("call", "own.up", "x=tea", folder=folder, BROKER_PORT=str(clients))
        assert call.exit_code() == 0 and call.lines == ["TEA"]
    finally:
        worker.terminate()
        broker.terminate()


def test_option_before_variable_before_file_before_default(folder: Path) -> None:
    (folder / "cbw.toml").write_text("[client]\ntimeout = 0.1\n")
    nobody = (f"{HOST}:{free_port()}",)
    from_file = Program("call", "--broker", *nobody, "x", folder=folder)
    assert from_file.exit_code() != 0 and from_file.count("in 0.1 s") == 1
    variable = Program("call", "--broker", *nobody, "x", folder=folder, CBW_CLIENT_TIMEOUT_S="0.2")
    assert variable.exit_code() != 0 and variable.count("in 0.2 s") == 1
    option = Program("call", "--broker", *nobody, "--timeout", "0.3", "x", folder=folder, CBW_CLIENT_TIMEOUT_S="0.2")
    assert option.exit_code() != 0 and option.count("in 0.3 s") == 1


def test_config_says_where_each_value_comes_from(folder: Path) -> None:
    (folder / "cbw.toml").write_text('broker-host = "a"\n[worker]\nconcurrency = 4\nretries = 2\n')
    shown = Program("config", "worker", "--json", folder=folder, CBW_WORKER_RETRIES="9")
    assert shown.exit_code() == 0
    rows = {row["setting"]: (row["value"], row["source"]) for row in json.loads(shown.lines[0])}
    assert rows["broker-host"] == ("a", "cbw.toml:1")
    assert rows["worker.concurrency"] == ("4", "cbw.toml:3")
    assert rows["worker.retries"] == ("9", "CBW_WORKER_RETRIES")
    everything = Program("config", "--all", folder=folder)
    assert everything.exit_code() == 0 and everything.count("broker.liveness\t3.0\tdefault") == 1


def test_what_nobody_has_set_is_not_shown(folder: Path) -> None:
    shown = Program("config", "client", folder=folder)
    assert shown.exit_code() == 0 and shown.lines == ["status-port\t0\tCBW_STATUS_PORT"]  # of this test


def test_a_mistake_ends_any_command_and_no_help(folder: Path) -> None:
    (folder / "cbw.toml").write_text("[worker]\nconcurency = 4\n")
    for command in ("worker", "ps", "config"):
        program = Program(command, folder=folder)
        assert program.exit_code() == 2
        assert program.errors == [
            "cbw: cbw.toml:2: there is no setting 'concurency' here",
            "     Did you mean concurrency?",
        ]
    helped = Program("--help", folder=folder)
    assert helped.exit_code() == 0 and helped.count("cbw.toml") == 1

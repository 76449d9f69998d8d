"""``cbw doctor``: what it finds, and what it advises, at every place where the way to a broker can end."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from cbw import doctor
from tests.ports import free_port

from .conftest import HOST, Broker, Start, StartWorker
from .listener import listening


def findings(start: Start, *arguments: object, code: int) -> dict[str, dict[str, Any]]:
    """What it finds, by check."""
    program = start("doctor", *arguments, "--json")
    assert program.exit_code() == code, program
    told = json.loads("\n".join(program.lines))
    assert told["ok"] is (code == 0)
    return {finding["check"]: finding for finding in told["findings"]}


def test_all_is_well(start: Start, broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")
    found = findings(start, broker.address, "--worker-port", broker.worker_port, "--send", code=0)
    for check in ("name", f"port {broker.client_port}", f"port {broker.worker_port}", "zeromq", "protocol", "request"):
        assert found[check]["state"] == "ok", found
    assert found["zeromq"]["text"] == "it speaks ZeroMQ"
    assert "BRO_" in found["protocol"]["text"] and "doctor" in found["request"]["text"]


def test_plain_lines_for_people(start: Start, broker: Broker) -> None:
    program = start("doctor", broker.address, "--worker-port", broker.worker_port)
    assert program.exit_code() == 0
    assert program.count("ok ", "protocol", "speaks CBW/1") == 1
    assert "\x1b" not in "".join(program.lines)


def test_a_name_that_means_nothing(start: Start) -> None:
    found = findings(start, "no-such-host.invalid", code=1)
    assert list(found) == ["name"] and "does not resolve" in found["name"]["text"]


def test_nothing_listens(start: Start) -> None:
    port = free_port()
    found = findings(start, f"{HOST}:{port}", "--worker-port", free_port(), code=1)
    assert "refuses" in found[f"port {port}"]["text"]
    assert f"{port}:{port}" in found[f"port {port}"]["advice"]


def test_a_firewall_that_drops(start: Start) -> None:
    """A listener whose queue is full drops what comes, as a firewall does."""
    with socket.socket() as deaf:
        deaf.bind((HOST, 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((HOST, port))
        found = findings(start, f"{HOST}:{port}", "--worker-port", free_port(), code=1)
        for filler in fillers:
            filler.close()
    assert "does not answer" in found[f"port {port}"]["text"] and "ufw allow" in found[f"port {port}"]["advice"]


def says_http(peer: socket.socket) -> None:
    """As a web server does to what is no request."""
    with peer:
        peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


def test_another_program_has_the_port(start: Start) -> None:
    with listening(says_http) as port:
        found = findings(start, f"{HOST}:{port}", "--worker-port", free_port(), code=1)
    assert "does not speak ZeroMQ" in found["zeromq"]["text"] and "HTTP" in found["zeromq"]["text"]
    assert "protocol" not in found, "nothing can follow"


def test_the_wrong_one_of_the_two_ports(start: Start, broker: Broker) -> None:
    found = findings(start, f"{HOST}:{broker.worker_port}", "--worker-port", broker.client_port, code=1)
    assert found["protocol"]["state"] == "wrong" and "for workers" in found["protocol"]["text"]
    assert "Give another port" in found["protocol"]["advice"]
    assert found[f"port {broker.client_port}"]["state"] == "wrong"


def test_nobody_works(start: Start, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SEND_S", 0.3)
    last = list(doctor.examine(HOST, broker.client_port, broker.worker_port, sends=True))[-1]
    assert last.check == "request" and last.state is doctor.FindingState.WRONG


def test_the_status_page_of_another_broker(start: Start, broker: Broker, start_worker: StartWorker) -> None:
    """As two on one host have it: the first one's is on the port where the second one's is looked for."""
    start_worker("W1", "echo")
    port = free_port()
    other = start("broker", 0, 0, "--listen", HOST, "--status-port", port)
    other.wait_for("serves clients")
    arguments = (broker.address, "--worker-port", broker.worker_port, "--status-port", port)
    found = findings(start, *arguments, code=0)["workers"]
    assert found["state"] == "note" and "the status page of another broker" in found["text"]


def test_the_status_page_of_a_broker_when_none_listens_where_one_is_looked_for(start: Start) -> None:
    """Its workers are no sign that all is well here."""
    port = free_port()
    other = start("broker", 0, 0, "--listen", HOST, "--status-port", port)
    other.wait_for("serves clients")
    arguments = (f"{HOST}:{free_port()}", "--worker-port", free_port(), "--status-port", port)
    found = findings(start, *arguments, code=1)["workers"]
    assert found["state"] == "note" and "which may be another broker" in found["advice"]


def test_the_logger_too(start: Start, broker: Broker) -> None:
    port = free_port()
    program = start(
        "doctor", broker.address, "--worker-port", broker.worker_port, "--json", LOGGER_HOST=HOST, LOGGER_PORT=str(port)
    )
    assert program.exit_code() == 1
    assert f"{HOST}:{port} refuses" in program.lines[0] and "Start it (cbw logger)" in program.lines[0]


def test_a_logger_s_port_that_is_none(start: Start, broker: Broker) -> None:
    program = start("doctor", broker.address, LOGGER_HOST=HOST, LOGGER_PORT="abc")
    assert program.exit_code() == 2
    assert "Traceback" not in "".join(program.errors) and "LOGGER_PORT" in "".join(program.errors)

"""Keys: who gets in, who does not and how it is told, and what becomes of a key that is taken back. Real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

import cbw
from cbw.core.key import Key
from cbw.keys.allowed import ALLOWED, Allowed, write
from cbw.keys.folder import LinkKeys
from cbw.keys.key_file import read_pair, write_pair
from cbw.transport.curve import link_options, new_pair
from tests.ports import free_port

from .conftest import HOST, Broker, Start, StartBroker, broker_of, completed
from .program import PATIENCE_S, SOON_S, Program, wait_until

CLOSED_S = 5.0
"""A connection whose key is taken back is closed within a second (B1), and on a busy machine within this time."""
Worker = Callable[..., Program]


@pytest.fixture
def guarded(start_broker: StartBroker, keys: Path) -> Broker:
    """A broker with keys, that prints its trace."""
    return start_broker("--keys", keys, "--verbose")


@pytest.fixture
def work(start: Start, guarded: Broker, keys: Path) -> Worker:
    """``work("W1")``: a worker at that broker."""

    def start_one(id: str, *options: object, own: str = "worker.key_secret", waits: bool = True) -> Program:
        worker = start("worker", id, HOST, guarded.worker_port, "--keys", keys / own, "--work-time", 0, *options)
        if waits:
            guarded.program.wait_for("worker ready", id)
        return worker

    return start_one


def add(folder: Path, name: str, role: str, *services: str) -> Path:
    """Allow one more key; its secret file."""
    pair = new_pair()
    write_pair(folder, name, pair)
    write(folder / ALLOWED, [*Allowed(folder / ALLOWED).keys, Key(role, pair.public, name, services)])
    return folder / f"{name}.key_secret"


def revoke(folder: Path, name: str) -> float:
    """Take a key back; when."""
    write(folder / ALLOWED, [key for key in Allowed(folder / ALLOWED).keys if key.name != name])
    return time.monotonic()


def dealer(folder: Path, name: str, port: int, identity: bytes = b"", reconnect_ms: int = 100) -> zmq.Socket[bytes]:
    """A socket of somebody who knows only ZeroMQ, with the key of ``name``."""
    peer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    server = read_pair(folder / "broker.key_secret").public
    for option, value in link_options(LinkKeys(read_pair(folder / f"{name}.key_secret"), server)):
        peer.setsockopt(option, value)
    peer.linger = 0
    peer.reconnect_ivl = reconnect_ms
    if identity:
        peer.identity = identity
    peer.connect(f"tcp://{HOST}:{port}")
    return peer


# --- who gets in


def test_everything_works_with_keys(guarded: Broker, work: Worker, keys: Path, start: Start) -> None:
    work("W1")
    call = start("call", "--broker", guarded.address, "--keys", keys, stdin=b"hello")
    assert call.exit_code() == 0 and call.lines == ["hello W1"], call
    guarded.program.wait_for("client hello", "key=client")
    guarded.program.wait_for("accepted", "key=client")
    assert guarded.program.count("worker ready", "key=worker") == 1
    found = start("doctor", guarded.address, "--worker-port", guarded.worker_port, "--send", "--keys", keys)
    assert found.exit_code() == 0, found
    assert start("dead", "list", "--broker", guarded.address, "--keys", keys).exit_code() == 0


def test_a_client_learns_with_its_own_key_that_there_is_no_worker(
    guarded: Broker, work: Worker, start: Start, keys: Path
) -> None:
    """It asks nothing that is for admins only, so the broker refuses nothing."""
    client = start("client", "C1", 1, HOST, guarded.client_port, "--keys", keys / "client.key_secret")
    client.wait_for(f"waiting for a worker: the broker at {guarded.address} has none")
    work("W1")
    client.wait_for("C1-1 -> C1-1 W1")
    assert guarded.program.count("refused") == 0, guarded.program


@pytest.mark.parametrize(("key", "offered"), [("client", []), ("admin", ["W1"])])
def test_names_are_completed_with_the_key_of_an_admin(
    key: str, offered: list[str], guarded: Broker, work: Worker, start: Start, keys: Path
) -> None:
    """The broker is not even asked with that of a client, so it refuses nothing."""
    work("W1")
    where = {"BROKER_HOST": HOST, "BROKER_PORT": str(guarded.client_port), "CBW_KEYS": str(keys / f"{key}.key_secret")}
    assert completed(start, "drain", "", **where) == offered
    assert guarded.program.count("refused") == 0, guarded.program


def test_asyncio(guarded: Broker, work: Worker, keys: Path) -> None:
    async def talk() -> None:
        async with cbw.AsyncClient(guarded.address, keys=keys) as client:
            assert await client.call(b"hi", timeout=PATIENCE_S) == b"hi W1"
        async with cbw.AsyncClient(guarded.address, keys="") as client:
            with pytest.raises(cbw.KeysMissing):
                await client.call(b"hi", timeout=PATIENCE_S)

    work("W1")
    asyncio.run(talk())


def test_the_log_is_encrypted_too(start: Start, keys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = start("logger", 0, tmp_path / "logs", "--keys", keys, "--listen", HOST)
    line = logger.wait_for("text on port")
    port = int(line.split("text on port ")[1].split(",")[0])
    broker = broker_of(start("broker", 0, 0, HOST, port, "--listen", HOST, "--keys", keys))
    with cbw.Client(broker.address, keys=keys, timeout=2, id="C1") as client, pytest.raises(cbw.Expired):
        client.call(b"")
    wait_until(lambda: '"client_hello"' in (tmp_path / "logs").read_text(), "the broker's records are in the log")
    app = cbw.LogHandler(HOST, port, name="APP", keys=keys)
    app.emit(logging.makeLogRecord({"msg": "a line of ours"}))
    app.close()
    assert "a line of ours" in (tmp_path / "logs").read_text()
    forger = cbw.LogHandler(HOST, port, name="APP", keys=add(keys, "forger", "client"))
    forger.emit(logging.makeLogRecord({"msg": "a line in another's name"}))
    wait_until(lambda: "has another key" in (tmp_path / "logs").read_text(), "the forger is told of")
    forger.close()
    assert "another's name" not in (tmp_path / "logs").read_text()
    nobody = add(keys, "nobody", "client")
    revoke(keys, "nobody")
    stranger = cbw.LogHandler(HOST, port, name="APP2", keys=nobody)
    stranger.emit(logging.makeLogRecord({"msg": "a line of a stranger"}))
    logger.wait_for("not let in", "is not allowed")
    stranger.close()
    wait_until(lambda: "nothing is logged" in capfd.readouterr().err, "the stranger is told")
    push: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    with closing(push):
        push.linger = 0
        push.connect(f"tcp://{HOST}:{port}")
        push.send(b"a line of a stranger")
        logger.wait_for("not let in", "a key")  # it came without one, or left before it showed one
    assert "stranger" not in (tmp_path / "logs").read_text()


@pytest.mark.parametrize(
    ("own", "error", "advice"),
    [
        (None, "uses keys, and this side does not", "Give both sides keys, or none"),
        ("worker.key_secret", "does not let this key in", "cbw keys add"),
        ("stranger.key_secret", "does not let this key in", "cbw keys list"),
    ],
)
def test_a_client_that_is_not_let_in_ends(
    start: Start, guarded: Broker, keys: Path, own: str | None, error: str, advice: str
) -> None:
    write_pair(keys, "stranger", new_pair())
    options = ["--keys", keys / own] if own else []
    began_at = time.monotonic()
    call = start("call", "--broker", guarded.address, *options, stdin=b"hello")
    assert call.exit_code() == 7 and time.monotonic() - began_at < SOON_S, call
    told, advised = call.errors[-2:]  # a client that was slow to connect has said before that it waits
    assert error in told and str(guarded.client_port) in told and advice in advised, call
    guarded.program.wait_for("not let in: ")
    found = start("doctor", guarded.address, "--worker-port", guarded.worker_port, "--json", *options)
    assert found.exit_code() == 1, found
    findings = {finding["check"]: finding for finding in json.loads("\n".join(found.lines))["findings"]}
    assert error in findings["protocol"]["text"] and advice in findings["protocol"]["advice"]


@pytest.mark.parametrize(("own", "error"), [(None, "uses keys"), ("client.key_secret", "does not let this key in")])
def test_a_worker_that_is_not_let_in_ends(
    start: Start, guarded: Broker, keys: Path, own: str | None, error: str
) -> None:
    options = ["--keys", keys / own] if own else []
    worker = start("worker", "W1", HOST, guarded.worker_port, *options)
    assert worker.exit_code(within_s=SOON_S) == 7 and worker.count("cbw: ", error) == 1, worker


def test_another_broker_answers(start: Start, guarded: Broker, keys: Path) -> None:
    """Its clients and workers say so, and it says who expected something else."""
    write_pair(keys, "broker", new_pair())  # what this side expects from now on
    call = start("call", "--broker", guarded.address, "--keys", keys, stdin=b"hello")
    assert call.exit_code() == 7 and call.count("has another key than the one that is expected") == 1, call
    worker = start("worker", "W1", HOST, guarded.worker_port, "--keys", keys)
    assert worker.exit_code() == 7 and worker.count("has another key") == 1, worker
    guarded.program.wait_for("not let in", "expects another key of this side")


def test_a_broker_without_keys(start: Start, broker: Broker, keys: Path) -> None:
    call = start("call", "--broker", broker.address, "--keys", keys, stdin=b"hello")
    assert call.exit_code() == 7 and call.count("this side uses keys, and", "does not") == 1, call


def test_a_broker_that_dies_in_a_handshake_has_no_other_key(keys: Path) -> None:
    """What listens ends each connection at once, as Docker's proxy does while the broker is away: the client waits on."""
    with socket.socket() as proxy:
        proxy.bind((HOST, 0))
        proxy.listen()

        def hang_up() -> None:
            with pytest.raises(OSError):
                while True:
                    proxy.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with cbw.Client(f"{HOST}:{proxy.getsockname()[1]}", keys=keys) as client, pytest.raises(cbw.Expired):
            client.call(b"", timeout=3)
        proxy.shutdown(socket.SHUT_RDWR)


def test_rights_on_services(guarded: Broker, work: Worker, keys: Path) -> None:
    add(keys, "pricer", "worker", "price")
    worker = work("W1", own="pricer.key_secret", waits=False)  # the demonstration serves the nameless service
    assert worker.exit_code() == 7 and worker.count("cbw: the key pricer is not good for the service ''") == 1, worker
    work("W2")
    own = add(keys, "buyer", "client", "price")
    with cbw.Client(guarded.address, keys=own, timeout=SOON_S) as client:
        with pytest.raises(cbw.NotAllowed, match="the key buyer is not good for the service ''"):
            client.call(b"")
        with pytest.raises(cbw.NotAllowed):
            client.start(b"")


def test_an_identity_belongs_to_the_key_that_used_it_first(guarded: Broker, work: Worker, keys: Path) -> None:
    """A ROUTER would give the first one's answers to whoever takes its identity."""
    add(keys, "eve", "client")
    work("W1")
    with closing(dealer(keys, "client", guarded.client_port, b"REQ-1")) as first:
        first.send_multipart([b"", b"1"])
        assert first.poll(int(SOON_S * 1000)) and first.recv_multipart() == [b"", b"1 W1"]
        with closing(dealer(keys, "eve", guarded.client_port, b"REQ-1", reconnect_ms=-1)) as second:
            second.send_multipart([b"", b"3"])
            guarded.program.wait_for("not let in", "eve sets the identity", "belongs to another key")
            guarded.program.wait_for("refused", "the id 'REQ-1' belongs to another key")
        time.sleep(1)  # the first one connects again
        first.send_multipart([b"", b"2"])
        assert first.poll(int(SOON_S * 1000)) and first.recv_multipart() == [b"", b"2 W1"]


# --- a key that is taken back


def test_a_revoked_client_is_cut_off(guarded: Broker, work: Worker, keys: Path) -> None:
    own = add(keys, "anna", "client")
    work("W1")
    with (
        cbw.Client(guarded.address, keys=own, id="C1", timeout=SOON_S) as anna,
        cbw.Client(guarded.address, keys=keys, id="C2", timeout=SOON_S) as other,
    ):
        assert anna.call(b"1") == b"1 W1"
        running = other.submit(b"2")
        revoked_at = revoke(keys, "anna")
        guarded.program.wait_for("client away", "client C1")
        assert time.monotonic() - revoked_at < CLOSED_S
        with pytest.raises(cbw.KeyNotAllowed):
            anna.call(b"3")
        assert running.result(SOON_S) == b"2 W1" and other.call(b"4") == b"4 W1"
    assert guarded.program.count("C2", "away") == 0


def test_a_revoked_worker_is_cut_off_and_its_work_goes_to_others(guarded: Broker, work: Worker, keys: Path) -> None:
    own = add(keys, "bert", "worker")
    bert = work("W1", "--work-time", 30, own=own.name)
    with cbw.Client(guarded.address, keys=keys, timeout=SOON_S) as client:
        future = client.submit(b"1")
        guarded.program.wait_for("handed out", "worker W1")
        assert Program("keys", "revoke", "bert", "--keys", keys).exit_code() == 0
        guarded.program.wait_for("worker lost", "worker W1", within_s=CLOSED_S)
        work("W2")
        assert future.result(SOON_S) == b"1 W2"
    assert bert.exit_code() == 7 and bert.count("does not let this key in") == 1, bert
    assert not own.exists()


def test_a_silent_connection_of_a_revoked_key_is_closed(guarded: Broker, keys: Path) -> None:
    add(keys, "anna", "client")
    with closing(dealer(keys, "anna", guarded.client_port)) as silent:
        monitor = silent.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        assert monitor.poll(int(SOON_S * 1000))
        monitor.recv_multipart()
        revoke(keys, "anna")
        assert monitor.poll(int(CLOSED_S * 1000)), "it is still connected"
        silent.disable_monitor()
        monitor.close(0)


def test_a_key_that_gets_more_rights_comes_back(guarded: Broker, work: Worker, keys: Path) -> None:
    own = add(keys, "buyer", "client", "price")
    work("W1")
    with cbw.Client(guarded.address, keys=own, timeout=SOON_S) as client:
        with pytest.raises(cbw.NotAllowed):
            client.call(b"")
        allowed = Allowed(keys / ALLOWED).keys
        write(keys / ALLOWED, [*allowed[:-1], Key("client", allowed[-1].public, "buyer")])
        guarded.program.wait_for("client away")
        assert client.call(b"1") == b"1 W1"


def test_a_bad_file_of_keys_changes_nothing_while_the_broker_runs(guarded: Broker, work: Worker, keys: Path) -> None:
    work("W1")
    (keys / ALLOWED).write_text("clown x y\n")
    guarded.program.wait_for("the keys that were allowed before still are", "allowed:1: 'clown' is no role")
    with cbw.Client(guarded.address, keys=keys, timeout=SOON_S) as client:
        assert client.call(b"1") == b"1 W1"


def test_a_role_does_not_start_with_bad_keys(start: Start, keys: Path) -> None:
    (keys / ALLOWED).write_text("clown x y\n")
    broker = start("broker", 0, 0, "--keys", keys)
    assert broker.exit_code() == 2 and broker.count("allowed:1: 'clown' is no role") == 1, broker
    (keys / "logger.key_secret").chmod(0o644)
    logger = start("logger", 0, keys.parent / "logs", "--keys", keys)
    assert logger.exit_code() == 2 and logger.count("others may read the secret key", "0644") == 1, logger
    (keys / "client.key_secret").write_text("")
    for role, *rest in (("worker", "W1"), ("client", "C1"), ("call",)):
        program = start(role, *rest, "--keys", keys / "client.key_secret")
        assert program.exit_code() == 2 and program.count("no public-key in it") == 1, program


# --- who can come, and what the status page says


def test_without_keys_a_role_listens_on_this_machine_only(start: Start, keys: Path, tmp_path: Path) -> None:
    """127.0.0.2 is this machine too, but no address of those that are listened on by default."""
    status = free_port()
    local = broker_of(start("broker", 0, 0, CBW_STATUS_PORT=str(status)))
    wide = broker_of(start("broker", 0, 0, "--keys", keys))
    told = broker_of(start("broker", 0, 0, CBW_LISTEN="0.0.0.0"))
    logger = start("logger", 0, tmp_path / "logs")
    log_port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    for port in (local.client_port, local.worker_port, status, log_port, log_port + 1):
        socket.create_connection((HOST, port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port))
    for broker in (wide, told):
        socket.create_connection(("127.0.0.2", broker.client_port)).close()
    assert told.program.count("listens on 0.0.0.0 without keys") == 1
    assert local.program.count("without keys") == wide.program.count("without keys") == 0


def test_the_status_page_tells_names_and_no_keys(start: Start, keys: Path) -> None:
    import http.client

    status = free_port()
    broker_of(start("broker", 0, 0, "--listen", HOST, "--keys", keys, CBW_STATUS_PORT=str(status)))
    connection = http.client.HTTPConnection(HOST, status, timeout=SOON_S)
    with closing(connection):
        connection.request("GET", "/status.json")
        page = connection.getresponse().read()
    told: dict[str, Any] = json.loads(page)
    assert told["keys"] == {"allowed": 5, "refused": 0}
    assert read_pair(keys / "broker.key_secret").secret.encode() not in page

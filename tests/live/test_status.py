"""Health and metrics of every role, asked over HTTP while it works, is frozen, and cannot work."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import cbw
from cbw.observe.inquiry import Inquiry
from cbw.observe.status import HTTP_TIMEOUT_S, StatusServer
from tests.ports import free_port

from .conftest import HOST, Broker, Start, StartBroker, StartWorker, broker_of
from .program import wait_until


def get(port: int, path: str, authorization: str = "") -> tuple[int, str]:
    """Status code and body of a page."""
    headers = {"Authorization": authorization} if authorization else {}
    asked = urllib.request.Request(f"http://{HOST}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def status(port: int) -> dict[str, Any]:
    """``/status.json``."""
    code, text = get(port, "/status.json")
    assert code == 200, text
    answer: dict[str, Any] = json.loads(text)
    return answer


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """Samples by their names and the values of their labels."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_broker_and_worker(start: Start, start_broker: StartBroker, start_worker: StartWorker) -> None:
    port, worker_port = free_port(), free_port()
    broker = start_broker("--status-port", port)
    assert get(port, "/livez") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ok\n")
    assert get(port, "/nothing")[0] == 404
    worker = start_worker("W1", "echo", "fail=fail", at=broker, options=["--status-port", worker_port])
    with cbw.Client(broker.address) as client:
        assert list(client.map([b"x"] * 100)) == [b"x"] * 100
        with pytest.raises(cbw.HandlerFailed):
            client.call(b"raise", "fail")
        with pytest.raises(cbw.Expired):
            client.call(b"x", "none", timeout=0.05)
        wait_until(lambda: status(port)["requests"] == 0, "it has ended for the broker too")
        told = status(port)
    assert told["counts"]["answered"] == 100 and told["counts"]["failed"] == 1
    assert told["requests"] == told["waiting"] == told["in_flight"] == 0
    (one,) = told["workers"]
    assert (one["worker"], one["state"], one["answered"], one["in_hand"]) == ("W1", "free", 101, 0)
    assert 0 < told["latency_s"]["p50"] <= told["latency_s"]["p99"] < 5
    assert told["rates"]["answered"]["60s"] > 0
    found = metrics(port)
    assert found["cbw_broker_requests_ended_total", "answered"] == 100
    assert found["cbw_broker_request_duration_seconds_count", ""] == 100
    assert found["cbw_broker_request_duration_seconds_bucket", "+Inf", "fail"] == 1
    assert found["cbw_broker_attempt_duration_seconds_count", ""] == 100
    assert found["cbw_broker_worker_answers_total", "W1"] == 101
    assert found["cbw_broker_workers", "free"] == 1
    assert found["process_resident_memory_bytes",] > 1e6
    assert metrics(worker_port)["cbw_worker_tasks_done_total",] == 101
    assert metrics(worker_port)["cbw_worker_tasks_failed_total",] == 1
    worker.kill()
    wait_until(lambda: not status(port)["workers"], "the lost worker is forgotten")
    assert ("cbw_broker_worker_answers_total", "W1") not in metrics(port)


def test_a_worker_without_a_broker_is_not_ready(start: Start) -> None:
    port = free_port()
    start("worker", "W1", HOST, free_port(), "--status-port", port).wait_for("works for")
    wait_until(
        lambda: listens(port) and get(port, "/livez")[0] == 200, "it runs, which is a moment after the page is there"
    )
    assert get(port, "/readyz") == (503, "not registered with a broker\n")


def test_a_handler_that_computes_does_not_make_a_worker_look_dead(
    start_broker: StartBroker, start_worker: StartWorker
) -> None:
    port = free_port()
    broker = start_broker()
    start_worker("W1", "sleep=echo_slowly", at=broker, options=["--status-port", port])
    wait_until(lambda: get(port, "/readyz")[0] == 200, "the welcome has come")
    with cbw.Client(broker.address) as client:
        future = client.submit(b"2", "sleep")
        wait_until(lambda: status(port)["in_hand"] == 1, "it is at work")
        while not future.done():
            assert get(port, "/readyz")[0] == 200
            time.sleep(0.2)


def test_a_stuck_loop_is_not_alive() -> None:
    """The server's threads go on when the role's loop does not."""
    server = StatusServer(Inquiry(lambda: None).ask, HOST, 0)
    try:
        assert get(server.port, "/livez")[0] == 503
        assert get(server.port, "/readyz")[0] == get(server.port, "/metrics")[0] == 503
    finally:
        server.close()


def test_a_frozen_process_does_not_answer_and_lives_again(start_broker: StartBroker) -> None:
    port = free_port()
    broker = start_broker("--status-port", port)
    broker.program.signal(signal.SIGSTOP)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{HOST}:{port}/livez", timeout=0.5)
    broker.program.signal(signal.SIGCONT)
    wait_until(lambda: get(port, "/livez")[0] == 200, "it lives again")


def test_a_logger_that_cannot_write_is_not_ready(start: Start, tmp_path: Path) -> None:
    port = free_port()
    place = tmp_path / "logs"
    logger = start("logger", 0, place / "logs", "--status-port", port)
    logger.wait_for("text on port")
    assert get(port, "/readyz") == (200, "ok\n")
    shutil.rmtree(place)
    place.touch()  # now it cannot be made again
    logger.signal(signal.SIGHUP)
    wait_until(lambda: get(port, "/readyz")[0] == 503, "it cannot write")
    assert str(place) in get(port, "/readyz")[1]
    assert metrics(port)["cbw_logger_can_write",] == 0
    place.unlink()
    wait_until(lambda: get(port, "/readyz")[0] == 200, "it can again")


def test_the_demonstration_client(start: Start, broker: Broker) -> None:
    port = free_port()
    client = start("client", "C1", 1, HOST, broker.client_port, "--status-port", port)
    wait_until(lambda: listens(port) and get(port, "/readyz")[0] == 200, "connected")
    assert metrics(port)["cbw_client_requests_in_flight",] == 1
    client.kill()


def test_a_taken_port(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        second = start("broker", 0, 0, "--listen", HOST, "--status-port", port)
        assert second.exit_code() == 3
        assert second.count(f"status port {port}"), second


def test_the_usual_port_may_be_taken(start: Start) -> None:
    with _usual_port_taken():
        broker = broker_of(start("broker", 0, 0, "--listen", HOST, CBW_STATUS_PORT=""))
        broker.program.wait_for("no health and metrics here", "9997", "--status-port")
        assert broker.program.is_running
        worker = start("worker", "W1", HOST, broker.worker_port, CBW_STATUS_PORT="")
        worker.wait_for("connected")
        assert not worker.count("9997"), "the others on the same machine say nothing of it"


def test_no_port_at_all(start: Start, start_broker: StartBroker) -> None:
    broker = start_broker("--status-port", 0)
    assert not any("status" in line for line in broker.program.lines)


# --- who may see them

PRIVATE = ("/metrics", "/status.json", "/status.json?token=", "/metrics?x=1")


def token_file(folder: Path, token: str) -> Path:
    """A file with this token, which only its owner may read."""
    path = folder / "token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


def test_with_a_token_the_pages_are_for_who_shows_it(start: Start, tmp_path: Path) -> None:
    port, token = free_port(), "a-token-of-a-test-0123456789"
    path = token_file(tmp_path, token)
    options = ("--listen", HOST, "--verbose", "--status-port", port, "--status-token-file", path)
    broker = broker_of(start("broker", 0, 0, *options))
    wrong = (
        "",
        token,
        f"Basic {token}",
        "Bearer",
        "Bearer ",
        f"Bearer {token}x",
        f"Bearer {token[:-1]}",
        "Bearer \xe4",
    )
    for page in PRIVATE:
        for authorization in wrong:
            code, text = get(port, page, authorization)
            assert code == 401 and "BRO_" not in text and "Authorization: Bearer" in text, (page, authorization, text)
        for scheme in ("Bearer", "bearer"):
            assert get(port, page, f"{scheme} {token}")[0] == 200
    with closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
        connection.request("HEAD", "/metrics")
        assert connection.getresponse().headers["WWW-Authenticate"] == 'Bearer realm="cbw"'
    for page in ("/livez", "/readyz"):
        assert get(port, page) == (200, "ok\n"), "probes have no token"
    doctor = (broker.address, "--worker-port", broker.worker_port, "--status-port", port)
    start("doctor", *doctor).wait_for("cannot be counted: the status page wants a token")
    other = token_file(tmp_path, "another-token-of-a-test")
    start("doctor", *doctor, CBW_STATUS_TOKEN_FILE=str(other)).wait_for("the status page wants another token")
    path = token_file(tmp_path, token)
    start("doctor", *doctor, "--status-token-file", path).wait_for("workers: 0, of them 0 free")
    assert broker.program.terminate() >= 0
    assert not broker.program.count(token)


@pytest.mark.parametrize("role", ["broker", "worker", "logger", "client", "doctor"])
def test_a_token_that_others_can_read_ends_the_role(start: Start, tmp_path: Path, role: str) -> None:
    path = token_file(tmp_path, "a-token-of-a-test-0123456789")
    path.chmod(0o644)
    arguments = {
        "broker": (0, 0),
        "logger": (0, tmp_path / "logs"),
        "worker": ("W1", HOST, 1),
        "client": ("C1", 1, HOST, 1),
    }
    options = ("--status-port", free_port(), "--status-token-file", path)
    program = start(role, *arguments.get(role, ()), *options)
    assert program.exit_code() == 2 and program.count("others may read the secret token", "0644") == 1, program


def test_pages_without_a_token_beyond_this_machine_are_warned_of_once(start: Start, tmp_path: Path) -> None:
    path = token_file(tmp_path, "a-token-of-a-test-0123456789")
    wide = broker_of(start("broker", 0, 0, CBW_STATUS_LISTEN="0.0.0.0", CBW_STATUS_PORT=str(free_port())))
    image = broker_of(start("broker", 0, 0, CBW_LISTEN="0.0.0.0", CBW_STATUS_PORT=str(free_port())))
    shown = {"CBW_STATUS_LISTEN": "0.0.0.0", "CBW_STATUS_TOKEN_FILE": str(path), "CBW_STATUS_PORT": str(free_port())}
    guarded = broker_of(start("broker", 0, 0, **shown))
    local = broker_of(start("broker", 0, 0, CBW_STATUS_PORT=str(free_port())))
    none = broker_of(start("broker", 0, 0, CBW_LISTEN="0.0.0.0"))
    for broker, count in ((wide, 1), (guarded, 0), (local, 0), (none, 0), (image, 0)):
        broker.program.terminate()
        assert broker.program.count("serves its status on 0.0.0.0 without a token") == count, broker.program


def test_rude_http_peers_do_no_harm(start_broker: StartBroker) -> None:
    port = free_port()
    broker = start_broker("--status-port", port)
    idle = [socket.create_connection((HOST, port)) for _ in range(40)]
    for words in (b"\x00\xff" * 100, b"GET " + b"a" * 100_000, b"POST / HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection((HOST, port)) as rude:
            try:
                rude.sendall(words)
                rude.settimeout(10)
                rude.recv(1000)
            except OSError:
                pass  # hung up on
    for peer in idle:
        peer.close()
    wait_until(lambda: _can_get(port), "a free place")
    assert not broker.program.errors


def test_a_peer_that_trickles_is_hung_up_on(start_broker: StartBroker) -> None:
    """Each byte comes in time, the request never ends."""
    port = free_port()
    start_broker("--status-port", port)
    began_at = time.monotonic()
    with socket.create_connection((HOST, port)) as slow:
        slow.settimeout(0.1)

        def is_hung_up() -> bool:
            try:
                slow.sendall(b"G")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_hung_up, "the broker hangs up")
    assert time.monotonic() - began_at > HTTP_TIMEOUT_S, "it was not the silence that ended it"


def _can_get(port: int) -> bool:
    try:
        return get(port, "/livez")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class _usual_port_taken:  # noqa: N801 - reads as what it is
    def __enter__(self) -> None:
        self._socket = socket.socket()
        try:
            self._socket.bind(("", 9997))
            self._socket.listen()
        except OSError:
            pass  # somebody has it already

    def __exit__(self, *_: object) -> None:
        self._socket.close()

"""``cbw doctor``: why a client does not reach its broker. One finding after another, each with what to do."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import time
from collections.abc import Generator, Iterator
from enum import Enum
from typing import Any

import msgspec
import zmq

from cbw.client import Client
from cbw.core import messages as m
from cbw.errors import BadMessage, CbwError, RequestError
from cbw.net import Link
from cbw.settings import STATUS_PORT
from cbw.sleeper import Sleeper
from cbw.status import VERSION
from cbw.trace import LogTarget
from cbw.wire import native

CONNECT_S = 3.0
"""A host that is there answers in far less; a firewall that drops packets never does."""
HELLO_S = 3.0
SEND_S = 10.0
_GREETING = b"\xff" + 8 * b"\0" + b"\x7f"
"""What every ZeroMQ 3 peer says first (ZMTP 3.1, RFC 37: the signature; the eight bytes between may differ)."""


class State(Enum):
    """How a check ended. NOTE: nothing is wrong, or it cannot be told from here."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """What a check found, in one line, and what to do about it."""

    check: str
    state: State
    text: str
    advice: str = ""


class _Status(msgspec.Struct):
    """What is looked at of a broker's ``/status.json``."""

    role: str
    name: str
    version: str
    boot: str
    worker_count: int
    worker_states: dict[str, int]
    waiting: int


def examine(
    host: str, port: int, worker_port: int, *, status_port: int = STATUS_PORT, sends: bool = False
) -> Iterator[Finding]:
    """Everything between here and the broker at ``host``, in the order in which it would fail; ends where nothing can follow.

    ``sends``: also send a request to the nameless service, which a worker will run.

    Raises:
        UsageError: ``LOGGER_HOST`` or ``LOGGER_PORT`` say no place.
    """
    logger = LogTarget.from_environment()
    addresses = yield from _resolves(host, port)
    if not addresses:
        return
    can_reach = yield from _reaches(host, port, "clients")
    said: m.Message | None = None
    if can_reach:
        greeting = _greets(host, port)
        yield greeting
        if greeting.state is State.OK:
            said = _hello(host, port)
            yield _speaks(said)
    yield from _worker_port(host, worker_port)
    yield _workers(host, worker_port, status_port, said.boot if isinstance(said, m.Welcome) else "")
    if sends and can_reach:
        yield _answers(host, port)
    if logger is not None:
        for log_port in (logger.port, logger.port + 1):
            yield from _reaches(logger.host, log_port, "the logger", "cbw logger")


def _resolves(host: str, port: int) -> Generator[Finding, None, list[str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        advice = (
            "Check the spelling; inside of Compose use the service's name, outside the host's name or its IP address."
        )
        yield Finding("name", State.WRONG, f"{host} does not resolve: {reason}", advice)
        return []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    yield Finding("name", State.OK, f"{host} is {', '.join(addresses)}")
    return addresses


def _reaches(host: str, port: int, whose: str, start: str = "cbw broker") -> Generator[Finding, None, bool]:
    check = f"port {port}"
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        yield Finding(check, State.WRONG, *_unreached(host, port, whose, start, error))
        return False
    yield Finding(check, State.OK, f"something listens on {host}:{port}")
    return True


def _unreached(host: str, port: int, whose: str, start: str, error: OSError) -> tuple[str, str]:
    if isinstance(error, ConnectionRefusedError):
        publish = f'publish the port in its Compose file (ports: "{port}:{port}")'
        return (
            f"{host}:{port} refuses: nothing listens there for {whose}",
            f"Start it ({start}); if it runs in a container, {publish} or docker run -p {port}:{port}.",
        )
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return (
            f"{host}:{port} does not answer within {CONNECT_S:g} s: a firewall drops what is sent there, or the host is off",
            f"On that host: sudo ufw allow {port}/tcp (or firewall-cmd --add-port={port}/tcp); in a cloud, its rules too.",
        )
    return f"{host}:{port} cannot be reached: {error.strerror}", "Check the network between here and there (ping)."


def _greets(host: str, port: int) -> Finding:
    try:
        with socket.create_connection((host, port), CONNECT_S) as peer:
            peer.sendall(_GREETING)  # a server of another protocol may wait for us to speak first
            peer.settimeout(CONNECT_S)
            said = peer.recv(len(_GREETING))
    except OSError:
        said = b""
    if said[:1] == _GREETING[:1]:
        return Finding("zeromq", State.OK, "it speaks ZeroMQ")
    text = f"it does not speak ZeroMQ; it said {said[:20]!r}" if said else "it does not speak ZeroMQ; it said nothing"
    return Finding("zeromq", State.WRONG, text, f"Another program has port {port} there; give the broker's port.")


def _speaks(answer: m.Message | None) -> Finding:
    if isinstance(answer, m.Welcome):
        return Finding("protocol", State.OK, f"{answer.broker} speaks CBW/{m.VERSION}")
    if isinstance(answer, m.Refused):
        is_version = answer.reason is m.Refusal.VERSION
        advice = "Install the same cbw on both sides." if is_version else "Give another port: cbw doctor HOST:PORT."
        return Finding("protocol", State.WRONG, f"the broker refuses: {answer.text}", advice)
    text = f"it does not answer in CBW/{m.VERSION} within {HELLO_S:g} s"
    return Finding(
        "protocol", State.WRONG, text, "Is it a broker of cbw? The lab's broker serves only the lab's programs."
    )


def _hello(host: str, port: int) -> m.Message | None:
    """What a broker says to the hello of a client, which says goodbye at once."""
    context: zmq.Context[Any] = zmq.Context()
    link = Link(context, host, port)
    sleeper = Sleeper(link.socket, link.monitor_news)
    until = time.monotonic() + HELLO_S
    try:
        while time.monotonic() < until:
            if any(link.watch()):
                name = f"DOCTOR_{socket.gethostname()}_{os.getpid()}"
                for hello, _ in native.encode([m.ClientHello(name, os.urandom(8).hex())]):
                    link.send(hello)
            while (frames := link.receive()) is not None:
                try:
                    for message in native.to_client(frames):
                        if isinstance(message, m.Welcome | m.Refused):
                            for goodbye, _ in native.encode([m.Goodbye()]):
                                link.send(goodbye)
                            return message
                except BadMessage:
                    return None
            link.woke(sleeper.sleep(0.1))
        return None
    finally:
        link.close()
        context.term()


def _worker_port(host: str, port: int) -> Iterator[Finding]:
    check = f"port {port}"
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        text, _ = _unreached(host, port, "workers", "cbw broker", error)
        yield Finding(
            check, State.NOTE, text, "Only workers need it; from outside of a deployment that is as it should be."
        )
        return
    answer = _hello(host, port)
    is_ours = isinstance(answer, m.Refused) and "for workers" in answer.text
    if is_ours:
        yield Finding(check, State.OK, f"workers can connect to {host}:{port}")
    else:
        yield Finding(check, State.WRONG, f"{host}:{port} is not a broker's port for workers", "Give --worker-port.")


def _workers(host: str, worker_port: int, status_port: int, boot: str) -> Finding:
    """``boot``: which broker the clients' port belongs to, if that is known: the status page may be another's."""
    status = _status(host, status_port)
    if status is None or boot not in ("", status.boot):
        what = "no status page of a broker" if status is None else f"the status page of another broker, {status.name}"
        advice = f"Publish port {status_port}, give --status-port, or let a worker answer: cbw doctor --send."
        return Finding("workers", State.NOTE, f"cannot be counted: {what} on {host}:{status_port}", advice)
    if status.version != VERSION:
        text = f"the broker is cbw {status.version}, this is {VERSION}"
        return Finding("workers", State.NOTE, text, "They talk to each other, but use the same version where you can.")
    free = status.worker_states.get("free", 0)
    text = f"workers: {status.worker_count}, of them {free} free; requests that wait: {status.waiting}"
    if status.worker_count:
        return Finding("workers", State.OK, text)
    return Finding("workers", State.WRONG, text, f"Start one: cbw worker W1 {host} {worker_port}.")


def _status(host: str, port: int) -> _Status | None:
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_S)
    try:
        connection.request("GET", "/status.json")
        found = msgspec.json.decode(connection.getresponse().read(), type=_Status)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return found if found.role == "broker" else None


def _answers(host: str, port: int) -> Finding:
    try:
        with Client(f"{host}:{port}", timeout=SEND_S) as client:
            began_at = time.monotonic()
            answer = client.call(b"doctor")
    except RequestError as error:
        return Finding(
            "request",
            State.WRONG,
            f"a request to the nameless service was not answered: {error}",
            "Does a worker serve it? Named services are not asked here: cbw call --service NAME",
        )
    except CbwError as error:
        return Finding("request", State.WRONG, str(error), error.advice)
    took_ms = (time.monotonic() - began_at) * 1000
    return Finding("request", State.OK, f"answered in {took_ms:.1f} ms: {answer[:60].decode(errors='replace')}")

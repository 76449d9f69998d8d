"""``cbw doctor``: why a client does not reach its broker. Each finding says what to do about it."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import time
from collections.abc import Generator, Iterator
from enum import Enum

import msgspec

from cbw.client.sync_client import Client
from cbw.core import messages
from cbw.errors import BadMessage, CbwError, RequestError
from cbw.keys.folder import LinkKeys, link_keys
from cbw.observe.trace import LogTarget
from cbw.settings import STATUS_PORT
from cbw.transport.link import Link
from cbw.transport.listening import CONNECT_S, Listener, what_listens
from cbw.transport.poller import Poller, Waker
from cbw.transport.sockets import new_context
from cbw.version import __version__
from cbw.wire import native
from cbw.wire.refusal import refusal_error

HELLO_S = 3.0
"""Time for a broker to answer a hello, with room for a connection that is lost and made again."""
SEND_S = 10.0
"""Time for the answer to a request: several times the work of the lab's worker."""


class FindingState(Enum):
    """How a check ended. NOTE: it may be as it should be, which cannot be told from here."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: what it found, in one line, and what to do about it."""

    check: str
    state: FindingState
    text: str
    advice: str = ""


class StatusPage(msgspec.Struct, frozen=True):
    """Where the broker's status is served, and the token that opens it, if it has one."""

    port: int = STATUS_PORT
    token: str = ""

    def __repr__(self) -> str:
        """Without the token, which must not get into a traceback."""
        return f"StatusPage({self.port})"


class _BrokerStatus(msgspec.Struct):
    """The part of a broker's ``/status.json`` that is used here."""

    role: str
    name: str
    version: str
    boot: str
    worker_count: int
    worker_states: dict[str, int]
    waiting: int


def examine(
    host: str,
    port: int,
    worker_port: int,
    *,
    page: StatusPage = StatusPage(),  # noqa: B008 - frozen
    sends: bool = False,
) -> Iterator[Finding]:
    """Check everything between here and the broker at ``host``, one thing after another.

    Ends early when a failure makes the checks after it pointless. With ``sends`` a request is sent to the nameless service,
    and one of its workers runs it.

    Raises:
        UsageError: ``LOGGER_HOST`` and ``LOGGER_PORT`` do not name an address.
    """
    keys, worker_keys = (
        link_keys(None, "broker", "client", "admin"),
        link_keys(None, "broker", "worker", "client", "admin"),
    )
    logger = LogTarget.from_environment("client")
    addresses = yield from _check_name(host, port)
    if not addresses:
        return
    can_reach = yield from _check_port(host, port, "clients")
    said: messages.Message | None = None
    if can_reach:
        listener = what_listens(host, port)
        yield _check_zeromq(listener, port)
        if listener.speaks_zeromq:
            said = _say_hello(host, port, keys)
            yield _check_protocol(said, listener)
    yield from _check_worker_port(host, worker_port, worker_keys)
    yield _check_workers(host, worker_port, page, said.boot if isinstance(said, messages.Welcome) else "")
    if sends and can_reach:
        yield _check_request(host, port)
    if logger is not None:
        for log_port in (logger.port, logger.port + 1):
            yield from _check_port(logger.host, log_port, "the logger", "cbw logger")


def _check_name(host: str, port: int) -> Generator[Finding, None, list[str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        advice = (
            "Check the spelling; inside of Compose use the service's name, outside the host's name or its IP address."
        )
        yield Finding("name", FindingState.WRONG, f"{host} does not resolve: {reason}", advice)
        return []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    yield Finding("name", FindingState.OK, f"{host} resolves to {', '.join(addresses)}")
    return addresses


def _check_port(host: str, port: int, whose: str, start: str = "cbw broker") -> Generator[Finding, None, bool]:
    check = f"port {port}"
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        yield Finding(check, FindingState.WRONG, *_unreached(host, port, whose, start, error))
        return False
    yield Finding(check, FindingState.OK, f"something listens on {host}:{port}")
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


def _check_zeromq(listener: Listener, port: int) -> Finding:
    if listener.speaks_zeromq:
        return Finding("zeromq", FindingState.OK, "it speaks ZeroMQ")
    return Finding(
        "zeromq",
        FindingState.WRONG,
        f"it does not speak ZeroMQ: {listener.text}",
        f"Another program has port {port} there; give the broker's port.",
    )


def _check_protocol(answer: messages.Message | None, listener: Listener) -> Finding:
    if isinstance(answer, messages.Welcome):
        return Finding("protocol", FindingState.OK, f"{answer.broker} speaks CBW/{messages.VERSION}")
    if isinstance(answer, messages.Refused):
        if answer.reason in messages.KEY_REFUSALS:
            error = refusal_error(answer)
            return Finding("protocol", FindingState.WRONG, str(error), error.advice)
        is_version = answer.reason is messages.Refusal.VERSION
        advice = "Install the same cbw on both sides." if is_version else "Give another port: cbw doctor HOST:PORT."
        return Finding("protocol", FindingState.WRONG, f"the broker refuses: {answer.text}", advice)
    text = f"it does not answer in CBW/{messages.VERSION} within {HELLO_S:g} s: {listener.text}"
    return Finding(
        "protocol", FindingState.WRONG, text, "Is it a broker of cbw? The lab's broker serves only the lab's programs."
    )


def _say_hello(host: str, port: int, keys: LinkKeys | None) -> messages.Message | None:
    """Say hello to a broker as a client, and goodbye at once; the broker's answer, or that no key fits, or None."""
    context = new_context()
    waker = Waker()
    link = Link(context, [(host, port)], waker.wake, keys=keys)
    poller = Poller(link.socket, link.monitor_news, waker.fileno())
    until = time.monotonic() + HELLO_S
    try:
        while time.monotonic() < until:
            is_connected = any(link.watch())
            if link.handshakes.refusal is not None:
                return link.handshakes.refusal
            if is_connected:
                name = f"DOCTOR_{socket.gethostname()}_{os.getpid()}"
                for hello, _ in native.encode([messages.ClientHello(name, os.urandom(8).hex())]):
                    link.send(hello)
            while (frames := link.receive()) is not None:
                try:
                    for message in native.to_client(frames):
                        if isinstance(message, messages.Welcome | messages.Refused):
                            for goodbye, _ in native.encode([messages.Goodbye()]):
                                link.send(goodbye)
                            return message
                except BadMessage:
                    return None
            link.on_ready(poller.poll(0.1))
            waker.clear()
        return None
    finally:
        link.close()
        context.term()
        waker.close()


def _check_worker_port(host: str, port: int, keys: LinkKeys | None) -> Iterator[Finding]:
    check = f"port {port}"
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        text, _ = _unreached(host, port, "workers", "cbw broker", error)
        yield Finding(
            check,
            FindingState.NOTE,
            text,
            "Only workers need it; from outside of a deployment that is as it should be.",
        )
        return
    answer = _say_hello(host, port, keys)
    if isinstance(answer, messages.Refused) and answer.reason in messages.KEY_REFUSALS:
        refused = refusal_error(answer)
        yield Finding(check, FindingState.NOTE, str(refused), "Only workers need it. " + refused.advice)
        return
    is_ours = isinstance(answer, messages.Refused) and "for workers" in answer.text
    if is_ours:
        yield Finding(check, FindingState.OK, f"workers can connect to {host}:{port}")
    else:
        yield Finding(
            check, FindingState.WRONG, f"{host}:{port} is not a broker's port for workers", "Give --worker-port."
        )


def _check_workers(host: str, worker_port: int, page: StatusPage, boot: str) -> Finding:
    """Count the workers on the broker's status page.

    ``boot`` names the broker that serves the clients' port, if it is known: the page may be that of another broker.
    """
    code, status = _read_status(host, page)
    if status is None or boot not in ("", status.boot):
        what = "no status page of a broker" if status is None else f"the status page of another broker, {status.name}"
        advice = f"Publish port {page.port}, give --status-port, or let a worker answer: cbw doctor --send."
        if code == http.HTTPStatus.UNAUTHORIZED:
            what = "the status page wants another token" if page.token else "the status page wants a token"
            advice = "Give the file with the token of that broker: --status-token-file (CBW_STATUS_TOKEN_FILE)."
        return Finding("workers", FindingState.NOTE, f"cannot be counted: {what} on {host}:{page.port}", advice)
    if status.version != __version__:
        text = f"the broker is cbw {status.version}, this is {__version__}"
        return Finding(
            "workers", FindingState.NOTE, text, "They talk to each other, but use the same version where you can."
        )
    free = status.worker_states.get("free", 0)
    text = f"workers: {status.worker_count}, of them {free} free; requests that wait: {status.waiting}"
    if not boot:
        advice = f"So says the status page of {status.name} on {host}:{page.port}, which may be another broker."
        return Finding("workers", FindingState.NOTE, text, advice)
    if status.worker_count:
        return Finding("workers", FindingState.OK, text)
    return Finding("workers", FindingState.WRONG, text, f"Start one: cbw worker W1 {host} {worker_port}.")


def _read_status(host: str, page: StatusPage) -> tuple[int, _BrokerStatus | None]:
    """The code of the answer, 0 if there is none, and what a broker says on its page."""
    connection = http.client.HTTPConnection(host, page.port, timeout=CONNECT_S)
    code = 0
    try:
        connection.request(
            "GET", "/status.json", headers={"Authorization": f"Bearer {page.token}"} if page.token else {}
        )
        answer = connection.getresponse()
        code = answer.status
        found = msgspec.json.decode(answer.read(), type=_BrokerStatus)
    except (OSError, http.client.HTTPException, ValueError):
        return code, None
    finally:
        connection.close()
    return code, found if found.role == "broker" else None


def _check_request(host: str, port: int) -> Finding:
    try:
        with Client(f"{host}:{port}", timeout=SEND_S) as client:
            began_at = time.monotonic()
            answer = client.call(b"doctor")
    except RequestError as error:
        return Finding(
            "request",
            FindingState.WRONG,
            f"a request to the nameless service was not answered: {error}",
            "Does a worker serve it? Named services are not asked here: cbw call --service NAME",
        )
    except CbwError as error:
        return Finding("request", FindingState.WRONG, str(error), error.advice)
    took_ms = (time.monotonic() - began_at) * 1000
    return Finding("request", FindingState.OK, f"answered in {took_ms:.1f} ms: {answer[:60].decode(errors='replace')}")

"""A stranger claims to be somebody else: by a routing id, or by the hello of a living client or worker."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import zmq

from cbw.core import messages
from cbw.core.identities import NO_PROOF
from cbw.core.port import Sent
from cbw.transport.router import Router
from cbw.wire import native
from tests.attack.peer import RawPeer, message
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start, StartBroker, StartWorker
from .test_identities import hear, watch_until

GLIBC = 0x6B8B4567, 0xE43C9869
"""Where the routing ids of the first two ROUTERs begin in a process that has not seeded ``rand()``."""


def number(peer: int) -> bytes:
    """A routing id as a ROUTER makes it up."""
    return b"\0" + (peer % (1 << 32)).to_bytes(4, "big")


# --- routing ids


def test_connections_are_called_by_their_number(router: Router) -> None:
    with RawPeer.greeted(router.port) as one, RawPeer.greeted(router.port) as two:
        for expected, peer in enumerate((one, two), 1):
            peer.say(message(b"hello"))
            assert hear(router).peer == number(expected)
        assert router.send(number(2), [b"hello"]) is Sent.YES
        assert two.read_until(b"hello") and one.reads_nothing(0.05)


def test_routing_ids_begin_elsewhere_in_each_router() -> None:
    context: zmq.Context[Any] = zmq.Context()
    seen = set()
    for _ in range(3):
        router = Router(context, HOST, 0, body_bytes_max=1000)
        with RawPeer.greeted(router.port) as peer:
            peer.say(message(b"", b"hello"))
            assert hear(router).peer == number(1)
        seen.update(router.connections.certain)
        router.close()
    context.term()
    assert len(seen) == 3 and not seen & {number(first + 1) for first in GLIBC}


@pytest.mark.parametrize("identity", [b"\0", number(1), b"\0" * 9, b"x" * 256, b"x" * 100_000])
def test_who_claims_an_id_that_nobody_may_have_is_not_heard(router: Router, identity: bytes) -> None:
    with RawPeer.greeted(router.port) as honest, RawPeer.greeted(router.port, identity) as stranger:
        honest.say(message(b"hello"))
        assert hear(router).peer == number(1)
        stranger.say(message(b"hello"))
        arrival = hear(router)
        assert (arrival.peer, arrival.frames) == (b"", []) and "identity" in arrival.fault
        assert router.send(b"", [b"secret"]) is Sent.UNREACHABLE
        assert router.send(number(1), [b"secret"]) is Sent.YES
        assert honest.read_until(b"secret") and stranger.reads_nothing(0.05)


def test_what_is_for_a_lost_connection_goes_to_nobody(router: Router) -> None:
    with RawPeer.greeted(router.port) as honest:
        honest.say(message(b"hello"))
        peer = hear(router).peer
    watch_until(router, lambda: router.has_lost, "the news of its end")
    router.take_lost(1.0)  # its last words might be unread
    assert router.take_lost(2.0) == [peer]
    with RawPeer.greeted(router.port, peer) as stranger:
        assert router.send(peer, [b"secret"]) is Sent.UNREACHABLE
        assert stranger.reads_nothing(0.05)


def claim(port: int, first: int, stack: contextlib.ExitStack, body: bytes) -> None:
    """Claim the ids that a ROUTER would make up next if it began at ``first``, and say something."""
    for ahead in range(8):
        stack.enter_context(RawPeer.greeted(port, number(first + ahead))).say(body)


@pytest.mark.parametrize("first", GLIBC)
def test_claiming_the_next_ids_ends_no_broker(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, first: int
) -> None:
    broker = start_broker("-v")
    with contextlib.ExitStack() as stack:
        for port in (broker.client_port, broker.worker_port):
            claim(port, first, stack, message(b"", b"x"))
        broker.program.wait_for("identity that begins with a zero byte", count=16)
        start_worker("W1", "echo", at=broker)
        assert connect(broker).call(b"there") == b"there"
    assert broker.program.is_running


@pytest.mark.parametrize("first", GLIBC)
def test_nor_a_logger(start: Start, tmp_path: Path, first: int) -> None:
    logger = start("logger", 0, tmp_path / "log", "--listen", HOST)
    port = int(logger.wait_for("records on port").rpartition(" ")[2])
    nonsense = message(b"CBWL1", b"x", b"y")
    with contextlib.ExitStack() as stack:
        claim(port, first, stack, nonsense)
        for _ in range(4):
            honest = stack.enter_context(RawPeer.greeted(port))
            honest.say(nonsense)
            assert b"CBWL1" in honest.read_until(b"CBWL1")
    assert logger.is_running


# --- hellos


def status_of(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{HOST}:{port}/status.json") as page:
        return dict(json.load(page))


def test_who_reads_a_clients_boot_gets_none_of_its_answers(
    start: Start, broker: Broker, start_worker: StartWorker
) -> None:
    page = free_port()
    victim = start("client", "VICTIM", 1, HOST, broker.client_port, CBW_STATUS_PORT=str(page))
    broker.program.wait_for("unserved")
    shown = status_of(page)
    for proof in (b"", b"x" * 16):
        (hello, _), *_ = native.encode([messages.ClientHello(shown["name"], shown["boot"], proof)])
        with RawPeer.greeted(broker.client_port) as stranger:
            stranger.say(message(*map(bytes, hello)))
            assert b"lives" in stranger.read_until(b"lives")
    broker.program.wait_for("refused", NO_PROOF, count=2)
    start_worker("W1", "echo")
    assert victim.exit_code() == 0 and "VICTIM-1 -> VICTIM-1" in str(victim)

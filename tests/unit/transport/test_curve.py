"""What a failed handshake means, as far as a monitor tells it."""

from __future__ import annotations

import errno
import socket
import threading

import pytest
import zmq

from cbw.core.messages import Refusal
from cbw.transport.curve import MECHANISMS_DIFFER, NOT_DECRYPTED, Handshakes, describe_failure

AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
PROTOCOL = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)


def refusal(handshakes: Handshakes) -> Refusal | None:
    return handshakes.refusal.reason if handshakes.refusal is not None else None


@pytest.mark.parametrize("has_keys", [True, False])
def test_one_failure_is_enough_where_it_is_clear(has_keys: bool) -> None:
    for event, value, reason in ((AUTH, 400, Refusal.KEY), (PROTOCOL, MECHANISMS_DIFFER, Refusal.KEYS_MISSING)):
        handshakes = Handshakes(has_keys=has_keys)
        handshakes.failed(event, value, "tcp://127.0.0.1:1")
        assert refusal(handshakes) is reason
        assert handshakes.refusal is not None and "127.0.0.1:1" in handshakes.refusal.text


def test_other_failures_say_nothing_of_keys() -> None:
    handshakes = Handshakes(has_keys=False)
    for _ in range(20):
        handshakes.failed(NO_DETAIL, errno.EPIPE, "tcp://127.0.0.1:1")
        handshakes.failed(PROTOCOL, 0x10000000, "tcp://127.0.0.1:1")
    assert handshakes.refusal is None


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"\xff" + 8 * b"\0" + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0"), Refusal.WRONG_SERVER_KEY),
        (b"\xff" + 8 * b"\0" + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0"), None),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (b"", None),
    ],
)
def test_handshakes_that_are_ended_again_and_again(greeting: bytes, reason: Refusal | None) -> None:
    """The other side has another key only if it names CURVE; it may be Docker's proxy of a broker that is away."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(greeting)
                peer.recv(100)

        threading.Thread(target=greet, daemon=True).start()
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        handshakes = Handshakes(has_keys=True)
        for number in range(3):
            assert handshakes.refusal is None, number
            handshakes.failed(NO_DETAIL, errno.EPIPE, endpoint)
    assert refusal(handshakes) is reason


def test_nobody_is_asked_as_long_as_some_succeed() -> None:
    handshakes = Handshakes(has_keys=True)
    for _ in range(10):
        handshakes.failed(NO_DETAIL, errno.EPIPE, "nowhere")
        handshakes.failed(NO_DETAIL, errno.EPIPE, "nowhere")
        handshakes.succeeded()
    assert handshakes.refusal is None


def test_what_a_broker_tells_of_them() -> None:
    assert describe_failure(PROTOCOL, MECHANISMS_DIFFER) == "it comes without a key"
    assert describe_failure(PROTOCOL, NOT_DECRYPTED) == "it expects another key of this side"
    assert describe_failure(NO_DETAIL, errno.EPIPE) == "it left before it showed a key"
    assert describe_failure(AUTH, 400) == "", "the gate has told of it already"

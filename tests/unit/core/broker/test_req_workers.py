"""REQ workers that come and go without a word."""

from __future__ import annotations

from cbw.core.broker.events import PeerLost, PeersConnected, Side

from .system import CoreSystem, plain_said, req_ready, req_said


def test_a_worker_that_is_back_before_its_last_words_are_read_is_found() -> None:
    """Both happened while the broker stood still, and the news of the loss comes last of all."""
    system = CoreSystem()
    system.tell(req_ready(b"P1"))
    system.tell(plain_said(b"R1", (b"",), b"one"))
    system.tell(PeersConnected(Side.WORKER))
    system.now += 0.001
    system.tell(req_said(b"P1", b"R1", b"one"))
    system.now += 0.01
    system.tell(PeerLost(Side.WORKER, b"P1"))
    system.wait(0.2)
    system.tell(plain_said(b"R1", (b"",), b"two"))
    assert system.plain_tasks["P1"] == [(b"R1", b"one"), (b"R1", b"two")]

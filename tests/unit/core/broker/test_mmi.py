"""Questions that the broker itself answers to clients of Majordomo (RFC 8), from frame to frame."""

from __future__ import annotations

import pytest

from tests.unit.core.broker.driven import Broker

from .speech import MDP_1, C, W, ask, register, replies


@pytest.mark.parametrize("front", [[b"", b"MDPC01"], [b"MDPC02", b"\x01"], [b"", b"MDPC02", b"\x02"]])
@pytest.mark.parametrize(
    ("service", "body", "code"),
    [
        (b"mmi.service", b"echo", b"200"),
        (b"mmi.service", b"tea", b"404"),
        (b"mmi.service", b"asked for, but not served", b"404"),
        (b"mmi.service", b"\xff", b"404"),
        (b"mmi.service", b"mmi.service", b"200"),
        (b"mmi.service", b"mmi.workers", b"404"),
        (b"mmi.service", b"cbw.dead.list", b"200"),
        (b"mmi.workers", b"echo", b"501"),
        (b"mmi.", b"", b"501"),
    ],
)
def test_mmi(broker: Broker, front: list[bytes], service: bytes, body: bytes, code: bytes) -> None:
    register(broker, MDP_1)
    ask(broker, service=b"asked for, but not served", client=b"C2")
    broker.client_says(C, *front, service, body)
    (reply,) = broker.take(C)
    assert reply[-1] == code
    assert broker.core.requests.count == 1, "the broker answers by itself"


def test_what_the_broker_answers_itself_is_counted_apart(broker: Broker) -> None:
    """Whoever looks all the time would be taken for work otherwise."""
    ask(broker, b"one", b"mmi.service")
    ask(broker, b"two", b"mmi.nothing")
    ends = {name: broker.counts[name] for name in ("answered", "failed", "own_services_answered", "requests_arrived")}
    assert ends == {"answered": 0, "failed": 0, "own_services_answered": 2, "requests_arrived": 2}


def test_mmi_when_the_last_worker_is_gone(broker: Broker) -> None:
    register(broker, MDP_1)
    broker.lose_worker(W)
    ask(broker, b"echo", b"mmi.service")
    assert replies(broker) == [b"404"]


def test_replies_of_the_broker_wait_for_clients_like_all_others(broker: Broker) -> None:
    """Two that could not be sent are two, not one; and one of an uncertain identity gets neither (G1)."""
    ask(broker, b"one", b"mmi.service")
    broker.take(C)
    broker.clients.uncertain.append((C, True))
    ask(broker, b"two", b"mmi.service")
    ask(broker, b"three", b"mmi.nothing")
    assert broker.take(C) == []
    broker.clients.uncertain.append((C, False))
    broker.turn()
    assert replies(broker) == [b"404", b"501"]

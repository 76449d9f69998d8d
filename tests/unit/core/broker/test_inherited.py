"""REQ workers bring answers to what an earlier broker, without a journal, had given them."""

from __future__ import annotations

import pytest

from cbw.core.broker import inherited
from cbw.core.broker.clients import RETURN_GRACE_S
from cbw.core.key import Key

from .driven import Broker

C, D, W, V = b"CLI_1", b"CLI_2", b"WOR_1", b"WOR_2"


@pytest.fixture
def broker() -> Broker:
    """It has just started, and the client C is back."""
    broker = Broker()
    broker.clients.connect(C)
    broker.turn()
    return broker


def pause(broker: Broker) -> None:
    broker.wait(RETURN_GRACE_S + 0.01)


ANSWERS = {"lab": [b"", C, b"ho"], "earlier-lab": [b"", C, b"", b"ho"], "guide": [b"", C, b"", b"h", b"o"]}


@pytest.mark.parametrize("dialect", ANSWERS)
def test_the_answer_goes_to_the_client_that_it_names(broker: Broker, dialect: str) -> None:
    answer = ANSWERS[dialect]
    broker.worker_says(W, *answer)
    assert broker.take(C) == [], "a program that was started anew has the time to speak"
    pause(broker)
    assert broker.take(C) == [[b"", *answer[3 if dialect != "lab" else 2 :]]]
    assert broker.counts["answers_inherited"] == 1 and broker.counts["answers_fenced"] == 0
    assert [record.worker for record in broker.events("inherited")] == ["WOR_1"]
    broker.client_says(C, b"", b"next")
    ((_, client, *_, body),) = broker.take(W)
    assert (client, body) == (C, b"next"), "and the worker is ready"


@pytest.mark.parametrize("frames", [[b"", C], [b"x", C, b"ho"], [b"", C, b"y", b"ho"]])
def test_what_looks_like_no_answer_is_bad(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, *frames)
    assert broker.counts["messages_bad"] == 1 and not broker.core.workers.by_peer


def test_the_client_may_be_back_later_than_the_worker() -> None:
    broker = Broker()
    broker.worker_says(W, b"", C, b"ho")
    pause(broker)
    broker.clients.connect(D)
    broker.turn()
    pause(broker)
    assert broker.take(C) == []
    broker.clients.connect(C)
    broker.turn()
    pause(broker)
    assert broker.take(C) == [[b"", b"ho"]]


def test_a_client_that_has_spoken_waits_for_no_earlier_answer(broker: Broker) -> None:
    broker.client_says(C, b"", b"new")
    broker.worker_says(W, b"", C, b"old")
    pause(broker)
    assert broker.take(C) == [] and broker.counts["answers_fenced"] == 1
    assert broker.take(W) == [[b"", C, b"new"]]


def test_a_client_that_speaks_before_its_answer_is_sent_does_not_get_it(broker: Broker) -> None:
    broker.worker_says(W, b"", C, b"old")
    broker.client_says(C, b"", b"new")
    pause(broker)
    assert broker.take(C) == [] and broker.take(W) == [[b"", C, b"new"]]


def test_a_client_gets_one_answer(broker: Broker) -> None:
    """The earlier broker had given its request to a second worker, as the first was late."""
    for worker in (W, V):
        broker.worker_says(worker, b"", C, b"from " + worker)
    pause(broker)
    assert broker.take(C) == [[b"", b"from " + W]] and broker.counts["answers_fenced"] == 1


def test_a_worker_that_was_here_before_brings_nothing_of_an_earlier_broker(broker: Broker) -> None:
    broker.worker_says(W, b"", b"", b"")
    broker.lose_worker(W)
    broker.worker_says(W, b"", C, b"late")
    pause(broker)
    assert broker.take(C) == [] and broker.counts["answers_fenced"] == 1


def test_so_nothing_is_passed_on_once_clients_may_have_been_forgotten() -> None:
    broker = Broker(absence_s=10.0)
    broker.clients.connect(C)
    broker.worker_says(V, b"", b"", b"")
    broker.wait(10.1)
    broker.worker_says(W, b"", C, b"late")
    pause(broker)
    assert broker.take(C) == [] and broker.counts["answers_fenced"] == 1


def test_names_that_are_made_up_take_bounded_memory(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inherited.INHERITED_MAX >= 100
    monkeypatch.setattr(inherited, "INHERITED_MAX", 3)
    for number in range(5):
        broker.worker_says(b"W%d" % number, b"", b"X%d" % number, b"ho")
    assert broker.counts["answers_inherited"] == 3 and len(broker.core.clients.absent) == 3


def test_with_keys_nothing_is_passed_on(broker: Broker) -> None:
    """Whose the connection is shows only when the client speaks."""
    broker.core.use_keys(lambda peer: Key("client", "k", "name"), lambda peer: None)
    broker.worker_says(W, b"", C, b"ho")
    pause(broker)
    assert broker.take(C) == []


def test_an_identity_that_the_router_made_up_is_nobody_now(broker: Broker) -> None:
    broker.worker_says(W, b"", b"\0\0\0\0\1", b"ho")
    assert not broker.core.clients.absent and broker.counts["answers_fenced"] == 1


def test_as_long_as_two_may_have_the_identity_it_waits(broker: Broker) -> None:
    broker.clients.uncertain.append((C, True))
    broker.turn()
    broker.worker_says(W, b"", C, b"ho")
    pause(broker)
    assert broker.take(C) == []
    broker.clients.uncertain.append((C, False))
    broker.turn()
    pause(broker)
    assert broker.take(C) == [[b"", b"ho"]]


@pytest.mark.parametrize("name", [b"CLI_1#12", b"MDPW01"])
def test_a_name_that_looks_like_one_made_for_a_task_is_none(broker: Broker, name: bytes) -> None:
    broker.worker_says(W, b"", C + b"#12", b"ho")
    broker.clients.connect(name)
    broker.turn()
    pause(broker)
    assert broker.take(name) == broker.take(C) == []
    broker.client_says(name, b"", b"hi")
    ((_, client, _),) = broker.take(W)
    assert client.startswith(name + b"#"), "so that nobody takes the one for the other"


@pytest.mark.parametrize("envelope", [[b"7", b""], [b"", b"MDPC01"]])
def test_a_task_whose_answer_could_not_be_passed_on_is_named_otherwise(envelope: list[bytes]) -> None:
    """Its client needs another envelope than a REQ socket, which a later broker would not know."""
    broker = Broker()
    broker.worker_says(W, b"", b"", b"")
    rest = [b"", b"hi"] if b"MDPC01" in envelope else [b"hi"]
    broker.client_says(C, *envelope, *rest)
    ((_, client, _),) = broker.take(W)
    assert client.startswith(C + b"#")

"""Answers in parts, which only workers of Majordomo 0.2 give, from frame to frame."""

from __future__ import annotations

import pytest

from tests.unit.core.broker.driven import Broker

from .speech import MAJORTOMO, MDP_2, C, V, W, is_known, register, register_busy, task_of


def part(broker: Broker, task: list[bytes], *body: bytes, worker: bytes = W) -> None:
    broker.worker_says(worker, b"MDPW02", b"\x03", task[2], b"", *body)


def test_parts_are_passed_to_the_client_as_they_come(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    part(broker, task, b"one")
    assert broker.take(C) == [[b"MDPC02", b"\x02", b"echo", b"one"]]
    part(broker, task, b"two", b"frames")
    assert broker.take(C) == [[b"MDPC02", b"\x02", b"echo", b"two", b"frames"]]
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [[b"MDPC02", b"\x03", b"echo", b"end"]]
    part(broker, task, b"too late")
    assert broker.take(C) == [] and broker.counts["answers_fenced"] == 1


def test_parts_for_a_client_of_majortomo(broker: Broker) -> None:
    register(broker, MAJORTOMO)
    broker.client_says(C, b"", b"MDPC02", b"\x02", b"echo", b"hi")
    task = task_of(broker, MAJORTOMO)
    broker.worker_says(W, b"", b"MDPW02", b"\x03", task[3], b"", b"one")
    broker.worker_says(W, *MAJORTOMO.answers(task, b"end"))
    assert broker.take(C) == [[b"", b"MDPC02", b"\x03", b"one"], [b"", b"MDPC02", b"\x04", b"end"]]


@pytest.mark.parametrize("frames", [[b"", b"MDPC01", b"", b"hi"], [b"", b"hi"]])
def test_parts_for_other_clients_are_counted_and_dropped(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, b"MDPW02", b"\x01", b"")
    broker.client_says(C, *frames)
    task = task_of(broker, MDP_2)
    part(broker, task, b"one")
    part(broker, task, b"two")
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 2
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [[*frames[:-1], b"end"]]


def test_parts_for_a_client_that_is_away_are_dropped_and_its_end_is_parked(broker: Broker) -> None:
    register(broker, MDP_2)
    request = [b"MDPC02", b"\x01", b"echo", b"hi"]
    broker.client_says(C, *request)
    task = task_of(broker, MDP_2)
    broker.clients.lose(C)
    broker.turn()
    part(broker, task, b"one")
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 1
    broker.clients.connect(C)
    broker.wait(0.5)
    assert broker.take(C) == [[b"MDPC02", b"\x03", b"echo", b"end"]]


def test_parts_for_a_client_of_uncertain_identity_are_dropped(broker: Broker) -> None:
    """G1: another program may have its identity. Its end waits until that is known."""
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    broker.clients.uncertain.append((C, True))
    part(broker, task, b"one")
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 1


def test_a_part_that_cannot_be_delivered_is_counted_as_dropped(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    broker.clients.there.discard(C)
    part(broker, task, b"one")
    assert broker.counts["partials_dropped"] == 1


def test_after_a_part_of_a_worker_that_failed_come_those_of_the_next(broker: Broker) -> None:
    """At least once: RFC 18 has no ids by which a client could be told to begin anew."""
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    late = task_of(broker, MDP_2)
    part(broker, late, b"one of W1")
    broker.lose_worker(W)
    task = register_busy(broker, MDP_2, V)
    part(broker, late, b"two of W1")
    part(broker, task, b"one of W2", worker=V)
    broker.worker_says(V, *MDP_2.answers(task, b"end"))
    assert [frames[-1] for frames in broker.take(C)] == [b"one of W1", b"one of W2", b"end"]


def test_a_part_is_a_sign_of_life(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    for _ in range(20):
        broker.wait(5.0)
        part(broker, task, b"more")
    assert is_known(broker)

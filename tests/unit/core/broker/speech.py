"""How peers of Majordomo and Paranoid Pirate say what they say, and a broker to whom tests let them say it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.unit.core.broker.driven import Broker

W, V, C = b"W1", b"W2", b"C1"


class Speech(NamedTuple):
    """How workers of a dialect say what they say; ``disconnect`` is empty if there is no word for it."""

    name: str
    service: bytes
    ready: list[bytes]
    beat: list[bytes]
    disconnect: list[bytes]
    task: list[bytes]  # in front of the task's number
    answer: list[bytes]

    def answers(self, task: list[bytes], *body: bytes) -> list[bytes]:
        """The answer to a task, whose frames end with its number, an empty one and a body."""
        number = task[len(self.task)]
        return [*self.answer, number, b"", *body]


MDP_1 = Speech(
    "mdp-0.1",
    b"echo",
    [b"", b"MDPW01", b"\x01", b"echo"],
    [b"", b"MDPW01", b"\x04"],
    [b"", b"MDPW01", b"\x05"],
    [b"", b"MDPW01", b"\x02"],
    [b"", b"MDPW01", b"\x03"],
)


MDP_2 = Speech(
    "mdp-0.2",
    b"echo",
    [b"MDPW02", b"\x01", b"echo"],
    [b"MDPW02", b"\x05"],
    [b"MDPW02", b"\x06"],
    [b"MDPW02", b"\x02"],
    [b"MDPW02", b"\x04"],
)


MAJORTOMO = Speech("mdp-0.2", b"echo", *([b"", *frames] for frames in MDP_2[2:]))
PPP = Speech("ppp", b"", [b"\x01"], [b"\x02"], [], [], [])
SPEECHES = [MDP_1, MDP_2, MAJORTOMO, PPP]
MAJORDOMO = SPEECHES[:3]
speeches = pytest.mark.parametrize("speech", SPEECHES, ids=["0.1", "0.2", "0.2-with-empty-frame", "ppp"])
majordomo = pytest.mark.parametrize("speech", MAJORDOMO, ids=["0.1", "0.2", "0.2-with-empty-frame"])


def ask(broker: Broker, body: bytes = b"hi", service: bytes = b"echo", client: bytes = C) -> None:
    """A Majordomo 0.1 client asks. (It may name the nameless service too.)"""
    broker.client_says(client, b"", b"MDPC01", service, body)


def replies(broker: Broker, client: bytes = C) -> list[bytes]:
    return [b"|".join(frames[3:]) for frames in broker.take(client)]


def register(broker: Broker, speech: Speech, worker: bytes = W) -> None:
    broker.worker_says(worker, *speech.ready)
    assert broker.take(worker) == [], "there is no reply to a READY"


def task_of(broker: Broker, speech: Speech, worker: bytes = W) -> list[bytes]:
    """The one task that ``worker`` has got."""
    (task,) = (frames for frames in broker.take(worker) if frames not in (speech.beat, speech.disconnect))
    return task


def register_busy(broker: Broker, speech: Speech, worker: bytes) -> list[bytes]:
    """Register while a request waits; the task that comes at once."""
    broker.worker_says(worker, *speech.ready)
    return task_of(broker, speech, worker)


def is_known(broker: Broker, worker: bytes = W) -> bool:
    return worker in broker.core.workers.by_peer

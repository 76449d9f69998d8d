"""The lab's broker of ``examples/lab`` with a planted fault: ``faulty_lab_broker.py FAULT FRONTEND_PORT BACKEND_PORT``.

``cbw verify --dialect lab`` must find it.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PATH = Path(__file__).parents[2] / "examples" / "lab" / "broker.py"
_SPEC = importlib.util.spec_from_file_location("lab_broker", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
broker: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(broker)


def picks_at_random() -> None:
    """Any free worker gets the next request."""
    hand_out = broker.hand_out

    def shuffled() -> None:
        random.shuffle(broker.ready)
        hand_out()

    broker.hand_out = shuffled


def answers_the_wrong_client() -> None:
    """While another client waits, that one gets the answer."""
    spoke = broker.worker_spoke

    def misled(worker: bytes, empty: bytes, client: bytes, answer: bytes) -> None:
        others = [request[0] for name, (request, _) in broker.working.items() if name != worker]
        spoke(worker, empty, others[0] if client and others else client, answer)

    broker.worker_spoke = misled


def loses_requests() -> None:
    """What a failed worker had is forgotten."""
    find_failed = broker.find_failed

    def forgetful() -> None:
        before = len(broker.pending)
        find_failed()
        while len(broker.pending) > before:
            broker.pending.popleft()

    broker.find_failed = forgetful


def never_notices() -> None:
    """A worker may take as long as it likes."""
    broker.find_failed = lambda: None


def believes_late_answers() -> None:
    """Whoever answers first has answered."""

    class Nobody(set[bytes]):
        def add(self, _: bytes) -> None:
            pass

    broker.failed = Nobody()


def drops_late_workers() -> None:
    """Who was late once gets nothing more."""
    spoke = broker.worker_spoke

    def strict(worker: bytes, *rest: bytes) -> None:
        if worker not in broker.failed:
            spoke(worker, *rest)

    broker.worker_spoke = strict


def overloads() -> None:
    """A worker is thought to be free while it works."""
    hand_out = broker.hand_out

    def generous() -> None:
        known = [*broker.ready]
        hand_out()
        broker.ready.extend(worker for worker in known if worker not in broker.ready)

    broker.hand_out = generous


def dawdles() -> None:
    """It takes its time before it gives a free worker a request."""
    hand_out = broker.hand_out
    last = [0.0]

    def slow() -> None:
        if time.monotonic() - last[0] > 0.5:
            last[0] = time.monotonic()
            hand_out()

    broker.hand_out = slow


def says_nothing() -> None:
    """It takes everything in, and that is all."""
    broker.hand_out = lambda: None


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        picks_at_random,
        answers_the_wrong_client,
        loses_requests,
        never_notices,
        believes_late_answers,
        drops_late_workers,
        overloads,
        dawdles,
        says_nothing,
    )
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    broker.main()

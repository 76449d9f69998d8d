"""How many workers each service could use: what waits and what runs, by what a worker runs at once."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.tables import running_of
from cbw.core.broker.workers_wanted import REMEMBERED_MAX

from .system import CoreSystem, client_said


def wanted(system: CoreSystem) -> dict[str, int]:
    return system.core.requests.dispatcher.workers_wanted.count(running_of(system.core.workers.by_peer.values()))


def test_what_runs_counts_as_what_waits() -> None:
    system = CoreSystem()
    system.client()
    system.worker("W1")
    system.worker("W2")
    assert wanted(system) == {"s": 0}
    system.ask(1, 2)
    assert wanted(system) == {"s": 2}, "both work, and nobody waits: neither may be stopped"
    system.ask(3)
    assert wanted(system) == {"s": 3}
    system.answer_all("W1")  # it gets the third
    assert wanted(system) == {"s": 2}


def test_it_is_by_what_a_worker_runs_at_once_and_rounded_up() -> None:
    system = CoreSystem()
    system.client()
    system.worker("W1", concurrency=4)
    system.ask(*range(9))
    assert wanted(system) == {"s": 3}
    system.worker("W2", concurrency=8)  # six at once, on average
    assert wanted(system) == {"s": 2}


def test_a_service_without_workers_wants_some_for_what_waits() -> None:
    system = CoreSystem()
    system.client()
    system.ask(1, 2)
    assert wanted(system) == {"s": 2}, "nobody knows yet what a worker of it runs at once"
    system.worker("W1", concurrency=4)
    assert wanted(system) == {"s": 1}
    system.answer_all("W1")
    system.lose_worker("W1")
    assert wanted(system) == {"s": 0}, "also when nothing is left of the service"
    system.ask(*range(3, 8))
    assert wanted(system) == {"s": 2}, "its last worker ran four at once"


def test_each_service_of_a_worker_counts_its_own() -> None:
    system = CoreSystem()
    system.client()
    system.worker("W1", services=("a", "b"), concurrency=2)
    system.ask(1, service="b")
    assert wanted(system) == {"a": 0, "b": 1}
    system.ask(2, 3, 4, service="a")
    assert wanted(system) == {"a": 2, "b": 1}


def test_delayed_requests_want_nobody_yet() -> None:
    system = CoreSystem()
    system.client()
    system.tell(client_said(b"C1", [messages.Request(1, "s", b"", delay_s=60.0)]))
    assert wanted(system) == {"s": 0}


def test_what_is_remembered_is_bounded() -> None:
    system = CoreSystem()
    for number in range(REMEMBERED_MAX + 1):
        system.worker("W1", services=(f"s{number}",))
        system.lose_worker("W1")
    found = wanted(system)
    assert len(found) == REMEMBERED_MAX
    assert "s0" not in found and f"s{REMEMBERED_MAX}" in found
    for name in ("s1", "new"):  # the first of these was served a moment ago
        system.worker("W1", services=(name,))
        system.lose_worker("W1")
    found = wanted(system)
    assert "s1" in found and "s2" not in found and len(found) == REMEMBERED_MAX

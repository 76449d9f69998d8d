"""Requests that outlive their clients: started under a ticket, and fetched by it, with a journal and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker.events import PeerLost, Side, Undelivered
from cbw.core.messages import Answer, Collect, Start, Started, Status

from .journaled import Journaled
from .system import CoreSystem, client_said

KINDS = [CoreSystem, Journaled]
both = pytest.mark.parametrize("kind", KINDS)


def start(
    system: CoreSystem,
    key: int,
    ticket: str = "t",
    body: bytes = b"1",
    *,
    client: str = "C1",
    service: str = "s",
    ttl: float | None = None,
) -> None:
    system.tell(client_said(client.encode(), [Start(key, ticket, service, body, ttl)]))


def collect(system: CoreSystem, key: int, ticket: str = "t", *, client: str = "C1") -> None:
    system.tell(client_said(client.encode(), [Collect(key, ticket)]))


def started(system: CoreSystem, client: str = "C1") -> list[tuple[int, bool]]:
    return [(m.id, m.is_durable) for m in system.take(client) if isinstance(m, Started)]


def bodies(system: CoreSystem, client: str = "C1") -> list[tuple[int, bytes]]:
    return [(m.id, m.body) for m in system.take(client) if isinstance(m, Answer)]


def lose(system: CoreSystem, client: str = "C1") -> None:
    system.tell(PeerLost(Side.CLIENT, client.encode()))


def ended(kind: type[CoreSystem] = Journaled, **limits: Any) -> Any:
    """A system in which the request with the ticket ``t`` has ended. Its worker is gone."""
    system = kind(**limits)
    system.worker("W1")
    system.client("C1")
    start(system, 1)
    system.answer_all("W1")
    system.lose_worker("W1")
    system.take("C1")
    return system


# --- the usual way


@both
def test_started_then_collected_by_another_client_and_twice(kind: type[CoreSystem]) -> None:
    system = kind()
    system.worker("W1")
    system.client("C1")
    start(system, 7)
    assert started(system) == [(7, kind is Journaled)]
    system.tell(client_said(b"C1", [messages.Goodbye()]))
    system.answer_all("W1")
    system.client("C2")
    for key in (1, 2):
        collect(system, key, client="C2")
        assert bodies(system, "C2") == [(key, b"done 1")]
    assert system.core.tickets.results == 1 and system.core.requests.count == 0


@both
def test_collectors_in_two_clients_wait_for_the_answer(kind: type[CoreSystem]) -> None:
    system = kind()
    for name in ("C1", "C2"):
        system.client(name)
    start(system, 1)
    collect(system, 2)
    collect(system, 1, client="C2")
    collect(system, 2, client="C2")
    system.take("C1")
    system.worker("W1")
    assert system.answers() == []
    system.answer_all("W1")
    assert system.answers("C1") == [(2, Status.OK)]
    assert system.answers("C2") == [(1, Status.OK), (2, Status.OK)]


@both
def test_the_request_goes_on_when_its_starter_is_gone_or_cancels(kind: type[CoreSystem]) -> None:
    system = kind(absence_s=1.0, answers_keep_s=1.0)
    system.client("C1")
    start(system, 1)
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    lose(system)
    system.wait(60.0)
    assert "C1" not in [client.name for client in system.core.clients.all]
    system.worker("W1")
    assert system.bodies("W1") == [1]


@both
def test_errors_are_kept_like_answers(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    start(system, 1, ttl=1.0)
    system.take("C1")
    system.wait(2.0)
    collect(system, 2)
    assert system.answers() == [(2, Status.EXPIRED)]


@both
def test_what_the_broker_answers_itself(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    start(system, 1, "list", b"{}", service="cbw.dead.list")
    start(system, 2, "bad", b"{}", service="cbw.nothing")
    said = system.take("C1")
    assert [m.id for m in said if isinstance(m, Started | Answer)] == [1, 2]
    collect(system, 3, "list")
    assert [body[:1] for _, body in bodies(system)] == [b"{"]
    if isinstance(system, Journaled):
        system.wait(0.2)
        system.crash()
    assert "list" in system.core.tickets.rows


def test_no_dead_request_is_started() -> None:
    system = CoreSystem()
    system.client("C1")
    start(system, 1, ttl=0.0)
    start(system, 2, ticket="")
    start(system, 3, ticket="x" * 201)
    assert system.answers() == [(1, Status.EXPIRED), (2, Status.BAD_REQUEST), (3, Status.BAD_REQUEST)]
    assert system.core.tickets.rows == {} and system.core.tickets.bytes == 0


# --- one ticket, one request


@both
def test_the_same_ticket_twice_starts_one_request(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    system.client("C2")
    start(system, 1)
    start(system, 2)
    start(system, 1, client="C2")
    assert [key for key, _ in started(system, "C1") + started(system, "C2")] == [1, 2, 1]
    system.worker("W1", concurrency=5)
    (task,) = system.take_tasks("W1")
    system.answer("W1", task)
    start(system, 3)  # nor after its end
    assert [key for key, _ in started(system)] == [3] and system.bodies("W1") == []


@both
@pytest.mark.parametrize("difference", [{"body": b"2"}, {"service": "s2"}, {"service": "s1", "body": b""}])
@pytest.mark.parametrize("is_ended", [False, True])
def test_another_request_cannot_have_the_same_ticket(
    kind: type[CoreSystem], difference: dict[str, Any], is_ended: bool
) -> None:
    system = ended(kind)
    if not is_ended:
        start(system, 1, ticket="u")
    ticket = "t" if is_ended else "u"
    system.take("C1")
    start(system, 3, ticket, **difference)
    assert system.answers() == [(3, Status.TICKET_TAKEN)]
    start(system, 4, ticket)
    assert [key for key, _ in started(system)] == [4]


@both
def test_many_tickets_of_one_client_do_not_delay_others(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    system.client("C2")
    for number in range(50):
        start(system, number + 1, f"t{number}", b"1%d" % number)
    start(system, 1, "of C2", b"2", client="C2")
    system.ask(3, client="C2")
    if isinstance(system, Journaled):
        system.crash()
        system.client("C2")
    system.worker("W1", concurrency=4)
    first = system.bodies("W1")
    assert sorted(first) == [2, 3, 10, 11]


def test_priorities_of_tickets() -> None:
    system = CoreSystem()
    system.client("C1")
    for priority in (5, 9, 0, 10):
        said = Start(priority, f"t{priority}", "s", b"%d" % priority, None, priority)
        system.tell(client_said(b"C1", [said]))
    assert system.answers() == [(10, Status.BAD_REQUEST)]
    system.worker("W1", concurrency=5)
    assert system.bodies("W1") == [9, 5, 0]


@both
def test_an_unknown_ticket(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    collect(system, 1, "never heard of")
    assert system.answers() == [(1, Status.UNKNOWN_TICKET)]


# --- what is lost on the way


def test_nobody_is_told_that_it_is_started_before_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.client("C1")
    system.store()
    start(system, 1)
    start(system, 2)
    assert started(system) == []
    system.store()
    assert started(system) == [(1, True), (2, True)]


def test_no_answer_is_collected_before_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    start(system, 1)
    system.store()
    system.answer_all("W1")
    collect(system, 2)
    assert system.answers() == []
    system.store()
    assert system.answers() == [(2, Status.OK)]


@pytest.mark.parametrize("crash_after", range(5))
def test_a_crash_at_any_step(crash_after: int) -> None:
    """A client that does over what it was not answered gets one answer, and what it was told is true."""
    system = Journaled(is_slow=True)
    system.store()
    system.worker("W1", concurrency=2)
    system.client("C1")
    steps: list[Callable[[], None]] = [
        lambda: start(system, 1),
        system.store,
        lambda: system.answer_all("W1"),
        lambda: system.wait(0.1, "W1"),
        system.store,
    ]
    for step in steps[: crash_after + 1]:
        step()
    was_started, was_ended = bool(started(system)), crash_after == 4
    assert was_started is (crash_after >= 1)
    system.is_slow = False
    system.crash()
    system.client("C1", boot="another start of the program")
    collect(system, 1)
    if not was_started:
        assert system.answers() == [(1, Status.UNKNOWN_TICKET)]
        start(system, 2)
        collect(system, 1)
    system.worker("W2")
    system.wait(10.0, "W2")
    tasks = system.take_tasks("W2")
    assert bool(tasks) is not was_ended
    system.answer("W2", *tasks)
    assert bodies(system) == [(1, b"done 1")]
    system.crash()
    system.client("C3")
    collect(system, 1, client="C3")
    start(system, 2, client="C3", body=b"another")
    assert [(m.id, m.status) for m in system.take("C3") if isinstance(m, Answer)] == [
        (1, Status.OK),
        (2, Status.TICKET_TAKEN),
    ]


@both
def test_a_message_that_is_sent_again_over_another_connection(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    start(system, 1)
    collect(system, 2)
    lose(system)
    system.client("C1", peer="another")
    system.tell(client_said(b"another", [Start(1, "t", "s", b"1"), Collect(2, "t")]))
    system.tell(client_said(b"another", [Collect(2, "t")]))
    assert started(system, "another") == [(1, kind is Journaled)]
    system.worker("W1", concurrency=5)
    (task,) = system.take_tasks("W1")
    system.answer("W1", task)
    assert system.answers("another") == [(2, Status.OK)]
    assert system.answers("C1") == []


@both
def test_an_answer_that_could_not_be_delivered_is_fetched_again(kind: type[CoreSystem]) -> None:
    system = ended(kind)
    collect(system, 2)
    (answer,) = [m for m in system.take("C1") if isinstance(m, Answer)]
    system.tell(Undelivered(Side.CLIENT, b"C1", [answer]))
    system.client("C1", peer="another")
    system.tell(client_said(b"another", [Collect(2, "t")]))
    assert system.answers("another") == [(2, Status.OK)]
    assert system.core.requests.parked.count == 0


@both
def test_collectors_that_are_gone_leave_nothing_behind(kind: type[CoreSystem]) -> None:
    system = kind()
    for name in ("C1", "C2", "C3"):
        system.client(name)
        start(system, 1, client=name)
        collect(system, 2, client=name)
    system.tell(client_said(b"C1", [messages.Cancel(2)]))
    system.tell(client_said(b"C2", [messages.Goodbye()]))
    lose(system, "C3")
    (row,) = system.core.tickets.rows.values()
    assert row.waiting == {}
    for name in ("C1", "C2", "C3"):
        system.take(name)
    system.worker("W1")
    system.answer_all("W1")
    assert [system.answers(name) for name in ("C1", "C2", "C3")] == [[], [], []]

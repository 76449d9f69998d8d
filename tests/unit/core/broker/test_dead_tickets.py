"""Dead letters of requests with tickets: sent again, their answers are stored for the tickets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker import dead_services
from cbw.core.messages import Answer, Request, Start, Status, error_of
from cbw.wire.journal import decode_batch

from .control import Control, dead_of
from .journaled import Journaled
from .system import CoreSystem, client_said, worker_said
from .test_tickets import bodies, collect, start, started

IDS = itertools.count(2_000_000)
both = pytest.mark.parametrize("kind", [CoreSystem, Journaled])


def die(system: CoreSystem, workers: int = 3) -> None:
    for number in range(workers):
        system.worker(f"W{number}", boot=f"b{system.now}")
        system.lose_worker(f"W{number}")


def given_up(kind: type[CoreSystem] = Journaled, **limits: Any) -> Any:
    """A system that has given up the request with the ticket ``t``, and keeps it."""
    system = kind(**limits)
    for client in ("C1", "ADMIN"):
        system.client(client)
    start(system, 1)
    die(system)
    system.take("C1")
    assert len(dead_of(system)) == 1
    return system


def serve(system: CoreSystem) -> None:
    """W9 does what there is to do, and leaves."""
    system.worker("W9", boot=f"b{system.now}")
    system.answer_all("W9")
    system.lose_worker("W9")


def requeue(system: CoreSystem, **fields: Any) -> dict[str, Any]:
    control = Control(system)
    control.next_id = next(IDS)  # one that no earlier request has had: the answer to that might be told again
    found: dict[str, Any] = control.ask(dead_services.REQUEUE, **(fields or {"all": True}))
    return found


def end(system: CoreSystem) -> tuple[Status, str]:
    """What C1 gets if it collects now."""
    collect(system, 99)
    (answer,) = (each for each in system.take("C1") if isinstance(each, Answer))
    return answer.status, error_of(answer.body)[1] if answer.status is not Status.OK else bytes(answer.body).decode()


@both
def test_a_letter_knows_its_ticket(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    (letter,) = Control(system).list()
    assert (letter["ticket"], letter["client"]) == ("t", "C1")
    status, text = end(system)
    assert status is Status.GAVE_UP and f"cbw dead show {letter['id']}" in text


@both
def test_sent_again_its_answer_is_kept_for_the_ticket(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    assert requeue(system)["requeued"] == 1
    collect(system, 2)
    assert bodies(system) == [], "it waits as before the request was given up"
    serve(system)
    assert bodies(system) == [(2, b"done 1")]
    assert end(system) == (Status.OK, "done 1")
    assert len(dead_of(system)) == 0 and system.core.requests.count == 0
    assert any(r.event == "dead_letter_requeued" and r.request == "ticket/t" for r in system.records)


@both
def test_if_it_dies_again_the_ticket_has_that_error_and_the_letter_its_history(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    requeue(system)
    die(system)
    (letter,) = Control(system).list()
    assert (letter["requeued"], letter["ticket"], letter["client"], letter["attempts"]) == (1, "t", "C1", 3)
    status, text = end(system)
    assert status is Status.GAVE_UP and letter["id"] in text
    requeue(system)
    serve(system)
    assert end(system) == (Status.OK, "done 1")


@both
def test_if_its_handler_raises_it_is_kept_again_and_the_ticket_says_so(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    requeue(system)
    system.worker("W9")
    (task,) = system.take_tasks("W9")
    failed = Answer(task.id, Status.FAILED, messages.error_body("KeyError", "Oslo"))
    system.tell(worker_said(b"W9", [failed]))
    (letter,) = Control(system).list()
    assert (letter["requeued"], letter["kind"], letter["error"]) == (1, "KeyError", "Oslo")
    assert end(system) == (
        Status.FAILED,
        f"Oslo; kept as dead letter {letter['id']}, see: cbw dead show {letter['id']}",
    )


@both
def test_if_its_time_is_up_it_is_kept_again_and_the_ticket_says_so(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    requeue(system, all=True, ttl_s=1.0)
    system.wait(1.5)
    (letter,) = Control(system).list()
    status, text = end(system)
    assert status is Status.EXPIRED and letter["kind"] == "expired" and letter["id"] in text


@both
def test_starting_it_again_meanwhile_joins(kind: type[CoreSystem]) -> None:
    system = given_up(kind)
    requeue(system)
    start(system, 5)
    assert [key for key, _ in started(system)] == [5]
    assert system.core.requests.count == 1


@both
def test_a_ticket_that_was_dropped_is_made_anew(kind: type[CoreSystem]) -> None:
    system = given_up(kind, results_keep_s=10.0)
    system.wait(11.0)
    assert end(system)[0] is Status.UNKNOWN_TICKET
    requeue(system)
    collect(system, 2)
    serve(system)
    assert bodies(system) == [(2, b"done 1")]


@both
def test_a_ticket_that_another_request_has_by_now_is_left_alone(kind: type[CoreSystem]) -> None:
    system = given_up(kind, results_keep_s=10.0)
    system.wait(11.0)
    start(system, 7, body=b"another")
    requeue(system)
    assert system.core.requests.count == 2
    serve(system)
    assert end(system) == (Status.OK, "done another")


@both
def test_a_good_answer_that_the_ticket_has_by_now_stays(kind: type[CoreSystem]) -> None:
    system = given_up(kind, results_keep_s=10.0)
    system.wait(11.0)
    start(system, 7)
    serve(system)
    requeue(system)
    assert system.core.requests.count == 1, "it is sent again, for nobody"
    assert end(system) == (Status.OK, "done 1")


def test_if_tickets_have_no_room_it_is_sent_again_for_nobody() -> None:
    system = given_up(CoreSystem, results_keep_s=10.0, results_bytes_max=2000)
    system.wait(11.0)
    start(system, 7, "another", b"2", service="t")
    assert requeue(system)["requeued"] == 1
    serve(system)
    assert end(system)[0] is Status.UNKNOWN_TICKET and system.core.requests.count == 1


# --- with a journal


def test_after_a_crash_the_ticket_waits_and_gets_its_answer() -> None:
    system = given_up()
    requeue(system)
    system.crash()
    for client in ("C1", "ADMIN"):
        system.client(client)
    collect(system, 2)
    assert bodies(system) == []
    serve(system)
    system.crash()
    system.client("C1")
    assert end(system) == (Status.OK, "done 1")


def test_after_a_crash_it_is_known_how_often_it_was_sent_again() -> None:
    system = given_up()
    for times in (1, 2):
        requeue(system)
        system.crash()
        system.client("ADMIN")
        die(system)
        system.crash()
        (letter,) = dead_of(system)
        assert (letter.requeued, letter.ticket, letter.client, letter.request_name) == (times, "t", "C1", "ticket/t")
        system.client("ADMIN")


def test_sent_again_before_its_error_is_stored_nothing_is_lost() -> None:
    system = Journaled(is_slow=True)
    for client in ("C1", "ADMIN"):
        system.client(client)
    system.store()
    start(system, 1)
    system.store()
    die(system)
    collect(system, 2)
    system.tell(client_said(b"ADMIN", [Request(1, dead_services.REQUEUE, b'{"all": true}')]))
    system.store()
    serve(system)
    system.store()
    assert bodies(system) == [(2, b"done 1")]
    system.crash()
    system.store()
    system.client("C1")
    assert end(system) == (Status.OK, "done 1") and len(dead_of(system)) == 0


def test_no_moment_has_neither_the_letter_nor_the_request() -> None:
    """Killed after any batch, the broker has the letter, or the request, or its answer: exactly one of them."""
    system = given_up()
    first = max(system.stored)
    requeue(system)
    serve(system)
    batches = dict(system.stored)
    for last in range(first, max(batches) + 1):
        assert decode_batch(last, batches[last]).records
        system.stored = {at: data for at, data in batches.items() if at <= last}
        system.crash()
        system.client("C1")
        collect(system, 2)
        answers = [each for each in system.take("C1") if isinstance(each, Answer)]
        has_letter, has_request = len(dead_of(system)) == 1, system.core.requests.count == 1
        assert (has_letter, has_request, [each.status for each in answers]) in (
            (True, False, [Status.GAVE_UP]),
            (False, True, []),
            (False, False, [Status.OK]),
        )


# --- delays


@both
def test_a_ticket_may_be_delayed(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    system.worker("W1")
    system.tell(client_said(b"C1", [Start(1, "t", "s", b"1", None, delay_s=2.0)]))
    assert [key for key, _ in started(system)] == [1]
    if isinstance(system, Journaled):
        system.crash()
        system.client("C1")
        system.worker("W1")
        system.take("W1")
    system.wait(1.8, "W1")
    assert system.bodies("W1") == []
    system.wait(0.5, "W1")
    assert system.bodies("W1") == [1]


@both
def test_a_delay_beyond_the_deadline_is_refused_and_leaves_no_ticket(kind: type[CoreSystem]) -> None:
    system = kind()
    system.client("C1")
    system.tell(client_said(b"C1", [Start(1, "t", "s", b"1", 2.0, delay_s=2.0)]))
    (answer,) = (each for each in system.take("C1") if isinstance(each, Answer))
    assert answer.status is Status.BAD_REQUEST and not system.core.tickets.rows

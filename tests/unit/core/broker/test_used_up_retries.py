"""Requests whose retries are used up: they are kept as dead letters, with the stories of all their tries, within bounds."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import dead_services
from cbw.core.broker.stories import ATTEMPTS_KEPT, Stories, bytes_of
from cbw.core.broker.tables import Entry
from cbw.core.journal_records import FailedAttempt
from cbw.core.messages import TRACEBACK_CHARS_MAX, Answer, Status, error_body, error_of

from .control import Control, dead_of
from .journaled import Journaled
from .system import CoreSystem, client_said, worker_said


@pytest.fixture(params=[CoreSystem, Journaled])
def system(request: pytest.FixtureRequest) -> CoreSystem:
    """With and without a journal."""
    made: CoreSystem = request.param()
    for client in ("C1", "ADMIN"):
        made.client(client)
    made.worker("W1")
    return made


def fail(
    system: CoreSystem, status: Status = Status.RETRY, *, text: str = "no route", traceback: str = "Traceback"
) -> None:
    """W1 fails at the one request that it has got."""
    (task,) = system.take_tasks("W1")
    body = error_body("ConnectionError", text, f"{traceback} {task.retries}" if traceback else "")
    system.tell(worker_said(b"W1", [Answer(task.id, status, body, 0.5 if status is Status.RETRY else None)]))
    system.wait(0.6, "W1")


def use_up(system: CoreSystem) -> None:
    """Request 1 is tried three times."""
    system.ask(1)
    fail(system)
    fail(system)
    fail(system, Status.FAILED)


def the_answer(system: CoreSystem, client: str = "C1") -> Answer:
    (answer,) = (each for each in system.take(client) if isinstance(each, Answer))
    return answer


def test_it_is_kept_with_all_its_tries_and_its_client_is_told_where(system: CoreSystem) -> None:
    use_up(system)
    (letter,) = dead_of(system)
    answer = the_answer(system)
    assert (answer.status, *error_of(answer.body)) == (
        Status.FAILED,
        "ConnectionError",
        f"no route (tried 3 times); kept as dead letter {letter.id}, see: cbw dead show {letter.id}",
    )
    assert (letter.kind, letter.error) == ("ConnectionError", "no route (tried 3 times)")
    shown = Control(system).ask(dead_services.SHOW, id=letter.id)
    tries = [(each["worker"], each["reason"], each["traceback"]) for each in shown["attempts"]]
    assert tries == [("W1", "ConnectionError: no route", f"Traceback {used}") for used in range(3)]
    times = [(each["begun_ago_s"], each["ended_ago_s"]) for each in shown["attempts"]]
    assert times == sorted(times, reverse=True) and len(set(times)) == 3
    assert shown["body"] == "1"
    assert system.core.outbox.counts["dead_letters_kept"] == 1


def test_its_client_does_not_see_the_traceback(system: CoreSystem) -> None:
    use_up(system)
    assert b"Traceback" not in the_answer(system).body


@pytest.mark.parametrize("status", [Status.BAD_REQUEST, Status.CANCELLED, Status.EXPIRED, Status.OK])
def test_another_end_after_retries_is_nothing_to_keep(system: CoreSystem, status: Status) -> None:
    system.ask(1)
    fail(system)
    fail(system, status)
    assert len(dead_of(system)) == 0 and dead_of(system).stories.bytes == 0


def test_an_error_without_retries_is_nothing_to_keep(system: CoreSystem) -> None:
    system.ask(1)
    fail(system, Status.FAILED, traceback="")
    assert len(dead_of(system)) == 0
    assert error_of(the_answer(system).body) == ("ConnectionError", "no route")


def test_retries_that_the_deadline_ends_are_not_used_up(system: CoreSystem) -> None:
    system.ask(1, ttl=0.8)
    fail(system)
    fail(system)
    assert len(dead_of(system)) == 0
    assert "the deadline is before the next try" in error_of(the_answer(system).body)[1]


def test_none_are_kept_if_none_are_wanted() -> None:
    system = CoreSystem(dead_max=0)
    system.client("C1")
    system.worker("W1")
    use_up(system)
    assert error_of(the_answer(system).body) == ("ConnectionError", "no route (tried 3 times)")


def test_sent_again_it_has_all_its_tries_before_it_and_is_kept_once_if_they_fail_too(system: CoreSystem) -> None:
    use_up(system)
    control = Control(system)
    control.ask(dead_services.REQUEUE, all=True)
    fail(system)
    fail(system, Status.FAILED)
    (letter,) = control.list()
    assert (letter["requeued"], letter["attempts"], letter["client"]) == (1, 2, "C1")
    assert letter["error"] == "no route (tried 2 times)"


def test_sent_again_it_is_kept_if_it_fails_at_once_with_that_attempt(system: CoreSystem) -> None:
    use_up(system)
    control = Control(system)
    control.ask(dead_services.REQUEUE, all=True)
    fail(system, Status.FAILED, text="no luck", traceback="")
    (letter,) = control.list()
    assert (letter["requeued"], letter["attempts"], letter["error"]) == (1, 1, "no luck")


def test_crashes_and_retries_stand_in_one_story(system: CoreSystem) -> None:
    system.ask(1)
    fail(system)
    system.lose_worker("W1")
    system.take("W1")
    system.worker("W1", boot="b2")
    fail(system, Status.FAILED)
    (letter,) = dead_of(system)
    assert [each.reason for each in letter.attempts] == [
        "ConnectionError: no route",
        "lost its connection",
        "ConnectionError: no route",
    ]


# --- across a crash of the broker


def test_the_story_goes_on_after_a_crash() -> None:
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    fail(system)
    system.crash()
    system.client("C1")
    system.worker("W1")
    system.wait(0.6, "W1")
    fail(system)
    system.crash()
    system.client("C1")
    system.worker("W1")
    system.wait(0.6, "W1")
    fail(system, Status.FAILED)
    system.crash()
    (letter,) = dead_of(system)
    assert [each.traceback for each in letter.attempts] == [f"Traceback {used}" for used in range(3)]
    ends = [each.ended_at for each in letter.attempts]
    assert ends == sorted(ends)


def test_the_client_is_told_of_it_only_when_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.client("C1")
    system.worker("W1")
    system.store()
    system.ask(1)
    system.store()
    fail(system)
    system.store()
    fail(system, Status.FAILED)
    assert system.answers() == [] and len(dead_of(system)) == 1
    system.crash()
    assert len(dead_of(system)) == 0 and system.core.requests.count == 1, "and neither was lost"
    system.store()


def test_what_the_journal_needs_is_counted_with_the_stories() -> None:
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    journal = system.core.requests.journal
    assert journal is not None
    system.ask(1)
    before = journal._needed_bytes
    fail(system, traceback="x" * 1000)
    assert journal._needed_bytes > before + 1000
    system.tell(client_said(b"C1", [messages.Cancel(1), messages.Received([1])]))
    system.tell(client_said(b"C1", [messages.Received([1])]))  # the answer is parked only now
    assert journal._needed_bytes == 0 and dead_of(system).stories.bytes == 0


# --- bounds


def test_a_story_keeps_the_first_attempt_and_the_last_ones(system: CoreSystem) -> None:
    system.ask(1)
    for _ in range(ATTEMPTS_KEPT + 5):
        fail(system)
    (worker,) = system.core.workers.by_peer.values()
    (entry,) = worker.in_hand.values()
    found = [each.traceback for each in entry.failures or ()]
    assert len(found) == ATTEMPTS_KEPT
    assert found == ["Traceback 0", *(f"Traceback {used}" for used in range(6, ATTEMPTS_KEPT + 5))]


def test_what_a_worker_says_is_kept_but_not_without_end(system: CoreSystem) -> None:
    system.ask(1)
    fail(system, text="!" * 100_000, traceback="x" * 100_000)
    fail(system, Status.FAILED, text="!" * 100_000, traceback="x" * 100_000)
    (letter,) = dead_of(system)
    assert [len(each.traceback) for each in letter.attempts] == [TRACEBACK_CHARS_MAX] * 2
    assert dead_of(system).bytes < 100_000


def test_an_exception_with_a_long_text_is_remembered_in_short() -> None:
    system = CoreSystem()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    fail(system, text="!" * 100_000)
    (worker,) = system.core.workers.by_peer.values()
    (entry,) = worker.in_hand.values()
    assert entry.delay is not None and len(entry.delay.text) < 1000


def attempt(number: int, size: int = 1000) -> FailedAttempt:
    return FailedAttempt("W1", 1.0, 2.0, f"attempt {number}", "x" * size)


def test_stories_are_bounded_together() -> None:
    system = CoreSystem()
    system.client("C1")
    system.ask(*range(100))
    entries: list[Entry] = list(next(iter(system.core.clients.by_peer.values())).entries.values())
    stories = Stories(bytes_max=20_000)
    for number in range(3):
        for entry in entries:
            stories.add(entry, attempt(number))
    least = bytes_of([attempt(0, size=0)])
    assert stories.bytes <= 20_000 + len(entries) * least
    short = [entry for entry in entries if len(entry.failures or ()) == 1]
    assert short and all(each.failures == [attempt(2, size=0)] for each in short), "the last attempt is always told"
    for entry in entries:
        stories.forget(entry)
    assert stories.bytes == 0
    stories.forget(entries[0])
    assert stories.bytes == 0

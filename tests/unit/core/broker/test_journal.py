"""What is held back until it is stored, and what a broker knows that reads the journal of an earlier one."""

from __future__ import annotations

from typing import Any

from cbw.core import messages
from cbw.core.broker.events import JournalStored, PeerLost, Side
from cbw.core.journal_records import AttemptEnded, TaskBegun
from cbw.core.messages import Status
from cbw.wire.journal import decode_batch

from .journaled import Journaled
from .system import client_said, worker_said


def test_no_task_leaves_before_its_request_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    assert system.take_tasks("W1") == []
    system.store()
    assert [task.body for task in system.take_tasks("W1")] == [b"1"]


def test_no_answer_leaves_before_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.store()
    system.answer_all("W1")
    assert system.answers() == []
    system.store()
    assert system.answers() == [(1, Status.OK)]


def test_a_request_sent_again_while_its_answer_is_stored_is_not_run_again() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.store()
    system.answer_all("W1")
    system.ask(1)
    system.store()
    assert system.answers() == [(1, Status.OK)] and system.take_tasks("W1") == []
    system.ask(1)  # nor afterwards
    system.store()
    assert system.answers() == [(1, Status.OK)] and system.take_tasks("W1") == []


def test_an_acknowledged_answer_is_dropped() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1, 2)
    system.answer_all("W1")
    system.answer_all("W1")
    assert system.core.requests.parked.count == 2
    system.tell(client_said(b"C1", [messages.Received([1, 2, 3])]))
    assert system.core.requests.parked.count == 0
    system.wait(0.2, "W1")
    system.crash()
    assert system.core.requests.parked.count == 0


def test_what_waits_survives() -> None:
    system = Journaled()
    system.client("C1")
    system.ask(1, 2)
    system.ask(3, ttl=5.0)
    system.crash()
    system.client("C1")
    system.worker("W1", concurrency=3)
    assert system.bodies("W1") == [1, 2, 3]
    system.answer("W1", *[messages.Task(2000 + n, "s", b"%d" % (n + 1), None, 1) for n in range(3)])
    assert system.answers() == [(1, Status.OK), (2, Status.OK), (3, Status.OK)]


def test_a_deadline_goes_on_but_not_while_no_broker_runs() -> None:
    system = Journaled()
    system.client("C1")
    system.ask(1, ttl=5.0)
    system.wait(3.0)
    system.ask(2)  # the journal's clock is as late as its last batch
    system.crash(after_s=100.0)
    system.client("C1")
    system.wait(1.5)
    assert system.answers() == []
    system.wait(1.0)
    assert system.answers() == [(1, Status.EXPIRED)]


def test_a_client_that_asks_again_joins() -> None:
    system = Journaled()
    system.client("C1")
    system.ask(1)
    system.crash()
    system.client("C1")
    system.ask(1)
    system.worker("W1", concurrency=2)
    assert system.bodies("W1") == [1]


def test_a_stored_answer_survives_and_is_told_again() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.answer_all("W1")
    system.crash()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    assert system.answers() == [(1, Status.OK)] and system.bodies("W1") == []


def test_a_restarted_client_does_not_get_the_answers_of_its_predecessor() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1, 2)
    system.answer_all("W1")
    system.crash()
    system.client("C1", boot="another")
    system.worker("W1", boot="another")
    system.wait(5.0, "W1")
    assert system.answers() == [] and system.bodies("W1") == []
    assert system.core.requests.count == 0


def test_a_worker_goes_on_with_what_it_has_begun() -> None:
    system = Journaled()
    system.worker("W1", concurrency=2)
    system.client("C1")
    system.ask(1, 2)
    one, two = system.take_tasks("W1")
    system.wait(0.1, "W1")
    system.crash()
    system.client("C1")
    system.worker("W2", concurrency=2)
    assert system.bodies("W2") == [], "it waits for its worker"
    system.tell(worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 2, 2, [one.id])]))
    (welcome,) = [m for m in system.take("W1") if isinstance(m, messages.Welcome)]
    assert welcome.tasks == [one.id]
    assert system.bodies("W2") == [2], "what it had not begun goes to whoever is free"
    system.answer("W1", one)
    assert system.answers() == [(1, Status.OK)]
    assert two.body == b"2"


def test_a_worker_that_does_not_come_back_is_waited_for_no_longer_than_its_liveness() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.wait(0.1, "W1")
    system.crash()
    system.worker("W2")
    system.wait(2.9, "W2")
    assert system.bodies("W2") == []
    system.wait(0.5, "W2")
    (task,) = system.take_tasks("W2")
    assert (task.body, task.attempt) == (b"1", 2)


def test_failed_attempts_are_remembered() -> None:
    system = Journaled()
    system.client("C1")
    system.ask(1)
    for number in range(2):
        system.worker(f"W{number}")
        system.lose_worker(f"W{number}")
    system.wait(0.1)
    system.crash()
    system.client("C1")
    system.worker("W9")
    (task,) = system.take_tasks("W9")
    assert task.attempt == 3
    system.lose_worker("W9")
    assert system.answers() == [(1, Status.GAVE_UP)]


def test_an_answer_that_came_after_its_client_was_back_waits_for_its_receipt() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1, 2)
    system.tell(PeerLost(Side.CLIENT, b"C1"))
    system.answer_all("W1")
    system.client("C1")  # and does not ask for the answer to 1
    system.wait(2.0, "W1")
    system.answer_all("W1")
    system.wait(2.0, "W1")
    system.crash()
    system.client("C1")
    system.ask(2)
    assert system.answers() == [(2, Status.OK)]


def test_a_stalled_journal_refuses_and_says_why() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.store()
    system.ask(1)
    system.wait(1.0, "W1")
    assert system.answers() == []
    system.wait(2.0, "W1")
    system.ask(2)
    (answer,) = [m for m in system.take("C1") if isinstance(m, messages.Answer)]
    assert (answer.id, answer.status) == (2, Status.BUSY) and b"journal" in answer.body
    system.store()
    system.ask(2)
    system.store()
    assert system.bodies("W1") == [1]


def test_a_broker_that_stood_still_itself_refuses_nothing() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.store()
    system.ask(1)
    system.now += 10.0
    ((position, data),) = system.written
    system.stored[position] = data
    system.written.clear()
    system.tell(client_said(b"C1", [messages.Request(2, "s", b"2")]), JournalStored(position))
    system.store()
    assert system.answers() == []


def test_a_journal_that_stores_far_away_has_its_time_anew_when_the_broker_stood_still() -> None:
    """What is stored is heard only by the next answer of a server."""
    system = Journaled(is_slow=True)
    system.client("C1")
    system.ask(1)
    system.now += 10.0
    system.tell()
    system.now += 0.1
    system.ask(2)
    assert system.answers() == []
    for _ in range(5):
        system.now += 0.5
        system.tell()
    system.ask(3)
    system.now += 10.0
    system.ask(4)
    assert system.answers() == [(3, Status.BUSY), (4, Status.BUSY)]  # it was stalled before that, and is


def test_a_stalled_journal_is_noticed_by_a_broker_that_nobody_calls() -> None:
    system = Journaled(is_slow=True)
    system.client("C1")
    system.ask(1)
    until = system.now + 3.0
    while system.core.wake_at < until:
        system.now = system.core.wake_at
        system.tell()
    system.now = until
    system.ask(2)
    assert system.answers() == [(2, Status.BUSY)]


def test_a_request_whose_deadline_passes_while_it_is_stored_is_never_handed_out() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.store()
    system.ask(1, ttl=0.5)
    system.wait(1.0, "W1")
    system.store()
    assert system.bodies("W1") == [] and system.answers() == [(1, Status.EXPIRED)]


def test_a_client_that_is_gone_leaves_nothing_behind() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    system.ask(1, 2)
    system.store()
    system.answer_all("W1")
    system.tell(client_said(b"C1", [messages.Goodbye()]))
    system.store()
    system.is_slow = False
    system.wait(0.5, "W1")
    system.crash()
    assert (system.core.requests.count, system.core.requests.parked.count) == (0, 0)


def test_an_answer_that_is_pushed_out_before_its_client_has_asked_for_it_is_counted() -> None:
    system = Journaled(parked_bytes_max=1200)
    system.worker("W1", concurrency=4)
    system.client("C1")
    system.ask(1, 2, 3)
    tasks = system.take_tasks("W1")
    system.tell(PeerLost(Side.CLIENT, b"C1"))
    system.answer("W1", *tasks[:2])
    system.client("C1")
    system.answer("W1", tasks[2])
    assert system.core.outbox.counts["answers_dropped"] == 1


def test_answers_are_kept_for_their_time() -> None:
    system = Journaled(answers_keep_s=100.0, absence_s=10.0)
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.answer_all("W1")
    system.tell(PeerLost(Side.CLIENT, b"C1"))
    system.wait(90.0, "W1")
    assert system.core.requests.parked.count == 1
    system.wait(15.0, "W1")
    assert system.core.requests.parked.count == 0


def test_a_task_that_ends_at_once_is_not_written_as_begun() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.answer_all("W1")
    system.wait(1.0, "W1")
    assert records_of(system, TaskBegun) == []


def test_a_task_is_written_as_begun_when_it_has_run_for_a_while_whatever_else_is_written() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.wait(0.004, "W1")
    system.ask(2)
    assert records_of(system, TaskBegun) == []
    system.wait(0.002, "W1")
    (begun,) = records_of(system, TaskBegun)
    assert begun.worker == "W1"
    system.wait(1.0, "W1")
    assert len(records_of(system, TaskBegun)) == 1


def test_an_attempt_that_fails_at_once_was_begun_before_it_ended() -> None:
    system = Journaled()
    system.worker("W1")
    system.client("C1")
    system.ask(1)
    system.tell(PeerLost(Side.WORKER, b"W1"))
    system.wait(4.0)
    kinds = [type(record) for record in records_of(system, TaskBegun | AttemptEnded)]
    assert kinds == [TaskBegun, AttemptEnded]


def records_of(system: Journaled, kind: Any) -> list[Any]:
    """What was written of this kind, oldest first."""
    batches = [decode_batch(position, data) for position, data in system.stored.items()]
    return [record for batch in batches for record in batch.records if isinstance(record, kind)]

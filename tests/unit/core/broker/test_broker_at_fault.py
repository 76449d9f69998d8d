"""What the broker itself delayed or could not send is blamed on nobody else."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.messages import Status
from cbw.wire import native
from tests.unit.core.broker.system import CoreSystem, worker_said


class TestTheBrokerItself:
    def test_when_it_has_stood_still_nobody_elses_silence_counts(self, system: CoreSystem) -> None:
        """What they have said meanwhile has not been read."""
        for number in range(5):
            system.worker(f"W{number}")
        system.wait(1, *(f"W{number}" for number in range(5)))
        system.now += 60
        system.tell()
        for number in range(5):
            system.tell(worker_said(b"W%d" % number, [messages.Beat()]))
        system.wait(1, *(f"W{number}" for number in range(5)))
        assert len(system.core.workers.by_peer) == 5
        system.wait(5)
        assert not system.core.workers.by_peer

    def test_tasks_that_were_never_sent_blame_nobody(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2, credit=2)
        system.ask(1, 2)
        sent, unsent = system.take_tasks("W1")
        system.tell(events.PeerUnread(events.Side.WORKER, b"W1", [unsent], native.WORKER))
        assert system.core.outbox.counts["attempts_failed"] == 1
        assert system.core.outbox.counts["tasks_returned"] == 1
        system.worker("W2", concurrency=2, credit=2)
        assert [(task.body, task.attempt) for task in system.take_tasks("W2")] == [(sent.body, 2), (unsent.body, 1)]

    def test_answers_that_two_batches_could_not_deliver_are_kept(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2, credit=2)
        system.ask(1, 2)
        system.answer_all("W1")
        system.take("C1")
        answers = (messages.Answer(number, Status.OK, b"") for number in (1, 2))
        system.tell(*(events.Undelivered(events.Side.CLIENT, b"C1", [answer]) for answer in answers))
        system.client(peer="C1b")
        system.ask(1, 2, client="C1b")
        assert system.answers("C1b") == [(1, Status.OK), (2, Status.OK)]

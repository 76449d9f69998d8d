"""What a broker may still say whose journal another one has taken, before it finds that out (G8): nothing that is not stored."""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.messages import Status
from cbw.core.plain_messages import PlainReply, PlainRequest, PlainTask

from .account import SeenAttempt
from .checker import Checker
from .network import Connection
from .wishes import OWN
from .workers import read_body

RESULTS = (Status.OK, Status.FAILED, Status.GAVE_UP, Status.STREAMED)
"""Answers to what was accepted. The others may be those of a broker that does not accept a request."""

REFUSALS = (Status.BUSY, Status.BROKEN)
"""Of a stream that its client has asked for again: the broker does not accept it, or has sent parts of it that are lost."""


class FencedChecker(Checker):
    """Takes the place of ``before``, which has watched the broker while it was the owner."""

    def __init__(self, before: Checker) -> None:
        super().__init__(before.world, before.plan, before.network, before.broker, before.programs, before.durability)
        self.workers = before.workers
        self.plain_workers, self.plain_clients = before.plain_workers, before.plain_clients
        self.plain_tokens, self.questions = before.plain_tokens, before.questions
        for request in self.durability.take_withheld():
            self._is_not_stored(request)
        for request in (*self.durability.take_unsent(), *self.plain_tokens):
            self._is_not_stored(request)

    def _is_not_stored(self, request: int) -> None:
        """What a program of the lab has asked is lost, unless it is stored: it cannot know that, and asks nobody else."""
        if request in self.plain_tokens and self.durability.is_lost_with_fenced(request):
            self.excuse(self.plain_tokens[request], "its broker had lost the journal")

    def facts(self, facts: list[events.Event]) -> None:
        """Whatever it hears."""
        plain_id = self.broker.core.clients.next_plain_id
        for fact in facts:
            if isinstance(fact, events.ClientSaid):
                for message in fact.messages:
                    if isinstance(message, PlainRequest):
                        self.plain_tokens[plain_id] = read_body(message.body)[0]
                        self.questions.become_request(plain_id)
                        self._is_not_stored(plain_id)
                        plain_id += 1

    def step(self, facts: list[events.Event], orders: list[events.Event]) -> None:
        for record in self.broker.core.outbox.take_records():
            if record.event == "handed_out":
                request = int(record.request.rpartition("/")[2])
                token = self.plain_tokens.get(request) or self.programs.asked[request][0]
                attempt = SeenAttempt(record.task, request, token, self.world.now, record.worker, void="fenced")
                self.attempts[record.task] = attempt
        for order in orders:
            if isinstance(order, events.SendToWorker):
                for message in order.messages:
                    if isinstance(message, PlainTask):
                        worker = self.broker.core.workers.by_peer[order.peer]
                        self._plain_tasks[id(message)] = (message, next(iter(worker.in_hand)))

    def answers_sent(self, batch: Sequence[messages.Message], connection: Connection) -> None:
        for message in batch:
            if isinstance(message, messages.Answer):
                self._answers(message, self.programs.asked[message.id][0])
                if message.status is Status.BUSY:
                    self.programs.refused_by_fenced[message.id] = None

    def plain_reply_sent(self, message: PlainReply) -> str:
        token = self.plain_reply(message)
        self._answers(message.answer, token)
        return token

    def _answers(self, answer: messages.Answer, token: str) -> None:
        """The broker says this to the client that has asked for ``token``. What only looks at it is not to be stored."""
        if self.jobs[token].kind == OWN:
            return
        durable, status = self.durability.durable, answer.status
        waiting = {note.id: note for note in durable.requests.values()}
        is_fair = answer.id not in waiting or status in REFUSALS
        self.need(is_fair, f"G8: a fenced broker answers {token} ({status.name}), which has not ended")
        is_known = status not in RESULTS or answer.id in durable.accepted_ids
        self.need(is_known, f"G8: a fenced broker answers {token} ({status.name}), which is not stored")
        if (number := durable.answered_ids.get(answer.id)) is not None:
            is_stored = durable.answers[number].answer == (int(status), bytes(answer.body))
            self.need(is_stored, f"G8: a fenced broker gives {token} another answer than the stored one")

    def check(self) -> None:
        """It is no longer looked into."""

    def sample(self) -> None:
        """Nobody relies on it."""

    def broker_died(self) -> None:
        """Nothing is lost with it: what it had not stored was lost before."""
        self.questions.broker_died()

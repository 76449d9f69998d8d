"""What a broker may still say whose journal another one has taken, before it finds that out (G8): nothing that is not stored."""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.messages import Status

from .account import SeenAttempt
from .checker import Checker
from .network import Connection

RESULTS = (Status.OK, Status.FAILED, Status.GAVE_UP, Status.STREAMED)
"""Answers to what was accepted. The others may be those of a broker that does not accept a request."""

REFUSALS = (Status.BUSY, Status.BROKEN)
"""Of a stream that its client has asked for again: the broker does not accept it, or has sent parts of it that are lost."""


class FencedChecker(Checker):
    """Takes the place of ``before``, which has watched the broker while it was the owner."""

    def __init__(self, before: Checker) -> None:
        super().__init__(before.world, before.plan, before.network, before.broker, before.programs, before.durability)
        self.workers = before.workers

    def facts(self, facts: list[events.Event]) -> None:
        """Whatever it hears."""

    def step(self, facts: list[events.Event], orders: list[events.Event]) -> None:
        for record in self.broker.core.outbox.take_records():
            if record.event == "handed_out":
                request = int(record.request.rpartition("/")[2])
                token = self.programs.asked[request][0]
                attempt = SeenAttempt(record.task, request, token, self.world.now, record.worker, void="fenced")
                self.attempts[record.task] = attempt

    def answers_sent(self, batch: Sequence[messages.Message], connection: Connection) -> None:
        durable = self.durability.durable
        waiting = {note.id: note for note in durable.requests.values()}
        for message in batch:
            if isinstance(message, messages.Answer):
                token, status = self.programs.asked[message.id][0], message.status
                is_fair = message.id not in waiting or status in REFUSALS
                self.need(is_fair, f"G8: a fenced broker answers {token} ({status.name}), which has not ended")
                is_known = status not in RESULTS or message.id in durable.accepted_ids
                self.need(is_known, f"G8: a fenced broker answers {token} ({status.name}), which is not stored")
                if (number := durable.answered_ids.get(message.id)) is not None:
                    is_stored = durable.answers[number].answer == (int(status), bytes(message.body))
                    self.need(is_stored, f"G8: a fenced broker gives {token} another answer than the stored one")

    def check(self) -> None:
        """It is no longer looked into."""

    def sample(self) -> None:
        """Nobody relies on it."""

    def broker_died(self) -> None:
        """Nothing is lost with it."""

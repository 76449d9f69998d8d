"""Planted bugs in how brokers share a journal on NATS servers. Importing this adds them to the others."""

from __future__ import annotations

import random

from cbw.core.broker.req_workers import ReqWorkers
from cbw.journal.stream_journal import Outcome, PublishReply, StreamJournal

from .canary import Patch, canary
from .drawing import share_journal
from .plan import Plan
from .standby import StreamPort


def _owners_that_change(plan: Plan) -> None:
    """Brokers share a journal, whose servers lose answers, and of which they lose sight."""
    _shared(plan, "owner lost", "servers lose answers")


def _shared(plan: Plan, *faults: str, has_lab: bool = False) -> None:
    if plan.workers and plan.clients:
        share_journal(plan, random.Random(plan.seed), has_lab=has_lab)
        plan.rates = dict.fromkeys(faults, 0.7)


def _owners_of_the_lab(plan: Plan) -> None:
    """Brokers share a journal, and only programs of the lab ask for something."""
    _shared(plan, "owner lost", "servers lose answers", has_lab=True)
    for client in plan.clients:
        client.bursts.clear()


@canary("G8", _owners_that_change)
def an_append_without_an_answer_is_taken_for_done() -> list[Patch]:
    """As if it were stored."""
    outcome = StreamJournal._outcome

    async def hope(self: StreamJournal, reply: PublishReply, data: bytes) -> Outcome:
        return Outcome.STORED if reply is PublishReply.NONE else await outcome(self, reply, data)

    return [(StreamJournal, "_outcome", hope)]


@canary("G8", _owners_that_change)
def an_append_without_an_answer_is_taken_for_failed() -> list[Patch]:
    """It is written again behind what is in its place, which may be itself."""
    outcome = StreamJournal._outcome

    async def despair(self: StreamJournal, reply: PublishReply, data: bytes) -> Outcome:
        found = await outcome(self, reply, data)
        if reply is PublishReply.NOT_NEXT and found is Outcome.STORED:
            self._last += 1
            return Outcome.UNKNOWN
        return found

    return [(StreamJournal, "_outcome", despair)]


@canary("G8", _owners_that_change)
def the_message_of_another_owner_is_overlooked() -> list[Patch]:
    """Whoever has written in its place, an append counts as stored."""

    async def trust(self: StreamJournal, reply: PublishReply, data: bytes) -> Outcome:
        return Outcome.UNKNOWN if reply is PublishReply.NONE else Outcome.STORED

    return [(StreamJournal, "_outcome", trust)]


@canary("G8", _owners_that_change)
def a_standby_does_not_read_the_end() -> list[Patch]:
    """It begins when it has read all but the last messages."""
    read_some = StreamJournal.read_some

    async def hurry(self: StreamJournal) -> list[tuple[int, bytes]] | None:
        self._reading = max(self._reading, self._epoch) if self._reading >= self._epoch - 2 else self._reading
        return await read_some(self)

    return [(StreamJournal, "read_some", hurry)]


def _old_news(plan: Plan) -> None:
    _shared(plan, "servers tell old news", "servers lose answers")


@canary("G8", _old_news)
def an_old_read_is_taken_for_the_end() -> list[Patch]:
    """What is not seen in the place of an append is not there, so it was somebody else's."""
    outcome = StreamJournal._outcome

    async def believe(self: StreamJournal, reply: PublishReply, data: bytes) -> Outcome:
        found = await outcome(self, reply, data)
        return Outcome.OTHER if reply is PublishReply.NOT_NEXT and found is Outcome.UNKNOWN else found

    return [(StreamJournal, "_outcome", believe)]


@canary("G", _owners_that_change)
def a_fenced_owner_answers() -> list[Patch]:
    """It goes on as if what it has appended last were stored."""

    def go_on(self: StreamPort, error: str) -> None:
        self.are_stored(len(self._waiting))

    return [(StreamPort, "end_with", go_on)]


@canary("stuck", _owners_that_change)
def a_standby_waits_for_ever() -> list[Patch]:
    """It takes nothing that somebody has had."""
    take = StreamJournal._takeable_end

    async def shy(self: StreamJournal, *arguments: object, **options: object) -> object:
        end = await take(self, *arguments, **options)  # type: ignore[arg-type]
        return None if end is not None and end.messages > 5 else end

    return [(StreamJournal, "_takeable_end", shy)]


@canary("G8", _old_news)
def an_owners_own_message_is_taken_for_anothers() -> list[Patch]:
    """It was stored without an answer."""

    async def startle(self: StreamJournal) -> bool:
        found = await self._stream.last_owner()
        return found is not None and found > self._last_owner

    return [(StreamJournal, "_is_fenced", startle)]


@canary("G", _owners_of_the_lab)
def a_fenced_owner_replies_to_the_lab() -> list[Patch]:
    """As one that answers clients of ours."""
    return a_fenced_owner_answers()


@canary("G8", _owners_of_the_lab)
def a_new_owner_does_not_know_the_labs_workers() -> list[Patch]:
    """They registered with an earlier one, and say nothing."""

    def forget(self: ReqWorkers, peer: bytes, dialect: object) -> None:
        pass

    return [(ReqWorkers, "restore", forget)]

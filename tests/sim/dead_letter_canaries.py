"""Planted bugs in what becomes of requests that are given up. Importing this adds them to the other canaries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from cbw.core.broker.dead_letters import DeadLetters
from cbw.core.broker.journal import Journal
from cbw.core.broker.tables import DeadLetter

from .canary import Patch, canary, without_check
from .plan import JournalPlan, Plan


def _poison(plan: Plan) -> None:
    """Every third request kills its worker, and there is room for three dead letters."""
    plan.limits = msgspec.structs.replace(plan.limits, attempts_max=1, dead_max=3, dead_bytes_max=1 << 20)
    bursts = [client.bursts for client in plan.clients] + [client.bursts for client in plan.plain_clients]
    for _, jobs in [burst for each in bursts for burst in each]:
        for job in jobs[::3]:
            job.kind = "die"


def _poison_for_brokers_that_die(plan: Plan) -> None:
    _poison(plan)
    plan.journal = JournalPlan((0.0005, 0.002), slack_bytes=0, compact_bytes=1, rewrite_bytes=1)
    plan.rates["broker crash"] = 0.6


@canary("G5", _poison)
def what_was_given_up_is_not_kept() -> list[Patch]:
    """Its client is told, and that is all."""
    return without_check((DeadLetters, "keep", lambda self, entry, kind, error, last=None: ""))


@canary("G5", _poison)
def dead_letters_lose_their_bodies() -> list[Patch]:
    """What could be sent again is not there."""
    add = DeadLetters._add

    def strip(self: DeadLetters, letter: DeadLetter) -> None:
        letter.body = b""
        add(self, letter)

    return [(DeadLetters, "_add", strip)]


@canary("G5", _poison)
def the_youngest_dead_letter_gives_way() -> list[Patch]:
    """Those that nobody has dropped for long stay."""

    def push_out(self: Any) -> None:
        while len(self) > self._limits.dead_max:
            letter = list(self)[-1]
            self.drop(letter)
            self._tell_lost(letter, f"{letter.id}, the youngest")

    return [(DeadLetters, "_push_out", push_out)]


@canary("G9", _poison)
def dead_letters_pile_up() -> list[Patch]:
    """None has to give way."""
    return without_check((DeadLetters, "_push_out", lambda self: None))


@canary("G5", _poison_for_brokers_that_die)
def dead_letters_are_not_stored() -> list[Patch]:
    """They die with their broker."""
    return [(Journal, "keep", lambda self, letter: None)]


@canary("G5", _poison_for_brokers_that_die)
def dead_letters_are_not_written_again() -> list[Patch]:
    """A compaction of the journal drops them."""
    write_again = Journal._write_again

    def forget(self: Journal, item: Any) -> int:
        return 100 if isinstance(item, DeadLetter) else write_again(self, item)

    return [(Journal, "_write_again", forget)]


@canary("G5", _poison_for_brokers_that_die)
def dropped_dead_letters_come_back() -> list[Patch]:
    """It is not stored that they were dropped."""
    drop = Journal.drop

    def keep(self: Journal, numbers: Iterable[int]) -> None:
        drop(self, [number for number in numbers if not isinstance(self._needed.get(number), DeadLetter)])

    return [(Journal, "drop", keep)]

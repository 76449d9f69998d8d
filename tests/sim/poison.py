"""Requests that take their workers down: they are given up, and kept as dead letters, as many as there is room for (G5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cbw.core.broker.core import BrokerCore
from cbw.core.record import Record

from .account import Accepted
from .durability import Durability
from .plan import Job, Plan
from .world import ViolationError, World

EVIL = ("die", "hang")
LETTER_BYTES = (500, 12_000)
"""What a dead letter takes beside its body, at least and at most: its longest texts have four bytes a character."""
AMPLE_BYTES = 1 << 26
"""With room for so much, every story is told whole."""
EXACTNESS_S = 1e-6
"""Times that were added up in another order may differ by so much."""


@dataclass(eq=False)
class KeptLetter:
    """A dead letter that is kept. ``at`` is when its request was given up, by the journal's clock."""

    request: str
    at: float
    body_bytes: int


class Poison:
    """The dead letters of the broker that lives, by their names and oldest first: an account of its own."""

    def __init__(self, world: World, plan: Plan, durability: Durability) -> None:
        self._world = world
        self._plan = plan
        self._durability = durability
        self._letters: dict[str, KeptLetter] = {}
        self._dropped_at: dict[str, float] = {}
        self._accounted: dict[str, None] = {}  # requests that are about to be given up: where they are was told

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(text)

    # --- the broker's trace

    def heard(self, record: Record, accepted: Accepted | None, job: Job | None, core: BrokerCore) -> None:
        """Of a dead letter. ``accepted`` and ``job`` are its request, if that has not ended."""
        if record.event == "dead_letter_kept":
            assert accepted is not None and job is not None
            self._kept(record, accepted, job, core)
        elif record.event == "dead_letter_pushed_out":
            self._pushed_out(record, job)

    def _kept(self, record: Record, accepted: Accepted, job: Job, core: BrokerCore) -> None:
        name = record.text.partition(":")[0]
        self.need(name not in self._letters, f"G5: two dead letters are called {name}")
        self._letters[name] = KeptLetter(record.request, self._world.now + self._durability.offset_s, len(job.body))
        self._accounted[record.request] = None
        self._world.counts["dead letters"] += 1
        if (letter := core.requests.dead.get(name)) is not None:
            self.need(bytes(letter.body) == job.body, f"G5: dead letter {name} has another body than {accepted.token}")
            told = [attempt.worker for attempt in letter.attempts]
            attempts = accepted.attempts
            workers = [attempt.worker for attempt in attempts if attempt.void in ("failed", "retried")]
            if not attempts[-1].void:  # its handler has failed, and its retries are used up
                workers.append(attempts[-1].worker)
            is_right = told == workers
            if self._plan.limits.dead_bytes_max < AMPLE_BYTES:  # there may not have been room for the whole story
                rest = iter(workers)
                is_right = told[-1:] == workers[-1:] and all(worker in rest for worker in told)
            self.need(is_right, f"G5: dead letter {name} of {accepted.token} tells of {told}, not of {workers}")

    def _pushed_out(self, record: Record, job: Job | None) -> None:
        limits = self._plan.limits
        name = record.text.partition(",")[0]
        letter = self._letters.get(name)
        if letter is None:
            self.need(job is not None, f"G5: the dead letter of {record.request} is dropped, and was not kept")
            size = LETTER_BYTES[1] + (len(job.body) if job is not None else 0)
            self.need(size > limits.dead_bytes_max, f"G5: {record.request} is not kept, though it is small")
            self._accounted[record.request] = None
            return
        is_full = len(self._letters) > limits.dead_max or self._bytes(LETTER_BYTES[1]) > limits.dead_bytes_max
        self.need(is_full, f"G5: dead letter {name} is pushed out, though there is room")
        oldest_at = min(each.at for each in self._letters.values())
        self.need(letter.at <= oldest_at + EXACTNESS_S, f"G5: dead letter {name} is pushed out, and is not the oldest")
        del self._letters[name]
        self._dropped_at[name] = self._world.now
        self._world.counts["dead letters pushed out"] += 1

    def _bytes(self, letter_bytes: int) -> int:
        return sum(letter_bytes + letter.body_bytes for letter in self._letters.values())

    def gave_up(self, request: str, accepted: Accepted, job: Job) -> None:
        """As often as is allowed, and of those that did nothing, at most one was only near to one that did."""
        failed = [attempt for attempt in accepted.attempts if attempt.void == "failed"]
        limits, counts = self._plan.limits, self._world.counts
        self.need(len(failed) == limits.attempts_max, f"G5: {accepted.token} was given up after {len(failed)} attempts")
        is_accounted = request in self._accounted or limits.dead_max == 0
        self.need(is_accounted, f"G5: {accepted.token} was given up, and is not kept as a dead letter")
        self._accounted.pop(request, None)
        counts["given up"] += 1
        if job.kind in EVIL:
            return
        counts["innocents given up"] += 1
        idle = [a.task for a in failed if a.is_in_pool and a.began_at is None and not a.is_excused]
        self.need(len(idle) <= 1, f"G5: {accepted.token} is innocent and was given up; attempts {idle} never began")

    # --- the broker's table

    def check(self, core: BrokerCore) -> None:
        """It has what was kept and not pushed out, and that is not too much."""
        limits, dead = self._plan.limits, core.requests.dead
        if not self._letters and not dead:
            return
        names = [letter.id for letter in dead]
        self.need(names == list(self._letters), f"G5: the dead letters are {names}, not {list(self._letters)}")
        is_bounded = len(names) <= limits.dead_max and self._bytes(LETTER_BYTES[0]) <= limits.dead_bytes_max
        self.need(is_bounded, f"G9: {len(names)} dead letters of {dead.bytes} bytes")

    # --- a broker dies, another reads the journal

    def broker_died(self) -> None:
        """A dead letter is stored with the end of its request."""
        durable = self._durability.durable
        stored = {letter.name for letter in durable.letters.values()}
        waiting = {f"{note.client}/{note.id}" for note in durable.requests.values()}
        for name, letter in self._letters.items() if self._durability.disk is not None else ():
            has_ended = int(letter.request.rpartition("/")[2]) in durable.accepted_ids and letter.request not in waiting
            self.need(name in stored or not has_ended, f"G5: dead letter {name} is lost, but its request has ended")
        self._letters.clear()
        self._accounted.clear()

    def recovered(self, core: BrokerCore) -> None:
        """The new broker has read what is stored. It may push the oldest out at once, and says so in its next step."""
        stored = {letter.name: letter for letter in self._durability.durable.letters.values()}
        names = [letter.id for letter in core.requests.dead]
        self._letters = {}
        for name in self._oldest_first([name for name in stored if name not in names]) + names:
            # Every batch says all that was dropped before it.
            is_fair = name in stored and self._dropped_at.pop(name, math.inf) >= self._durability.durable.at
            self.need(is_fair, f"G5: dead letter {name} is back, though it was dropped")
            kept, body = stored[name], b"".join(stored[name].body)
            self._letters[name] = KeptLetter(f"{kept.client}/{kept.request}", kept.died_at, len(body))
            if (letter := core.requests.dead.get(name)) is not None:
                is_same = (bytes(letter.body), letter.error) == (body, kept.error)
                self.need(is_same, f"G5: dead letter {name} has changed in the journal")
                told = [attempt.worker for attempt in letter.attempts]
                self.need(told == [a.worker for a in kept.attempts], f"G5: dead letter {name} tells of {told} now")

    def _oldest_first(self, names: Sequence[str]) -> list[str]:
        at = {letter.name: letter.died_at for letter in self._durability.durable.letters.values()}
        return sorted(names, key=at.__getitem__)

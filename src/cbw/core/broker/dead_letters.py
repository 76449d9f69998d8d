"""Dead letters: requests that were given up, kept with their bodies and stories until somebody sends them again or drops them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from cbw.core import catalogue
from cbw.core.broker.journal import Journal
from cbw.core.broker.journal_items import story_bytes
from cbw.core.broker.limits import Limits
from cbw.core.broker.memory import memory_of_body
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.stories import Stories, attempt_of, bytes_of
from cbw.core.broker.tables import ClientRow, DeadLetter, Entry, TicketRow, WorkerRow, request_name
from cbw.core.headers import memory_of_headers
from cbw.core.journal_records import Asker, FailedAttempt
from cbw.core.messages import Answer, Request, error_of
from cbw.core.plain_messages import Envelope
from cbw.wire import native

LETTER_BYTES = 800
"""What a dead letter takes beside its body, attempts and texts (measured: 530 bytes, and its places in the journal's tables)."""
ERROR_CHARS_MAX = 1000
"""Longest error of a dead letter, in characters."""
NOBODY = Asker("", "", b"", "dead letters")
"""Who asks for a dead letter that is sent again, as the journal writes it: no client has such a dialect."""


class Filter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which dead letters are meant: those that meet all that is given. Ages are in seconds since a request was given up.

    ``error`` is a part of the error, of its kind, or of the reason of any attempt, in any case of letters.
    """

    ids: list[str] | None = None
    service: str | None = None
    error: str | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    def chooses(self, letter: DeadLetter, now: float) -> bool:
        """Whether ``letter`` meets everything but ``ids``."""
        if self.service is not None and letter.service != self.service:
            return False
        age_s = now - letter.died_at
        if not (self.older_than_s or 0.0) <= age_s <= (math.inf if self.newer_than_s is None else self.newer_than_s):
            return False
        return self.error is None or self._is_in_error(self.error.casefold(), letter)

    def _is_in_error(self, part: str, letter: DeadLetter) -> bool:
        texts = (letter.kind, letter.error, *(attempt.reason for attempt in letter.attempts))
        return any(part in text.casefold() for text in texts)

    @property
    def is_empty(self) -> bool:
        """Whether it chooses everything."""
        return not any(getattr(self, name) is not None for name in Filter.__struct_fields__)


class DeadLetters:
    """The dead letters of a broker, bounded by their number and by the bytes that they take: the oldest gives way.

    ``boot`` begins their ids, so that no two broker starts give the same.
    """

    def __init__(self, outbox: Outbox, limits: Limits, boot: str) -> None:
        self.bytes = 0
        self.journal: Journal | None = None
        """Where they are written, if the broker has one."""
        self.nobody = ClientRow("cbw.dead", "", b"", native.CLIENT)
        """The client of requests that are sent again from here. Nobody waits for their answers."""
        self.nobody.asker = NOBODY
        self.stories = Stories(limits.dead_bytes_max)
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()  # oldest first
        self._prefix = boot[:6]
        self._next = self._next_request = 1
        self._outbox = outbox
        self._limits = limits

    def __len__(self) -> int:
        return len(self._letters)

    # --- in

    def keep(self, entry: Entry, kind: str, error: str, last: FailedAttempt | None = None) -> str:
        """Keep ``entry``, which is about to end with this ``error``, as its ``last`` attempt has failed. Returns where it is, in
        words that go on after the error.
        """
        client, request, requeued = self._origin(entry)
        letter = DeadLetter(
            f"{self._prefix}-{self._next}",
            client,
            request,
            entry.request.service,
            entry.request.body,
            entry.accepted_at,
            self._outbox.now,
            kind[:ERROR_CHARS_MAX],
            error[:ERROR_CHARS_MAX],
            [*(entry.failures or ()), *([last] if last is not None else ())],
            requeued,
            entry.request.priority,
            ticket=entry.client.ticket if type(entry.client) is TicketRow else "",
            headers=entry.request.headers,
        )
        if self._limits.dead_max == 0:
            return ""
        if (size := _bytes_of(letter)) > self._limits.dead_bytes_max:
            text = f"{size} bytes are too many to be kept as a dead letter (--dead-bytes-max)"
            self._tell_lost(letter, text)
            return f"; {text}"
        self._next += 1
        outbox = self._outbox
        outbox.counts["dead_letters_kept"] += 1
        text = f"{letter.id}: {letter.error}"
        outbox.trace(
            catalogue.DEAD_LETTER_KEPT,
            request=request_name(entry),
            client=client,
            service=letter.service,
            attempt=entry.attempt,
            text=text,
        )
        self._add(letter)
        if self.journal is not None:
            self.journal.keep(letter)
        self._push_out()
        return f"; kept as dead letter {letter.id}, see: cbw dead show {letter.id}"

    def keep_failed(self, entry: Entry, worker: WorkerRow, answer: Answer, tried: str) -> str:
        """Keep ``entry``, which is about to end with the error of its handler; ``tried`` is said behind that. Returns where."""
        kind, text = error_of(answer.body)
        last = attempt_of(entry, worker.name, self._outbox.now, answer.body)
        return self.keep(entry, kind, text + tried, last)

    def remember(self, entry: Entry, attempt: FailedAttempt) -> None:
        """``attempt`` has failed at ``entry``, which waits again."""
        before = story_bytes(entry.failures or ())
        self.stories.add(entry, attempt)
        if self.journal is not None:
            self.journal.attempt_failed(entry, attempt, story_bytes(entry.failures or ()) - before)

    def restore(self, letters: list[DeadLetter]) -> None:
        """These stand in the journal."""
        for letter in sorted(letters, key=lambda letter: letter.died_at):
            self._add(letter)
        self._push_out()

    def is_requeued(self, entry: Entry) -> bool:
        """Whether ``entry`` was sent again from here."""
        return entry.client is self.nobody or (type(entry.client) is TicketRow and bool(entry.envelope))

    def _origin(self, entry: Entry) -> tuple[str, int, int]:
        """Whose request it was at first, its id there, and how often it has been sent again."""
        if not self.is_requeued(entry):
            return entry.client.name, entry.request.id, 0
        client, request, requeued = entry.envelope
        return client.decode(), int(request), int(requeued)

    def _add(self, letter: DeadLetter) -> None:
        self._letters[letter.id] = letter
        self.bytes += _bytes_of(letter)

    # --- out

    def find(self, chosen: Filter) -> list[DeadLetter]:
        """The letters that are chosen, the oldest first, or in the order of the ids that ``chosen`` has."""
        now, letters = self._outbox.now, self._letters
        if chosen.ids is None:
            return [letter for letter in letters.values() if chosen.chooses(letter, now)]
        found = [letters[name] for name in dict.fromkeys(chosen.ids) if name in letters]
        return [letter for letter in found if chosen.chooses(letter, now)]

    def get(self, name: str) -> DeadLetter | None:
        """The dead letter with this id."""
        return self._letters.get(name)

    def drop(self, letter: DeadLetter) -> None:
        """Keep ``letter`` no longer."""
        del self._letters[letter.id]
        self.bytes -= _bytes_of(letter)
        if self.journal is not None:
            self.journal.drop([letter.number])

    def next_request(self, letter: DeadLetter, ttl: float | None) -> tuple[Request, Envelope]:
        """The request of :attr:`nobody` that sends ``letter`` again, and an envelope that tells whose it was."""
        while self._next_request in self.nobody.entries:
            self._next_request += 1
        origin = (letter.client.encode(), b"%d" % letter.request, b"%d" % (letter.requeued + 1))
        again = Request(self._next_request, letter.service, letter.body, ttl, letter.priority, None, letter.headers)
        return again, origin

    def _push_out(self) -> None:
        limits = self._limits
        while self.bytes > limits.dead_bytes_max or len(self._letters) > limits.dead_max:
            letter = next(iter(self._letters.values()))
            self.drop(letter)
            bounds = f"--dead-max {limits.dead_max}, --dead-bytes-max {limits.dead_bytes_max}"
            self._tell_lost(letter, f"{letter.id}, the oldest, as there are too many ({bounds})")

    def _tell_lost(self, letter: DeadLetter, text: str) -> None:
        self._outbox.counts["dead_letters_pushed_out"] += 1
        self._outbox.trace(
            catalogue.DEAD_LETTER_PUSHED_OUT,
            request=letter.request_name,
            client=letter.client,
            service=letter.service,
            text=text,
        )

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self._letters.values())


def _bytes_of(letter: DeadLetter) -> int:
    """The memory that ``letter`` takes; texts may have four bytes a character."""
    size = LETTER_BYTES + memory_of_body(letter.body) + memory_of_headers(letter.headers)
    return size + 4 * len(letter.error) + bytes_of(letter.attempts)

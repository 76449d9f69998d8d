"""The broker's side of its journal: what is written, what waits until that is stored, and what is still needed of it.

Three rules make an accepted request survive the broker (output commit):

1. A request is queued for workers only when its :class:`RequestAccepted` is stored.
2. An answer goes to its client only when its :class:`RequestEnded` is stored.
3. Nothing waits for any other record: they ride along.

Records that are needed no longer lie between others that are. When the journal has become much longer than what is needed of
it, the oldest that is still needed is written again at its end, and everything before is dropped. So there are no snapshots,
which would stop a broker that holds a million requests.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cbw.core.agenda import Agenda
from cbw.core.broker.events import AppendToJournal, CompactJournal
from cbw.core.broker.journal_items import (
    RECORD_BYTES,
    Finished,
    Needed,
    accepted_record,
    begun_record,
    delayed_record,
    failed_record,
    frames_of_body,
    letter_record,
    needed_size,
    size_of,
    stored_record,
)
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.replay import Replay
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, DeadLetter, Entry, ReqWorkerRow, WorkerRow
from cbw.core.journal_records import (
    AnswersDropped,
    AnyRecord,
    AttemptEnded,
    Batch,
    BrokerStarted,
    FailedAttempt,
    RequestDelayed,
    RequestEnded,
    WorkerForgotten,
    WorkerKnown,
)
from cbw.core.messages import Answer
from cbw.core.plain_messages import Envelope

SLACK_BYTES = 64 << 20
"""The journal may hold this much that is needed no longer, and as much again as is needed."""
COMPACT_BYTES = 4 << 20
"""Dropping less than this is not worth a write."""
PRESSED = 0.5
"""A journal that has taken this part of its room is kept shorter than one that has no bound."""
PRESSED_GARBAGE, FULL_GARBAGE = 1 / 8, 1 / 32
"""The part of such a journal, and of one that is full, that may be needed no longer: to get a byte of room, up to 8 or 32 are
written again."""
FULL, FULL_NO_MORE = 3 / 4, 5 / 8
"""New requests are refused from the first part of its room on, until less than the second is taken. What is left is for what
makes room: answers, what is dropped, and what is written again."""
REWRITE_BYTES = 1 << 20
"""Most that is written again in a turn, so that a broker does not stand still for it."""
BEGUN_DELAY_S = 0.005
"""A task that was handed out is written when it has been with its worker for so long: most end earlier."""
DROPPED_DELAY_S = 0.05
"""How long it may take until it is written that something is needed no longer, or who has registered, if nothing else is."""
TOLD_S = 1.0
"""A reply to a client without sessions is stored for so long after it was sent: it may lie in a buffer when the broker dies.
But not one to a REQ socket, which has no other way than the order of replies to tell what each belongs to."""
STALLED_S = 2.0
"""If the oldest batch has waited for so long, new requests are refused until the journal goes on."""

_ENDED = RequestState.ENDED  # for each request: as messages.OK


class HandedOut(NamedTuple):
    """What a worker was given at that time."""

    at: float
    worker: WorkerRow
    entries: list[Entry]


class Turn(NamedTuple):
    """What waits for the batch at ``position``, which was given to the journal at ``since``."""

    position: int
    since: float
    accepted: list[Entry]
    finished: list[Finished]
    actions: list[Callable[[], None]]


class Journal:
    """Filled during a step by the rooms of the core; :meth:`close_turn` says at its end what is to be written."""

    def __init__(self, outbox: Outbox, agenda: Agenda) -> None:
        self.reported = ""
        """Why nothing can be stored at the moment, as the journal says; empty: it can."""
        self.position = self._started_at = 0
        """Of the last batch."""
        self.is_waited_for: Callable[[ClientRow], bool] = lambda client: False
        """Tells whether something waits until a client reads."""
        self.is_full = False
        """Whether so much of its room is taken that no new requests are."""
        self._filled = 0.0  # part of its room that is taken
        self._clock_offset = 0.0  # the journal's time is the broker's plus this
        self._next_number = 1
        self._records: list[AnyRecord] = []
        self._records_bytes = 0
        self._dropped: list[int] = []
        self._accepted: list[Entry] = []
        self._finished: list[Finished] = []
        self._actions: list[Callable[[], None]] = []
        self._turns: deque[Turn] = deque()  # given to the journal and not stored yet
        self._handed_out: deque[HandedOut] = deque()  # not written yet
        self._needed: dict[int, Needed] = {}
        self._order: deque[tuple[int, int]] = (
            deque()
        )  # position and number of those, and of some that are needed no longer
        self._sizes: deque[tuple[int, int]] = deque()  # positions of batches, and their bytes
        self._bytes = self._needed_bytes = 0
        self._droppable_bytes = 0  # of batches that are needed no longer and not worth a write yet
        self._told: OrderedDict[tuple[ClientRow, int], tuple[float, int]] = (
            OrderedDict()
        )  # whose reply to which request: when it was sent, and its number; oldest first
        self._workers: dict[bytes, str] = {}
        self._workers_at = 0  # position at which the oldest of these was written
        self._outbox = outbox
        self._is_due = False
        self._is_stalled = False
        self._waits_anew_since = -math.inf
        self._write_timer = agenda.timer(self._write_soon)
        self._told_timer = agenda.timer(self._drop_told)

    # --- at the start

    def restore(self, replay: Replay, now: float) -> float:
        """Go on with a journal that says this; returns the journal's time minus the broker's."""
        self.position = self._started_at = replay.position
        self._clock_offset = replay.at - now
        self._next_number = replay.last_number + 1
        self._order.extend(zip(replay.written.values(), replay.written, strict=True))
        self._sizes.extend(replay.sizes)
        self._bytes = sum(size for _, size in replay.sizes)
        self._workers.update(replay.workers)
        self._workers_at = replay.sizes[0][0] if replay.sizes else 0
        return self._clock_offset

    def need(self, items: Iterable[Needed]) -> None:
        """``items`` stand in the journal, and are needed."""
        for item in items:
            self._needed[item.number] = item
            self._needed_bytes += needed_size(item)

    def _write(self, record: AnyRecord) -> None:
        self._records.append(record)
        self._records_bytes += size_of(record)

    def forget_unwanted(self, number: int) -> None:
        """The request ``number`` or its answer stands in the journal, and its client can never come back."""
        self._write(AnswersDropped([number]))

    # --- what is written

    def begin(self, broker: str, boot: str) -> None:
        """The first record of this broker."""
        self._write(BrokerStarted(broker, boot))

    def accept(self, entry: Entry) -> None:
        """``entry`` was accepted, and is queued when that is stored."""
        # For each request: all of this is spelt out.
        number = entry.number = self._next_number
        self._next_number = number + 1
        request = entry.request
        size = RECORD_BYTES + len(request.body)
        self._records.append(accepted_record(entry, self._clock_offset))
        self._records_bytes += size
        if request.delay_s:
            self._write(RequestDelayed(number, entry.accepted_at + request.delay_s + self._clock_offset))
        self._needed[number] = entry
        self._needed_bytes += size if request.headers is None else needed_size(entry)
        self._order.append((self.position + 1, number))
        self._accepted.append(entry)

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _need_from_here(self, item: Needed) -> None:
        """All that is to be known of ``item`` is among the records of this turn."""
        self.need((item,))
        self._order.append((self.position + 1, item.number))

    def begun(self, worker: WorkerRow, entries: list[Entry]) -> None:
        """``worker`` was given ``entries``."""
        now = self._outbox.now
        self._handed_out.append(HandedOut(now, worker, entries))
        self._write_timer.set_by(now + BEGUN_DELAY_S)

    def attempt_ends(self) -> None:
        """A worker that has a task in hand will not answer it: what follows is about an attempt that was begun."""
        self._write_begun(math.inf)

    def _write_begun(self, now: float) -> None:
        """Write which tasks have been with their workers for long enough; infinity: all that are."""
        handed_out = self._handed_out
        while handed_out:
            at, worker, entries = handed_out[0]
            is_due = at + BEGUN_DELAY_S <= now
            for entry in entries:
                if entry.worker is worker and entry.state is not _ENDED:
                    if not is_due:
                        self._write_timer.set_by(at + BEGUN_DELAY_S)
                        return
                    self._records.append(begun_record(worker, entry))
                    self._records_bytes += RECORD_BYTES
            handed_out.popleft()

    def waits_again(self, entry: Entry) -> None:
        """Its worker, which has it in hand up to now, will not answer it."""
        self.attempt_ends()
        self._note(AttemptEnded(entry.number, entry.attempt), BEGUN_DELAY_S)

    def attempt_failed(self, entry: Entry, attempt: FailedAttempt, growth: int) -> None:
        """``entry`` waits again after this ``attempt``. Its story takes ``growth`` bytes more than before."""
        self._needed_bytes += growth
        self._write(failed_record(entry.number, attempt, self._clock_offset))

    def delayed(self, entry: Entry) -> None:
        """Its handler wants to be called again, later."""
        self._note(delayed_record(entry, self._clock_offset), BEGUN_DELAY_S)

    def end(self, entry: Entry, answer: Answer | None) -> None:
        """``entry`` has ended. ``answer`` goes to its client when that is stored; None: nobody wants one."""
        # For each request: all of this is spelt out.
        number, client = entry.number, entry.client
        del self._needed[number]
        is_usual = entry.failures is None and entry.request.headers is None
        self._needed_bytes -= RECORD_BYTES + len(entry.request.body) if is_usual else needed_size(entry)
        if answer is None:
            self._note(RequestEnded(number, 0, (), is_stored=False), DROPPED_DELAY_S)
            return
        envelope = entry.envelope
        finished = Finished(number, client, envelope, answer, self._outbox.now)
        self._finished.append(finished)
        if not (client.dialect.has_sessions or can_tell_replies_apart(client, envelope) or client.is_away):
            self._write(RequestEnded(number, 0, (), is_stored=False))
            return
        body = answer.body
        size = RECORD_BYTES + len(body)
        frames = (body,) if type(body) is bytes else frames_of_body(body)
        self._records.append(RequestEnded(number, answer.status, frames, True, client.fingerprint))
        self._records_bytes += size
        self._needed[number] = finished
        self._needed_bytes += size

    def keep(self, letter: DeadLetter) -> None:
        """``letter`` is a new dead letter. It is stored with the end of its request."""
        letter.number = self._take_number()
        self._write(letter_record(letter, self._clock_offset))
        self._need_from_here(letter)

    def drop(self, numbers: Iterable[int]) -> None:
        """The answers to the requests of these ``numbers``, or the dead letters, are needed no longer."""
        needed, dropped = self._needed, self._dropped
        for number in numbers:
            stored = needed.pop(number, None)
            if stored is not None and type(stored) is not Entry:
                if type(stored) is Finished:  # the usual case
                    self._needed_bytes -= RECORD_BYTES + len(stored.answer.body)
                else:
                    self._needed_bytes -= needed_size(stored)
                dropped.append(number)
        if dropped:
            self._write_timer.set_by(self._outbox.now + DROPPED_DELAY_S)

    def told(self, client: ClientRow, request: int, number: int) -> None:
        """A client without sessions was sent its reply: it is stored a little longer."""
        now = self._outbox.now
        self._told[client, request] = (now, number)
        self._told_timer.set_by(now + TOLD_S)

    def _drop_told(self, now: float) -> None:
        while self._told:
            key, (told_at, number) = next(iter(self._told.items()))
            if told_at + TOLD_S > now:
                self._told_timer.set(told_at + TOLD_S)
                return
            del self._told[key]
            if self.is_waited_for(key[0]):  # it has not been sent yet
                self._told[key] = (now, number)
            else:
                self.drop([number])

    def store_again(self, client: ClientRow, envelope: Envelope, answer: Answer) -> int:
        """A reply to a client without sessions was not sent after all; returns its number, which may be another now."""
        told = self._told.pop((client, answer.id), None)
        if told is not None:
            return told[1]
        finished = Finished(self._take_number(), client, envelope, answer, self._outbox.now)
        self._note(stored_record(finished, self._clock_offset), DROPPED_DELAY_S)
        self._need_from_here(finished)
        return finished.number

    def knows_worker(self, worker: ReqWorkerRow) -> None:
        """``worker`` has to be known after a restart: it says no hello."""
        if worker.peer not in self._workers:
            if not self._workers:
                self._workers_at = self.position + 1
            self._workers[worker.peer] = worker.dialect.name
            self._note(WorkerKnown(worker.peer, worker.dialect.name), DROPPED_DELAY_S)

    def forgets_worker(self, peer: bytes) -> None:
        """Note that a worker of an earlier broker is not tried again."""
        if self._workers.pop(peer, None) is not None:
            self._note(WorkerForgotten(peer), DROPPED_DELAY_S)

    def _note(self, record: AnyRecord, within_s: float) -> None:
        """Write ``record`` with whatever is written next, or alone when ``within_s`` is over."""
        self._write(record)
        self._write_timer.set_by(self._outbox.now + within_s)

    def when_stored(self, action: Callable[[], None]) -> None:
        """Do ``action`` when everything that was written up to now is stored."""
        self._actions.append(action)

    # --- the end of a step

    def close_turn(self, now: float, *, is_prompt: bool = False) -> None:
        """Order what is to be written: at once if it ``is_prompt`` or somebody waits for it, otherwise when it is time."""
        # As of now: after the broker itself has stood still, requests are read before the news that all is stored.
        self._is_stalled = bool(self._turns) and now - max(self._turns[0].since, self._waits_anew_since) > STALLED_S
        is_awaited = self._accepted or self._finished or self._actions
        if is_awaited or is_prompt or self._is_due or self.position == self._started_at:
            self._write_timer.clear()
            self._write_begun(now)
            if self._dropped:
                self._write(AnswersDropped(self._dropped))
                self._dropped = []
            if self._records or self._actions or self._is_pressed:
                self._append(now)
        if self._is_pressed and not self._turns:
            self._write_timer.set_by(now + DROPPED_DELAY_S)

    def _write_soon(self, _now: float) -> None:
        self._is_due = True

    def _append(self, now: float) -> None:
        self._is_due = False
        compact_before = self._rewrite()
        if self._records or self._actions:
            self._append_records(now)
        if compact_before:
            self._outbox.order(CompactJournal(compact_before))

    def _append_records(self, now: float) -> None:
        position = self.position = self.position + 1
        records, self._records = self._records, []
        size, self._records_bytes = self._records_bytes, 0
        self._bytes += size
        self._sizes.append((position, size))
        self._turns.append(Turn(position, now, self._accepted, self._finished, self._actions))
        self._accepted, self._finished, self._actions = [], [], []
        self._outbox.order(AppendToJournal(position, Batch(now + self._clock_offset, records)))

    # --- what is stored

    def take_stored(self, position: int) -> Iterator[Turn]:
        """What has waited for batches up to ``position``, which are stored."""
        while self._turns and self._turns[0].position <= position:
            yield self._turns.popleft()

    def wait_anew(self, now: float) -> None:
        """The broker itself has stood still, and may hear only in a moment what was stored meanwhile."""
        if not self._is_stalled:
            self._waits_anew_since = now

    @property
    def is_waiting(self) -> bool:
        """Whether something that was given to the journal is not stored yet."""
        return bool(self._turns)

    @property
    def is_settled(self) -> bool:
        """Whether everything that was written is stored."""
        return not (self._turns or self._records)

    @property
    def problem(self) -> str:
        """Why nothing is stored, in words for clients; empty: it is."""
        if self._is_stalled and not self.reported:
            return f"the broker's journal has stored nothing for {STALLED_S:g} s"
        return self.reported

    @property
    def refusal(self) -> str:
        """Why no new requests are taken, in words for clients; empty: they are."""
        if not (self.reported or self._is_stalled or self.is_full):  # asked for each request
            return ""
        return self.problem or self.lack_of_room

    @property
    def lack_of_room(self) -> str:
        """What clients are told when the journal is full; empty: it is not."""
        return f"the broker's journal has taken {self._filled:.0%} of its room" if self.is_full else ""

    @property
    def holds_tasks(self) -> bool:
        """Whether tasks wait until everything is stored. Each will have an answer, and many at once need more room than there may
        be; none makes any before it is stored.
        """
        return self.is_full and not self.is_settled

    def fill(self, filled: float) -> None:
        """Note which part of the journal's room is ``filled``, from 0 to 1."""
        self._filled = filled
        self.is_full = filled > (FULL_NO_MORE if self.is_full else FULL)
        if self._is_pressed:
            self._write_timer.set_by(self._outbox.now + DROPPED_DELAY_S)

    @property
    def _is_pressed(self) -> bool:
        """Whether the journal has little room, and holds enough that is needed no longer to write some of the rest again."""
        return self._filled > PRESSED and self._bytes - self._needed_bytes > self._garbage_bytes_max

    @property
    def _garbage_bytes_max(self) -> float:
        """How much may be needed no longer in a journal that has little room."""
        return (FULL_GARBAGE if self.is_full else PRESSED_GARBAGE) * self._bytes

    # --- what is still needed

    def _rewrite(self) -> int:
        """Write again what keeps the journal long; returns before which position nothing is needed, if that is worth a write."""
        needed, order = self._needed, self._order
        position, rewritten = self.position + 1, 0
        is_long = self._is_pressed or self._bytes > 2 * self._needed_bytes + SLACK_BYTES
        while order:
            at, number = order[0]
            item = needed.get(number)
            if item is not None:
                if not is_long or at == position or rewritten > REWRITE_BYTES:
                    break
                rewritten += self._write_again(item)
                order.append((position, number))
            order.popleft()
        if is_long and self._workers and self._workers_at < (order[0][0] if order else position):
            self._workers_at = position
            for peer, dialect in self._workers.items():
                self._write(WorkerKnown(peer, dialect))
        before = min(order[0][0] if order else position, self._workers_at if self._workers else position)
        return self._forget_sizes(before)

    def _write_again(self, item: Needed) -> int:
        """Append all that is to be known of ``item``; returns its bytes."""
        if isinstance(item, Finished):
            stored = stored_record(item, self._clock_offset)
            self._write(stored)
            return size_of(stored)
        if isinstance(item, DeadLetter):
            letter = letter_record(item, self._clock_offset)
            self._write(letter)
            return size_of(letter)
        record = accepted_record(item, self._clock_offset)
        self._write(record)
        for attempt in item.failures or ():
            self._write(failed_record(item.number, attempt, self._clock_offset))
        if item.delay is not None:
            self._write(delayed_record(item, self._clock_offset))
        if item.worker is not None:
            self._write(begun_record(item.worker, item))
        return size_of(record)

    def _forget_sizes(self, before: int) -> int:
        while self._sizes and self._sizes[0][0] < before:
            self._droppable_bytes += self._sizes.popleft()[1]
        is_worth_it = self._droppable_bytes >= COMPACT_BYTES
        if not is_worth_it and not (self._filled > PRESSED and self._droppable_bytes > self._garbage_bytes_max):
            return 0
        self._bytes -= self._droppable_bytes
        self._droppable_bytes = 0
        return before


def can_tell_replies_apart(client: ClientRow, envelope: Envelope) -> bool:
    """Whether a reply to ``client`` may be sent twice, because a crash left open whether it has arrived.

    A REQ socket that has it, and whose next request died with the broker, would take it for the reply to that (G1).
    """
    return client.dialect.has_sessions or len(envelope) > 1

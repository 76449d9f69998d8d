"""What a broker's journal says: a list of records for each turn, from which a broker that starts anew can rebuild its tables.

Every record is an array whose first element is its tag, as on the wire: append fields, never reorder them. Times are those of
the journal's own clock (``at``): seconds that brokers have spent running on this journal, so that a deadline does not pass while
no broker runs, and no clock of a machine matters.
"""

from __future__ import annotations

import msgspec

from cbw.core.plain_messages import Envelope

JOURNAL_FORMAT = 1
"""The version of this format. A broker refuses a journal of a later one."""


TICKET = "ticket"
"""Stands for a dialect where nobody waits for the answer of a request: it is kept under a ticket."""


class Asker(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who asked. ``name`` and ``boot`` are the client's if it has sessions; otherwise ``peer`` is its identity.

    Of a request that outlives its client, ``name`` is its ticket, ``boot`` the name of that client, and ``dialect`` is
    :data:`TICKET`. ``proof`` is that of the client's session; None: an earlier version wrote this. The journal
    must be as secret as the proofs in it. ``key`` is the name of the client's key, empty without keys.
    """

    name: str
    boot: str
    peer: bytes
    dialect: str
    proof: bytes | None = None
    key: str = ""


class JournalRecord(msgspec.Struct, array_like=True, gc=False):
    """Base of all records. ``number`` names a request within its journal, and is never given again."""


class BrokerStarted(JournalRecord, tag=0):
    """A broker has read the journal and goes on with it. What an earlier one had given to workers may still run there."""

    broker: str
    boot: str


class RequestAccepted(JournalRecord, tag=1):
    """A request was accepted, or is written again because its first record is to be dropped.

    Bodies, here and below, are tuples of their parts: of one, or of several if they came in several frames. ``attempt`` is the
    next one, counted from 1. ``stream``, of a request whose answer is wanted in parts: how many at first (None: one answer,
    and the progress), whether it may begin anew, and whether its client wants to know the progress.
    """

    number: int
    asker: Asker
    id: int
    service: str
    body: tuple[bytes, ...]
    accepted_at: float
    deadline_at: float | None = None
    envelope: Envelope = ()
    attempt: int = 1
    priority: int = 5
    headers: dict[str, str] | None = None
    stream: tuple[int | None, bool, bool] | None = None


class TaskBegun(JournalRecord, tag=2):
    """A request was given to a worker as ``task``. A worker that says no hello is named by its ``peer`` and ``dialect``.

    ``proof`` is that of the worker's session, None if an earlier version wrote this.
    """

    number: int
    task: int
    worker: str
    boot: str
    peer: bytes = b""
    dialect: str = ""
    proof: bytes | None = None


class AttemptEnded(JournalRecord, tag=3):
    """The worker did not answer: the request waits again. ``attempt`` is the next one."""

    number: int
    attempt: int


class RequestEnded(JournalRecord, tag=4):
    """A request ended. Its answer, if it has one, is stored until its client has it.

    ``fingerprint``, of a request with a ticket, tells whether another one with the same ticket is the same.
    """

    number: int
    status: int
    body: tuple[bytes, ...]
    is_stored: bool = True
    fingerprint: bytes = b""


class AnswerStored(JournalRecord, tag=5):
    """An answer whose client may still need it, written again because its first record is to be dropped.

    ``ended_at`` and ``fingerprint``: only of a request with a ticket.
    """

    number: int
    asker: Asker
    id: int
    envelope: Envelope
    status: int
    body: tuple[bytes, ...]
    ended_at: float = 0.0
    fingerprint: bytes = b""


class AnswersDropped(JournalRecord, tag=6):
    """The clients have these answers, or will never want them. Of dead letters: somebody has dropped them or sent them again, or
    there were too many. Of requests: who asked can never come back.
    """

    numbers: list[int]


class WorkerKnown(JournalRecord, tag=7):
    """A worker that returns without a word, and must be known by its identity."""

    peer: bytes
    dialect: str


class WorkerForgotten(JournalRecord, tag=8):
    """A worker of an earlier broker that is not tried again: it registers anew if it returns."""

    peer: bytes


class FailedAttempt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An attempt that was begun, or may have been, and brought no answer: who made it, when, and why it failed.

    ``traceback`` is that of an exception of the handler, if it was one.
    """

    worker: str
    begun_at: float
    ended_at: float
    reason: str
    traceback: str = ""


class AttemptFailed(JournalRecord, tag=20):
    """What is to be known of an attempt at a request that waits again: it belongs to its story if it is given up."""

    number: int
    attempt: FailedAttempt


class DeadLetterKept(JournalRecord, tag=21):
    """A request was given up, and is kept; or is written again because its first record is to be dropped.

    ``number`` is the letter's own, not that of the request. ``name`` is what people call it. ``kind`` and ``error`` say why it
    was given up. ``requeued`` counts how often it has been sent again from here. ``ticket``: of a request that has one.
    """

    number: int
    name: str
    client: str
    request: int
    service: str
    body: tuple[bytes, ...]
    accepted_at: float
    died_at: float
    kind: str
    error: str
    attempts: list[FailedAttempt]
    requeued: int
    priority: int
    ticket: str = ""
    headers: dict[str, str] | None = None


class RequestDelayed(JournalRecord, tag=30):
    """A request is not to be handed out before ``until``. If a handler has asked for that, this is the end of an attempt:
    ``retries`` is how often one has, and ``kind`` and ``text`` are the last exception. With 0 its client has.
    """

    number: int
    until: float
    retries: int = 0
    kind: str = ""
    text: str = ""


AnyRecord = (
    BrokerStarted
    | RequestAccepted
    | TaskBegun
    | AttemptEnded
    | RequestEnded
    | AnswerStored
    | AnswersDropped
    | WorkerKnown
    | WorkerForgotten
    | AttemptFailed
    | DeadLetterKept
    | RequestDelayed
)


class Batch(msgspec.Struct, array_like=True, gc=False):
    """The records of one turn of the broker, at one time of the journal's clock."""

    at: float
    records: list[AnyRecord]

"""What peers say to each other: the vocabulary of CBW/1, whose bytes are in :mod:`cbw.wire.native`.

Every message is an array whose first element is its tag. Field order is wire format: append, never reorder.
The lab's dialects (:mod:`cbw.wire.lab`) are translated into the same words, so the cores know only these.

Bodies are ``bytes`` to whoever reads these types. A body of 32 KiB or more arrives as a read-only ``memoryview`` of
the frame it came in, and a body that a plain peer sent in several frames as :class:`Parts`; both behave as bytes do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

VERSION = 1
"""The protocol version: the digit at the end of the magic frame."""
DEFAULT_SERVICE = ""
"""The service of requests and workers that name none, as in the lab's dialects, which have no word for one."""
CONTROL = "cbw."
MANAGEMENT = "mmi."
OWN_PREFIXES = (CONTROL, MANAGEMENT)
"""The broker's own services begin with one of these, and no others: its control, and RFC 8's management interface."""
PRIORITY = 5
"""The priority of a request that has no other, as those of plain clients."""
PRIORITY_MAX = 9
"""The highest priority; the lowest is 0."""
DELAY_S_MAX = 366 * 86400.0
"""Longest delay in seconds, of a request or before a retry: a year. What is longer is more likely a mistake of units."""
TRACEBACK_CHARS_MAX = 4000
"""Longest traceback that a worker sends and a broker keeps, in characters: about 30 frames."""
ERROR_TEXT_CHARS_MAX = 10_000
"""Longest text of an exception that a worker sends, in characters. It stands in traces, logs and dead letters."""
FAILURE_BYTES_MAX = 64 << 10
"""Largest ``data`` of a :class:`cbw.Failure`, in bytes of JSON: what is larger belongs into an answer."""
NO_WORKER = "no_worker"
"""Kind of ``EXPIRED``: no worker serves the service."""
QUEUE = "queue"
"""Kind of ``EXPIRED``: the request waited for a worker to be free, or for its next try."""
WORKER = "worker"
"""Kind of ``EXPIRED``: a worker had the request."""
NOT_REACHED = "unreachable"
"""Kind of ``EXPIRED``: there was no connection to a broker, or it did not answer."""
REFUSED = "refused"
"""Kind of ``EXPIRED``: the broker did not let the client in, most often because another one has its id."""
ELSEWHERE = "elsewhere"
"""Kind of ``NOT_ALLOWED``: the broker has no keys, and lets only programs on its own machine act."""
ANSWER_TOO_BIG = "answer_too_big"
"""The kind of an error with the status ``TOO_BIG`` if it is the answer that was too large, and not the request."""


class Status(IntEnum):
    """How an attempt or a request ended. The body of every status but OK is that of :func:`error_body`."""

    OK = 0
    FAILED = 1  #: the handler raised; kind is the exception's type
    BAD_REQUEST = 2  #: the body is not what the handler asks for: the client's error
    EXPIRED = 3  #: the deadline passed before an answer
    GAVE_UP = 4  #: every allowed attempt took its worker down
    BUSY = 5  #: refused: the broker is at a limit
    CANCELLED = 6  #: the client asked for it
    TOO_BIG = 7  #: the body is over the broker's limit: that of the request, or with kind ``answer_too_big`` that of its answer
    STOPPING = 8  #: the broker is going down; send it to its successor
    CRASHED = 9  #: worker to broker only: the process that ran the handler died
    UNKNOWN_TICKET = 10  #: the broker has no request with this ticket, or its answer was kept for long enough
    TICKET_TAKEN = 11  #: another request has this ticket
    RETRY = 12  #: worker to broker only: the handler raised, and wants to be called again in ``retry_after_s``
    NOT_ALLOWED = 13  #: refused: the client's key is not good for this service
    STREAMED = 14  #: the answer was sent in parts, which are all there; the body says how many
    BROKEN = 15  #: the parts of the answer that came are all that there is: the worker, or some of them, were lost


OK: Final = Status.OK
"""For what is done for each request: to look up a member of an enumeration takes Python 3.11 60 ns, a global name 8."""


class Refusal(IntEnum):
    """Why a hello was refused."""

    DUPLICATE_ID = 1  #: a living peer has this id, or the hello lacks the proof of the session that it names
    VERSION = 2  #: the peers speak different versions
    BAD_HELLO = 3  #: an id or a service name out of bounds
    BAD_MESSAGE = 4  #: a batch that does not decode
    KEY = 5  #: the peer's key is not allowed here, or not for this id or service
    WRONG_SERVER_KEY = 6  #: said by the peer's own side: the broker has another key than expected
    KEYS_MISSING = 7  #: said by the peer's own side: one side uses keys, and the other does not


KEY_REFUSALS = (Refusal.KEY, Refusal.WRONG_SERVER_KEY, Refusal.KEYS_MISSING)
"""Reasons for which there may be no connection at all."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """Base of all messages. ``gc=False``: messages hold no cycles, and a million of them must not slow the collector."""


class Parts(bytes):
    """A body that came in several frames: the bytes of all of them, and the frames themselves in ``parts``."""

    parts: tuple[bytes, ...]

    def __new__(cls, parts: tuple[bytes, ...]) -> Parts:
        body = super().__new__(cls, b"".join(parts))
        body.parts = parts
        return body


# --- both directions, both sides


class Beat(Message, tag=0):
    """I live. A worker says it every second; the broker answers with one."""


class Goodbye(Message, tag=1):
    """I leave on purpose: expect nothing more from me."""


# --- client to broker


class ClientHello(Message, tag=10):
    """First word of a client.

    ``boot`` is new at every start: the same id with the same boot is the same client after a lost connection. ``proof`` is a
    secret of this start, 16 to 64 random bytes: whoever says the same id and boot without it is refused.
    """

    client: str
    boot: str
    proof: bytes = b""


class Request(Message, tag=11):
    """One request. ``id`` is unique within the client's boot; ``ttl`` is the time left in seconds, None for ever.

    A relative time, because the clocks of two machines differ. ``priority``, 0 to 9, orders what waits of one client, 9 first.
    It is not handed out before ``delay_s`` seconds have passed, which must be fewer than ``ttl``; None: at once. ``headers``
    go to the handler as they are: at most 32, of 8192 bytes in all; None: there are none.
    """

    id: int
    service: str
    body: bytes
    ttl: float | None = None
    priority: int = PRIORITY
    delay_s: float | None = None
    headers: dict[str, str] | None = None


class RequestIfServed(Request, tag=16):
    """A request that ends at once, with ``EXPIRED`` of kind ``no_worker``, if no worker serves it when it arrives.

    Only for a broker whose welcome says that it ``refuses_unserved``.
    """


class StreamRequest(Request, tag=17):
    """A request whose answer is wanted in parts while it is made, or whose progress is told.

    The client has room for as many ``parts``, and grants more with :class:`PartsWanted`; None: it wants one answer.
    ``received``: the request has been sent before, and so many parts have come, of the attempt ``task``. ``restarts``: if the
    worker is lost, another
    begins with the first part again; otherwise the request ends with ``BROKEN`` if any part was sent. ``wants_progress``: each
    :class:`ProgressMade` is passed on. ``requires_worker``: as of :class:`RequestIfServed`. Only for a broker whose welcome says
    that it ``takes_streams``.
    """

    parts: int | None = None
    received: int = 0
    restarts: bool = False
    wants_progress: bool = False
    requires_worker: bool = False
    task: int = 0


class PartsWanted(Message, tag=18):
    """There is room for the parts of answer ``id`` up to number ``parts``, counted from the first one.

    A client says it of its request, and the broker to a worker of its task. ``task``: as in the client's last
    :class:`AnswerPart`, as the room is that for the parts of one attempt.
    """

    id: int
    parts: int
    task: int = 0


class Cancel(Message, tag=12):
    """The client no longer wants the answer to request ``id``.

    ``is_late``: its deadline has passed. It is answered with ``EXPIRED``, and says where the request was.
    """

    id: int
    is_late: bool = False


class Received(Message, tag=13):
    """The client has the answers to these requests, so they need not be stored for it any longer.

    Only for a broker whose welcome says that it stores answers.
    """

    requests: list[int]


class Start(Message, tag=14):
    """A request that outlives its client. Its answer is kept under ``ticket``, for whoever sends :class:`Collect`.

    Answered with :class:`Started`, or with an :class:`Answer` that says why not. ``id`` is a number like those of requests. If
    the broker has a request with this ticket, it must be the same one, and is not run again. Only for a broker whose welcome
    says that it keeps tickets. ``delay_s`` and ``headers`` are those of :class:`Request`. ``requires_worker``: as of
    :class:`RequestIfServed`.
    """

    id: int
    ticket: str
    service: str
    body: bytes
    ttl: float | None = None
    priority: int = PRIORITY
    delay_s: float | None = None
    requires_worker: bool = False
    headers: dict[str, str] | None = None


class Collect(Message, tag=15):
    """The client wants the answer that is, or will be, kept under ``ticket``: an :class:`Answer` to ``id``.

    Only for a broker whose welcome says that it keeps tickets. :class:`Cancel` ends the waiting, and not the request.
    """

    id: int
    ticket: str


# --- worker to broker


class WorkerHello(Message, tag=20):
    """First word of a worker. ``credit`` is how many tasks it wants in hand, ``concurrency`` how many it runs at once.

    ``tasks`` are those of an earlier session that it has begun: a broker with a journal that was restarted lets it go on.
    ``proof`` is that of :class:`ClientHello`. ``wants_names``: its handlers are told the names of their requests, so each task is
    to have its ``request``, also if the broker keeps no trace. ``signatures`` are texts by service, for people and programs that
    want to know what it takes and returns: of cbw's workers, JSON with ``signature``, ``doc``, ``arguments`` and ``result``.
    ``takes_streams``: it may be sent :class:`StreamTask` and :class:`PartsWanted`.
    """

    worker: str
    boot: str
    services: list[str]
    concurrency: int
    credit: int
    tasks: list[int] = []
    proof: bytes = b""
    wants_names: bool = False
    signatures: dict[str, str] | None = None
    takes_streams: bool = False


class Credit(Message, tag=21):
    """From now on I want ``tasks`` in hand; 0: nothing, as I am leaving, or have no child process that is ready.

    ``is_shared``: I serve several brokers, so my slots may be with another, and a :class:`Demand` can fetch them.
    """

    tasks: int
    is_shared: bool = False


class Returned(Message, tag=22):
    """Tasks that were recalled, or that a leaving worker gives back: it has not begun any of them."""

    tasks: list[int]


# --- broker to both


class Welcome(Message, tag=30):
    """The hello was accepted. ``body_bytes_max`` is the largest body; a worker silent for ``liveness_s`` seconds is lost.

    ``stores_answers``: a client is to say which answers it has received. ``tasks`` are those of the worker's hello that it is
    to go on with. ``keeps_tickets``: a client may send :class:`Start` and :class:`Collect`. ``takes_retries``: a worker may
    answer with ``RETRY``. ``refuses_unserved``: a client may send :class:`RequestIfServed`. ``takes_streams``: a client may send
    :class:`StreamRequest` and :class:`PartsWanted`, and a worker :class:`ProgressMade`.
    """

    broker: str
    boot: str
    liveness_s: float
    body_bytes_max: int
    stores_answers: bool = False
    tasks: list[int] = []
    keeps_tickets: bool = False
    takes_retries: bool = False
    refuses_unserved: bool = False
    takes_streams: bool = False


class HelloAgain(Message, tag=31):
    """I do not know you (I was restarted, or took you for lost): say hello again."""


class Refused(Message, tag=32):
    """A hello was refused, or a message that cannot be read or is too large; and why.

    If another has the id: after ``owner_lost_s`` seconds of silence it would be lost.
    """

    reason: Refusal
    text: str
    owner_lost_s: float = 0.0


# --- broker to worker


class Task(Message, tag=40):
    """One attempt at a request. ``id`` names the attempt, not the request; ``attempt`` counts from 1.

    ``request`` is ``<client>/<request id>``; empty: the broker keeps no trace, and the worker has not asked for names.
    ``retries`` is how often a handler has already asked for another try, with the status ``RETRY``.
    ``headers`` are those of the request.
    """

    id: int
    service: str
    body: bytes
    ttl: float | None
    attempt: int
    request: str = ""
    retries: int = 0
    headers: dict[str, str] | None = None


class StreamTask(Task, tag=43):
    """A task whose answer is wanted in parts: ``parts`` of them, until the broker grants more with :class:`PartsWanted`.

    A handler that makes one answer ends it like any other task. One that makes parts sends each as an :class:`AnswerPart`, and
    ends with the status ``STREAMED``.
    """

    parts: int = 0


class Recall(Message, tag=41):
    """Give back those of these tasks that you have not begun."""

    tasks: list[int]


class CancelTask(Message, tag=42):
    """Nobody wants the answer to this task any more."""

    id: int


class Demand(Message, tag=46):
    """I have ``waiting`` requests for ``service``, which want slots that you have offered to other brokers. 0: I have none.

    Only for a worker whose last :class:`Credit` was ``is_shared``.
    """

    service: str
    waiting: int


# --- worker to broker, broker to client


class Answer(Message, tag=50):
    """The end of an attempt (``id`` is the task's) and, one hop on, of a request (``id`` is the request's).

    ``retry_after_s`` comes with ``BUSY``: in so many seconds there may be room. None: the broker cannot say. With ``RETRY``: when
    the handler wants to be called again.
    """

    id: int
    status: Status
    body: bytes
    retry_after_s: float | None = None


class AnswerPart(Message, tag=52):
    """A part of the answer to ``id``, which goes on. ``number`` counts the parts of an attempt from 1: a client that gets part 1
    once more is told that the answer begins anew. ``task`` tells attempts apart: the broker says it to the client.
    """

    id: int
    number: int
    body: bytes
    task: int = 0


class ProgressMade(Message, tag=53):
    """How far the handler of ``id`` is: ``done`` of ``total`` (None: it does not know), and what it says of that."""

    id: int
    done: float
    total: float | None = None
    text: str = ""


# --- broker to client


class Started(Message, tag=51):
    """The broker has the request of the client's :class:`Start` ``id``. ``is_durable``: in its journal, which survives it."""

    id: int
    is_durable: bool


# --- either


class Attached(Message, tag=60):
    """Last of its batch: the messages at ``positions`` have their bodies in the frames behind, in this order."""

    positions: list[int]


FromClient = (
    ClientHello
    | Request
    | RequestIfServed
    | StreamRequest
    | PartsWanted
    | Cancel
    | Received
    | Start
    | Collect
    | Goodbye
    | Beat
    | Attached
)
FromWorker = WorkerHello | Credit | Returned | Answer | AnswerPart | ProgressMade | Goodbye | Beat | Attached
ToClient = Welcome | HelloAgain | Refused | Answer | AnswerPart | ProgressMade | Started | Goodbye | Beat | Attached
ToWorker = (
    Welcome
    | HelloAgain
    | Refused
    | Task
    | StreamTask
    | PartsWanted
    | Recall
    | CancelTask
    | Demand
    | Goodbye
    | Beat
    | Attached
)


class ErrorParts(NamedTuple):
    """What the body of an answer says whose status is not OK.

    ``data`` is JSON if the handler has raised :class:`cbw.Failure`, whose code is ``kind``; otherwise None.
    """

    kind: str
    text: str
    traceback: str = ""
    data: str | None = None

    @property
    def line(self) -> str:
        """The error in one line."""
        return f"{self.kind}: {self.text}" if self.text else self.kind


def error_body(kind: str, text: str, traceback: str = "", data: str | None = None) -> bytes:
    """The body of an answer whose status is not OK. What is empty at the end is left out."""
    parts: tuple[str, ...] = (kind, text, traceback) if data is None else (kind, text, traceback, data)
    return msgspec.msgpack.encode(parts if traceback or data is not None else parts[:2])


def error_of(body: bytes) -> tuple[str, str]:
    """``(kind, text)`` of an error body; a body that is none becomes ``("error", its text)``, as peers may be wrong."""
    return error_parts(body)[:2]


def error_parts(body: bytes) -> ErrorParts:
    """All that an error body says. A body that is none becomes an error of the kind ``error`` with its text."""
    try:
        kind, text, *more = msgspec.msgpack.decode(body, type=tuple[str, ...])
    except (msgspec.DecodeError, ValueError):  # also if it has less than two parts, or is not UTF-8
        return ErrorParts("error", bytes(body).decode("utf-8", "replace"))
    return ErrorParts(kind, text, *more[:2])

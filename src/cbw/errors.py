"""Every exception of cbw.

::

    CbwError
    ├── UsageError        what was asked for makes no sense: arguments, environment, a file
    ├── NotReady          a part of the system is not there (yet)
    │   ├── CannotBind        the port is taken, or not ours to take
    │   ├── CannotResolve     the host's name means nothing here
    │   ├── NoAnswer          the command line met no broker in time (the library raises Expired), cbw.testing no answer
    │   └── DuplicateId       another living peer has this id
    ├── VersionMismatch   the other side speaks another protocol version
    ├── KeyRefused        two sides do not let each other in, because of their keys
    │   ├── KeyNotAllowed     the other side does not let this key in, or not here
    │   ├── WrongServerKey    the broker or logger has another key than this side expects
    │   └── KeysMissing       one side uses keys, the other does not
    ├── BadMessage        bytes that are no message (raised by ``cbw.wire``, never to a user)
    ├── RequestError      a request ended without an answer; see its ``request`` and ``service``
    │   ├── HandlerFailed     the worker's handler raised: ``kind`` and ``text`` are its exception's
    │   │   ├── Failure           it has raised this: ``code`` and ``data`` say why, for programs
    │   │   └── TimeLimit         it has taken longer than its service allows
    │   ├── BadRequest        the handler wants another body
    │   ├── BadAnswer         it has an answer, but no such one as ``returns`` wants
    │   ├── Expired           the deadline passed (also a TimeoutError); its ``kind`` says where the request was
    │   ├── GaveUp            its workers died again and again
    │   ├── StreamBroken      an answer in parts broke off: its worker was lost, or some of its parts were
    │   ├── Busy              the broker is at a limit; try again later
    │   ├── Cancelled         cancelled by this client, or by who steers the broker
    │   ├── TooBig            the body is over the broker's limit
    │   ├── AnswerTooBig      the answer is
    │   ├── NotAllowed        this client's key is not good for the service
    │   ├── UnknownTicket     the broker has no request with this ticket, or no longer
    │   └── TicketTaken       another request has this ticket
    ├── Retry             raised by a handler: call it again later, for the same request
    ├── WorkerStuck       all handlers of a worker have exceeded their time limits, and cannot be ended
    ├── Closed            the client was closed while the request ran, or before it was made
    ├── JournalError      the broker's journal cannot be used
    │   ├── JournalInUse      another process has it open
    │   ├── JournalTooNew     a newer version of cbw wrote it
    │   ├── JournalOnNetwork  its folder is on another machine, where neither locks nor syncs can be relied on
    │   ├── JournalDamaged    what was written cannot be read any more
    │   ├── JournalUnreachable  its servers do not answer
    │   ├── JournalTooOldServer  its servers are of a version that loses what it has acknowledged
    │   ├── JournalFull       the disk has no room; nothing was written, and the same may be tried again
    │   ├── JournalBroken     the disk failed: what was written last may be lost, so the broker ends and reads it again
    │   └── JournalFenced     another broker has taken it over
    └── PromiseBroken     ``cbw verify`` found a promise that does not hold

``exit_code`` is what the command line exits with: 1 failed, 2 usage, 3 not ready, 4 promise broken,
5 journal broken, 6 journal taken over, 7 keys wrong, 8 worker stuck.
"""

from __future__ import annotations

from typing import Any

MORE_FILES = "Allow more of them: ulimit -n 1024, and for a broker or a logger one more for each peer."
"""What to do when no descriptors are left."""


RETRY_AFTER_S_MAX = 366 * 86400
"""Longest time in seconds after which a handler may ask to be called again: the longest delay that a broker takes."""
FAILURE_CODE_CHARS_MAX = 200
"""Longest code of a failure, in characters."""


class CbwError(Exception):
    """Base of all of them. ``advice`` says what to do next: on the command line's second line, and below a traceback."""

    exit_code = 1
    advice = ""

    def __init__(self, text: str, *, advice: str = "") -> None:
        super().__init__(text)
        if advice:
            self.advice = advice
        if self.advice:
            self.add_note(self.advice)


class UsageError(CbwError):
    """What was asked for makes no sense."""

    exit_code = 2


class NotEncodable(UsageError, TypeError):
    """A value cannot be sent: it has no form as a body."""

    advice = "Send bytes, text, numbers, lists, dicts, dataclasses, or what else has a form in JSON."


class NotReady(CbwError):
    """A part of the system is not there (yet)."""

    exit_code = 3


class CannotBind(NotReady):
    """The port is taken, or not ours to take."""


class CannotResolve(NotReady):
    """The host's name means nothing here."""


class NoAnswer(NotReady):
    """The command line met no broker in time, or ``cbw.testing`` no answer; the library raises :class:`Expired`."""


class DuplicateId(NotReady):
    """Another living peer has this id."""

    advice = "Give this one another id; HN takes it from the host's name."


class VersionMismatch(CbwError):
    """The other side speaks another protocol version."""

    advice = "Install the same version of cbw on both sides."


class KeyRefused(CbwError):
    """Two sides do not let each other in, because of their keys."""

    exit_code = 7


class KeyNotAllowed(KeyRefused):
    """The other side does not let this key in: it is not in the file ``allowed``, or not for this port, id or service."""

    advice = (
        "Where the broker's keys are: cbw keys list shows who is allowed, cbw keys add NAME --role ROLE allows more."
    )


class WrongServerKey(KeyRefused):
    """The broker or logger has another key than this side expects."""

    advice = (
        "Copy broker.key (or logger.key) from the folder of keys there; if it has not changed, somebody else answers."
    )


class KeysMissing(KeyRefused):
    """One side uses keys, and the other does not."""

    advice = "Give both sides keys, or none: --keys DIR (CBW_KEYS)."


class BadMessage(CbwError):
    """Bytes that are no message of the dialect."""


class RequestError(CbwError):
    """A request ended without an answer.

    ``request`` is what traces and ``cbw logs story`` call it, such as ``C1/7``; ``request_id`` the client's number for it, and
    ``service`` where it went. A traceback shows both below the error.
    """

    def __init__(self, text: str, *, kind: str = "", request_id: int = 0, service: str = "", request: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.request_id = request_id
        self.service = service
        self.request = request
        if request:
            self.add_note(f"request {request}" + (f" for the service {service!r}" if service else ""))


class HandlerFailed(RequestError):
    """The worker's handler raised. ``kind`` is the exception's type there, ``text`` its message.

    If the handler was called again, as its service allows, the text says how often it was tried, and as which dead letter the
    request is kept if no retries are left. ``traceback`` is empty unless the broker sends it (``--send-tracebacks``).
    """

    traceback = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.kind, self.text)))


class Failure(HandlerFailed):
    """Raised by a handler that cannot do what was asked, and for the client to act on: it is raised there again.

    ``code`` names the reason for programs, such as ``not_found``, in 1 to 200 characters; ``text`` tells people more; ``data``
    is anything that JSON has a form for, in at most 64 KiB of it. This is an answer and no fault of the handler: the worker
    prints no traceback.

    Raises:
        UsageError: ``code`` or ``text`` is not such a text.
    """

    def __init__(
        self, code: str, text: str = "", *, data: Any = None, request_id: int = 0, service: str = "", request: str = ""
    ) -> None:
        if not isinstance(code, str) or not 0 < len(code) <= FAILURE_CODE_CHARS_MAX:
            raise UsageError(f"a failure has a code of 1 to {FAILURE_CODE_CHARS_MAX} characters, not {code!r:.200}")
        if not isinstance(text, str):
            raise UsageError(f"the text of a failure is {text!r:.200}; give a str, and anything else as data")
        super().__init__(text, kind=code, request_id=request_id, service=service, request=request)
        self.args = (code, text)
        self.code = code
        self.data = data


class TimeLimit(HandlerFailed):
    """The handler has taken longer than its service allows with ``time_limit_s`` (``cbw worker --time-limit``).

    It is called again only if ``retry_on`` of the service names this exception, or one above it.
    """


class BadRequest(RequestError):
    """The handler wants another body."""

    exit_code = 2


class BadAnswer(RequestError):
    """The answer cannot be read as ``returns``. ``kind`` is the type of the exception that says why, its ``__cause__``."""


class Expired(RequestError, TimeoutError):
    """The deadline passed before an answer. ``kind`` says where the request was then.

    ``no_worker``: no worker serves the service. ``queue``: it waited for a worker to be free, or for its next try. ``worker``: a
    worker had it. ``unreachable``: there was no broker, or it did not answer. ``refused``: the broker does not let this client
    in, most often because another one has its id. ``expired``: the broker is too old to tell.

    A gateway that speaks HTTP answers ``queue`` and ``worker`` with 504 (Gateway Timeout), and the others with 503 (Service
    Unavailable).
    """


class GaveUp(RequestError):
    """Its workers died again and again; see ``--attempts-max``. The text names the dead letter that the broker keeps."""


class StreamBroken(RequestError):
    """An answer in parts broke off: its worker was lost in the middle, or some of its parts were. ``parts`` had come before.

    What has come is right, and may be used. With ``restart=True`` the answer begins anew instead, with its first part.
    """

    parts = 0


class Busy(RequestError):
    """The broker is at a limit; try again later, in ``retry_after_s`` seconds if it has said so (else None)."""

    exit_code = 3
    retry_after_s: float | None = None

    def __str__(self) -> str:
        if self.retry_after_s is None:
            return self.text
        return f"{self.text.rstrip('.')}; try again in {self.retry_after_s:.2g} s"


class Cancelled(RequestError):
    """Cancelled by this client, or by somebody who steers the broker: the text says by whom."""


class TooBig(RequestError):
    """The body is over the broker's limit."""

    exit_code = 2


class AnswerTooBig(RequestError):
    """The handler has answered with more than the broker's limit, so there is no answer."""

    advice = "The broker's option --body-bytes-max is the limit. Answer with less, or with where the rest is."


class Retry(CbwError):
    """Raised by a handler: it wants to be called again for the same request, in ``after_s`` seconds (None: as its service says).

    That is done as often as the service allows with ``retries``, 5 times if it does not say. Then, or if the deadline of the
    request is before the next try, the client gets :class:`HandlerFailed` with ``text``. When no retries are left the request is
    kept as a dead letter.

    Raises:
        UsageError: ``after_s`` is not a number of seconds, or more than a year.
    """

    def __init__(self, text: str = "the handler wants to be called again", *, after_s: float | None = None) -> None:
        super().__init__(text)
        if after_s is not None and not 0 <= after_s <= RETRY_AFTER_S_MAX:  # NaN too
            raise UsageError(f"after_s is {after_s!r}; it must be a number of seconds, at most {RETRY_AFTER_S_MAX}")
        self.after_s = after_s


class NotAllowed(RequestError):
    """The client's key is not good for the service; or the broker has no keys, and lets only programs on its own machine act."""

    exit_code = 7
    advice = "The file allowed, where the broker's keys are, says which services a key is good for."


class UnknownTicket(RequestError):
    """The broker has no request with this ticket: none was started, its answer was kept for long enough (``--results-keep``),
    or the broker has no journal and is not the one that it was started at."""

    advice = "Start the request again; under the same ticket if it is yours."


class TicketTaken(RequestError):
    """Another request, with another body or for another service, was started under this ticket."""

    exit_code = 2
    advice = "Give each request a ticket of its own."


class WorkerStuck(CbwError):
    """All handlers of a worker have exceeded their time limits, and cannot be ended: it can only be started anew."""

    exit_code = 8
    advice = (
        "The events `stuck` above say what they were doing. With --processes such handlers are ended; with --on-stuck report "
        "the worker stays, without working."
    )


class Closed(CbwError):
    """The client is closed."""


class JournalError(CbwError):
    """The broker's journal cannot be used."""


class JournalInUse(JournalError):
    """Another process has the journal open."""

    exit_code = 3
    advice = "End that process, or use another folder: only one process at a time can have a journal open."


class JournalTooNew(JournalError):
    """A newer version of cbw wrote the journal."""

    exit_code = 2
    advice = "Start the version of cbw that wrote it, or a newer one."


class JournalOnNetwork(JournalError):
    """The journal's folder is on another machine, where neither locks nor syncs can be relied on."""

    exit_code = 2
    advice = "Put the journal on a disk of this machine."


class JournalDamaged(JournalError):
    """What was written to the journal cannot be read any more."""

    advice = "Restore the journal from a backup, or begin a new one: give cbw broker --journal another place or name."


class JournalUnreachable(JournalError):
    """The servers of the journal do not answer."""

    exit_code = 3
    advice = "Look whether they run, and whether the address and the credentials in --journal are right."


class JournalTooOldServer(JournalError):
    """The servers of the journal are of a version that may lose what it has acknowledged, or lets two brokers write."""

    exit_code = 2
    advice = "Run nats-server 2.14.0 or newer, or 2.12.8 or newer of the 2.12 line."


class JournalFull(JournalError):
    """The disk has no room. Nothing was written, and the same may be tried again."""

    exit_code = 3
    advice = "Make room on the disk of the journal."


class JournalBroken(JournalError):
    """The disk failed. What was written last may be lost, so the broker ends, and reads the journal at its next start."""

    exit_code = 5
    advice = "Look at the disk (dmesg), then start the broker again: it goes on with what the disk has."


class JournalFenced(JournalError):
    """Another broker has taken the journal over: this one must not answer any more."""

    exit_code = 6


class PromiseBroken(CbwError):
    """``cbw verify`` found a promise that does not hold."""

    exit_code = 4

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
    ├── BadMessage        bytes that are no message (raised by ``cbw.wire``, never to a user)
    ├── RequestError      a request ended without an answer; see its ``request_id`` and ``service``
    │   ├── HandlerFailed     the worker's handler raised: ``kind`` and ``text`` are its exception's
    │   ├── BadRequest        the handler wants another body
    │   ├── BadAnswer         it has an answer, but no such one as ``returns`` wants
    │   ├── Expired           the deadline passed (also a TimeoutError)
    │   ├── GaveUp            its workers died again and again
    │   ├── Busy              the broker is at a limit; try again later
    │   ├── Cancelled         cancelled by this client
    │   └── TooBig            the body is over the broker's limit
    ├── Closed            the client was closed while the request ran, or before it was made
    └── PromiseBroken     ``cbw verify`` found a promise that does not hold

``exit_code`` is what the command line exits with: 1 failed, 2 usage, 3 not ready, 4 a promise broken.
"""

from __future__ import annotations

MORE_FILES = "Allow more of them: ulimit -n 1024, and for a broker or a logger one more for each peer."
"""What to do when no descriptors are left."""


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


class BadMessage(CbwError):
    """Bytes that are no message of the dialect."""


class RequestError(CbwError):
    """A request ended without an answer.

    ``request_id`` is the client's number for it, ``service`` where it went.
    """

    def __init__(self, text: str, *, kind: str = "", request_id: int = 0, service: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.request_id = request_id
        self.service = service


class HandlerFailed(RequestError):
    """The worker's handler raised. ``kind`` is the exception's type there, ``text`` its message."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.kind else self.text


class BadRequest(RequestError):
    """The handler wants another body."""

    exit_code = 2


class BadAnswer(RequestError):
    """The answer cannot be read as ``returns``. ``kind`` is the type of the exception that says why, its ``__cause__``."""


class Expired(RequestError, TimeoutError):
    """The deadline passed before an answer."""


class GaveUp(RequestError):
    """Its workers died again and again; see ``--attempts-max``."""


class Busy(RequestError):
    """The broker is at a limit; try again later."""

    exit_code = 3


class Cancelled(RequestError):
    """Cancelled by this client."""


class TooBig(RequestError):
    """The body is over the broker's limit."""

    exit_code = 2


class Closed(CbwError):
    """The client is closed."""


class PromiseBroken(CbwError):
    """``cbw verify`` found a promise that does not hold."""

    exit_code = 4

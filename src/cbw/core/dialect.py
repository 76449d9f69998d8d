"""What every dialect is: an object that reads and writes frames, and says what can be expected of those who speak it.

Each dialect is one file in :mod:`cbw.wire` and one row of :mod:`cbw.wire.dialects`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cbw.core.messages import Message
from cbw.core.port import Frames

Written = tuple[Frames, int]
"""The frames of a message on the wire, and how many messages of the batch it takes care of. No frames: the dialect has no
word for them, and nothing is sent."""


class Dialect:
    """One way to speak to one port of the broker. Subclasses say what differs."""

    name = ""
    """What the trace and the status pages call it."""
    has_sessions = False
    """A peer says hello with an id and a boot of its own over each connection, numbers its requests, and can be told that it
    must ask again. (CBW/1.) Peers of other dialects are known by the identities of their connections."""
    is_self_describing = True
    """Every message shows that it is of this dialect, so it is recognised on the wrong port too."""

    def recognises(self, frames: Frames) -> bool:
        """Whether ``frames`` show that their sender speaks this dialect. Without a look at what lies behind its mark."""
        raise NotImplementedError

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        """The messages in ``frames``, which came from ``peer``.

        Raises:
            BadMessage: they are none of this dialect.
        """
        raise NotImplementedError

    def write(self, batch: Sequence[Message]) -> Iterable[Written]:
        """What is to be sent for ``batch``, in order."""
        return self.write_each(batch)

    def write_each(self, batch: Sequence[Message]) -> Iterator[Written]:
        """:meth:`write` for dialects that send one message at a time."""
        for message in batch:
            yield self.write_one(message), 1

    def write_one(self, message: Message) -> Frames:
        """The frames of ``message``; none if this dialect has no word for it."""
        raise NotImplementedError

    def refusal(self, frames: Frames, why: str) -> list[Message]:
        """What to tell a peer that sent ``frames``, which cannot be read; nothing if the dialect has no word for that."""
        return []


class ClientDialect(Dialect):
    """How clients of one kind speak."""

    takes_partials = False
    """A client can be sent parts of any answer before its end. (One that has sessions asks for them.)"""


class WorkerDialect(Dialect):
    """How workers of one kind speak."""

    beats_at_work = True
    """A worker beats every second, also while a handler runs: silence means that it is lost."""
    returns_tasks = True
    """A worker can be asked for tasks that it has not begun, and returns those when it leaves."""
    returns_silently = False
    """A worker registers once, and returns from a lost connection without a word (a REQ socket). It has no beats either."""
    registers_once = False
    """A second registration over one connection is an error, upon which the broker ends the conversation (RFC 7, RFC 18)."""

    @property
    def has_conversations(self) -> bool:
        """Whether a worker registers over each connection and beats, but has no session that could go on over another one.

        The broker ends such a conversation when it sees another connection, or a message that cannot be read: without ids,
        nothing tells what has become of a task. The worker may then register again.
        """
        return not (self.has_sessions or self.returns_silently)

    def can_name(self, client: bytes) -> bool:
        """Whether a task may carry ``client`` as the frame that the worker sends back in front of its answer."""
        return True

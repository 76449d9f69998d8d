"""What is sent over the simulated network: the frames of a message, with what only the checker knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cbw.core import messages

if TYPE_CHECKING:
    from .network import Connection


class Native(NamedTuple):
    """A CBW/1 message."""

    content: Sequence[Any]

    @property
    def frames(self) -> Sequence[Any]:
        return self.content


class PlainRequest(NamedTuple):
    """From a lab client. ``token`` and ``number`` are not on the wire: they are for the checker."""

    envelope: tuple[bytes, ...]
    body: bytes
    token: str
    number: int

    @property
    def frames(self) -> Sequence[Any]:
        return [*self.envelope, self.body]


class PlainReply(NamedTuple):
    """To a lab client. All but envelope and body are for the checker."""

    envelope: tuple[bytes, ...]
    body: bytes
    status: messages.Status
    token: str
    sent_at: float
    displaced: Connection | None = None
    """That which it came over, if it tells that another program has this one's identity."""

    @property
    def frames(self) -> Sequence[Any]:
        return [*self.envelope, self.body]


class PlainReady(NamedTuple):
    """A lab worker's registration. ``worker`` is for the checker."""

    worker: str

    @property
    def frames(self) -> Sequence[Any]:
        return [b"", b"", b""]


class PlainTask(NamedTuple):
    """To a lab worker. ``task`` is for the checker."""

    client: bytes
    body: bytes
    task: int

    @property
    def frames(self) -> Sequence[Any]:
        return [b"", self.client, self.body]


class PlainAnswer(NamedTuple):
    """From a lab worker."""

    client: bytes
    body: bytes

    @property
    def frames(self) -> Sequence[Any]:
        return [b"", self.client, self.body]


class End(NamedTuple):
    """The last thing on a connection that is closed in order."""

    @property
    def frames(self) -> Sequence[Any]:
        raise AssertionError("it is no message")


Parcel = Native | PlainRequest | PlainReply | PlainReady | PlainTask | PlainAnswer | End

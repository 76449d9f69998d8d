"""What the keys of clients allow: who is let in as whom, and which services it may ask.

A client's id belongs to the key that used it first, for as long as the broker remembers that client (G1). A broker without keys
asks nothing: everybody is :data:`~cbw.core.key.ANYBODY`.
"""

from __future__ import annotations

from collections.abc import Callable

from cbw.core import catalogue
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import ClientRow
from cbw.core.key import ANYBODY, Key
from cbw.core.messages import Answer, Request, Status, error_body
from cbw.core.plain_messages import Envelope

Tell = Callable[[ClientRow, Envelope, Answer], None]
"""Sends an answer to a client."""
KeyOf = Callable[[bytes], Key | None]
"""The key that the connection of a peer has shown; None: it is not allowed any more."""


class Rights:
    """The rights of clients."""

    def __init__(self, outbox: Outbox, tell: Tell) -> None:
        self.key_of: KeyOf = lambda peer: ANYBODY
        self._outbox = outbox
        self._tell = tell

    def key_for(self, peer: bytes, known: ClientRow | None) -> tuple[Key, str]:
        """The key of ``peer``, and why it may not be the client that is ``known`` under its id; empty: it may."""
        key = self.key_of(peer)
        if key is None:
            return ANYBODY, "its key is not allowed any more"
        if known is not None and key is not ANYBODY and known.key.name not in ("", key.name):
            return key, f"the id {known.name!r} belongs to another key"
        return key, ""

    def permitted(self, client: ClientRow, requests: list[Request], envelope: Envelope = ()) -> list[Request]:
        """The ``requests`` that the client may send. It is told that it may not send the others."""
        key = client.key
        if key is ANYBODY:
            return requests
        permitted = []
        for request in requests:
            if key.may_ask(request.service):
                permitted.append(request)
            else:
                self.deny(client, request.id, request.service, envelope)
        return permitted

    def deny(self, client: ClientRow, request: int, service: str, envelope: Envelope = ()) -> None:
        """Tell the client that its key is not good for ``service``."""
        outbox = self._outbox
        text = f"the key {client.key.name} is not good for the service {service!r}"
        outbox.counts["requests_refused"] += 1
        outbox.counts["refused_not_allowed"] += 1
        outbox.trace(catalogue.REFUSED, request=client.request_name(request), client=client.name, text=text)
        self._tell(client, envelope, Answer(request, Status.NOT_ALLOWED, error_body("not_allowed", text)))

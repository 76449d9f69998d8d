"""How a broker that is told to stop deals with requests, until its grace time is over.

A client with sessions is told to ask the successor. Any other would take that for its answer. So it is served as before; and
the broker waits a moment for what it asks next, as what arrives while sockets close is lost, and its client waits for ever.
With a journal nothing more is handed out: what was accepted is the successor's, which finds it there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cbw.core import catalogue
from cbw.core.broker.journal import Journal
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.states import Change
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.catalogue import EventName
from cbw.core.messages import Answer, Status, error_body

ASK_ON_S = 0.25
"""Time for a client without sessions to ask on after an answer, before the broker stops: many round trips, and a busy machine's
delays."""


class Ends(Protocol):
    """Where requests end, and where they are stored until then."""

    journal: Journal | None

    def end(self, entry: Entry, change: Change, answer: Answer | None, name: EventName) -> None:
        """End ``entry``."""


class Stopping:
    """Whether the broker stops, and which of its ``requests`` end with that."""

    def __init__(self, requests: Ends, outbox: Outbox) -> None:
        self.is_on = False
        self.quiet_at = 0.0
        """When every client without sessions has had the time to ask on."""
        self._is_grace_over = False
        self._requests = requests
        self._outbox = outbox

    def begin(self, clients: Iterable[ClientRow], *, is_grace_over: bool = False) -> None:
        """Stop serving those of ``clients`` that can ask the successor; all of them, if the ``is_grace_over``."""
        self.is_on, self._is_grace_over = True, is_grace_over
        for client in clients:
            if not client.dialect.has_sessions:
                self.told_plain_client()
            for entry in list(client.entries.values()):
                if entry.worker is None:
                    self.has_ended(entry)

    def told_plain_client(self) -> None:
        """A client without sessions may ask on."""
        self.quiet_at = self._outbox.now + ASK_ON_S

    def has_ended(self, entry: Entry) -> bool:
        """Whether ``entry``, which waits, has just ended because the broker stops."""
        if not self.is_on or self._requests.journal is not None:
            return False
        if not (entry.client.dialect.has_sessions or self._is_grace_over):
            return False
        body = error_body("stopping", "the broker is stopping")
        self._requests.end(entry, Change.STOPPED, Answer(0, Status.STOPPING, body), catalogue.STOPPED)
        return True

"""Answers to what an earlier broker without a journal had handed out, brought by REQ workers to the next one.

Such an answer names its client, which waits for it over its new connection and will not ask again. So it is passed on, in the
envelope of a REQ socket, if that client has said nothing here yet: whoever speaks waits for no earlier answer. It goes the way
of parked replies, so a program that was started anew has the time to speak first.
"""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.broker.clients import Clients
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import Entry
from cbw.core.journal_records import Asker
from cbw.core.key import ANYBODY
from cbw.core.messages import Answer, Status
from cbw.core.plain_messages import Envelope
from cbw.core.port import is_anonymous, printable
from cbw.wire import lab

REQ_ENVELOPE: Envelope = (b"",)
INHERITED_MAX = 1000
"""Answers that are passed on at most. More clients than that do not wait, but anybody may make their names up (G9)."""


class InheritedAnswers:
    """Passes them on, unless there is a journal, which knows what an earlier broker had handed out, or there are keys: a client
    shows its own only when it speaks.
    """

    def __init__(self, clients: Clients, requests: Requests, outbox: Outbox, limits: Limits) -> None:
        self._clients = clients
        self._requests = requests
        self._outbox = outbox
        self._limits = limits
        self._count = 0
        self._until: float | None = None

    def may_come(self) -> None:
        """The first REQ worker is here. For as long as clients are remembered, a client that is not known was not known before
        either, so what names it is no late answer to a task of this broker."""
        if self._until is None:
            self._until = self._outbox.now + self._limits.absence_s

    def pass_on(self, peer: bytes, worker: str, body: bytes) -> bool:
        """Send ``body``, with which ``worker`` has answered the client ``peer``, if it is an inherited one."""
        clients, requests, now = self._clients, self._requests, self._outbox.now
        is_late = self._until is None or now > self._until or self._count >= INHERITED_MAX
        is_known = peer in clients.by_peer or is_anonymous(peer) or is_for_one_task(peer)
        if is_late or is_known or requests.journal is not None or clients.rights.key_of(peer) is not ANYBODY:
            return False
        self._count += 1
        client = clients.restore(Asker(printable(peer), "", peer, lab.CLIENT.name), lab.CLIENT)
        number = clients.next_plain_id
        clients.next_plain_id += 1
        self._outbox.counts["answers_inherited"] += 1
        self._outbox.trace(catalogue.INHERITED, client=client.name, worker=worker)
        requests.tell(client, REQ_ENVELOPE, Answer(number, Status.OK, body))
        return True


def can_be_inherited(entry: Entry) -> bool:
    """Whether a broker that does not know ``entry`` could pass the answer to it on, if a REQ worker brings one."""
    client = entry.client
    return client.dialect is lab.CLIENT and entry.envelope == REQ_ENVELOPE and not is_for_one_task(client.peer)


def is_for_one_task(client: bytes) -> bool:
    """Whether this name of a client ends like one that a broker has made for a single task."""
    _, mark, task = client.rpartition(b"#")
    return bool(mark) and task.isdigit()

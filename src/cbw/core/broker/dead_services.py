"""The broker's own services ``cbw.dead.*``: dead letters are listed, shown, sent again, and dropped.

What goes in and out is JSON, described in ``docs/howto/dead-letters.md``. Times are ages in seconds, as a broker's core knows no
time of day.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cbw.core import catalogue
from cbw.core.broker.dead_letters import DeadLetters, Filter
from cbw.core.broker.memory import memory_of
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.own_services import Serve, bad_request, json_answer, not_found, reading
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import ClientRow, DeadLetter
from cbw.core.broker.tickets import Tickets
from cbw.core.messages import Answer, Status

PAGE_MAX = 1000
"""Most dead letters that one request can list, send again or drop: the broker answers nothing else meanwhile (about 10 ms)."""
LISTED_ERROR_CHARS = 300
"""Characters of an error that a list shows."""
SHOWN_BODY_BYTES_MAX = 1 << 20
"""Largest body that is shown within JSON. A larger one is fetched by ``cbw.dead.body``, as it is."""
LIST, SHOW, BODY, REQUEUE, DROP = (f"cbw.dead.{name}" for name in ("list", "show", "body", "requeue", "drop"))

Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]


class ListQuery(Filter, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.dead.list``."""

    limit: Limit = 100
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class OneQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.dead.show`` and ``cbw.dead.body``."""

    id: str


class DropQuery(Filter, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.dead.drop``. ``all`` has to be said where nothing else says which."""

    all: bool = False
    limit: Limit = PAGE_MAX


class RequeueQuery(DropQuery, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.dead.requeue``. ``ttl_s`` is the time that the new requests have to be begun."""

    ttl_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class DeadServices:
    """Answers for the dead letters of ``requests``. The answer to one that is sent again goes to its ticket, if it has one."""

    def __init__(self, outbox: Outbox, requests: Requests, tickets: Tickets) -> None:
        self._outbox = outbox
        self._requests = requests
        self._tickets = tickets
        self._dead: DeadLetters = requests.dead

    @property
    def looks(self) -> dict[str, Serve]:
        """The services that change nothing, by name."""
        return {
            LIST: reading(LIST, ListQuery, self._list),
            SHOW: reading(SHOW, OneQuery, self._show),
            BODY: reading(BODY, OneQuery, self._body),
        }

    @property
    def acts(self) -> dict[str, Serve]:
        """The services that change something."""
        return {
            REQUEUE: reading(REQUEUE, RequeueQuery, self._requeue),
            DROP: reading(DROP, DropQuery, self._drop),
        }

    # --- to look at

    def _list(self, _client: ClientRow, query: ListQuery) -> Answer:
        found = self._dead.find(query)
        page = found[query.offset : query.offset + query.limit]
        letters = [self._summary(letter, letter.error[:LISTED_ERROR_CHARS]) for letter in page]
        return json_answer(
            {"total": len(self._dead), "matching": len(found), "offset": query.offset, "letters": letters}
        )

    def _summary(self, letter: DeadLetter, error: str) -> dict[str, Any]:
        now = self._outbox.now
        return {
            "id": letter.id,
            "service": letter.service,
            "client": letter.client,
            "request": letter.request,
            "ticket": letter.ticket,
            "kind": letter.kind,
            "error": error,
            "attempts": len(letter.attempts),
            "requeued": letter.requeued,
            "priority": letter.priority,
            "body_bytes": len(letter.body),
            "accepted_ago_s": round(now - letter.accepted_at, 3),
            "died_ago_s": round(now - letter.died_at, 3),
        }

    def _show(self, _client: ClientRow, query: OneQuery) -> Answer:
        letter = self._dead.get(query.id)
        if letter is None:
            return _not_found(query.id)
        now = self._outbox.now
        shown = self._summary(letter, letter.error)
        shown["attempts"] = [
            {
                "worker": attempt.worker,
                "begun_ago_s": round(now - attempt.begun_at, 3),
                "ended_ago_s": round(now - attempt.ended_at, 3),
                "reason": attempt.reason,
                "traceback": attempt.traceback,
            }
            for attempt in letter.attempts
        ]
        if len(letter.body) <= SHOWN_BODY_BYTES_MAX:
            body = bytes(letter.body)
            try:
                shown["body"] = body.decode()
            except UnicodeDecodeError:
                shown["body_base64"] = body
        return json_answer(shown)

    def _body(self, _client: ClientRow, query: OneQuery) -> Answer:
        letter = self._dead.get(query.id)
        return _not_found(query.id) if letter is None else Answer(0, Status.OK, letter.body)

    # --- to act

    def _requeue(self, client: ClientRow, query: RequeueQuery) -> Answer:
        if (why := _why_none(query)) is not None:
            return why
        found, requests, dead = self._dead.find(query), self._requests, self._dead
        done: list[tuple[DeadLetter, str]] = []
        refused = ""
        for letter in found[: query.limit]:
            request, envelope = dead.next_request(letter, query.ttl_s)
            refusal = requests.refusals.why(dead.nobody, request, memory_of(request, envelope))
            if refusal is not None:
                refused = refusal[1]
                break
            dead.drop(letter)
            asker: ClientRow | None = self._tickets.requeue(letter, request, envelope)
            if asker is None:
                asker = dead.nobody
                requests.accept(asker, [request], envelope)
            done.append((letter, asker.request_name(request.id)))
        self._tell(catalogue.REQUEUE_ASKED, client, query, len(done))
        for letter, name in done:
            text = f"{letter.id}, once {letter.request_name}"
            self._outbox.trace(
                catalogue.DEAD_LETTER_REQUEUED, request=name, client=client.name, service=letter.service, text=text
            )
        self._outbox.counts["dead_letters_requeued"] += len(done)
        missing = self._missing(query, found)
        return json_answer(
            {"requeued": len(done), "left": len(found) - len(done), "refused": refused, "missing": missing}
        )

    def _drop(self, client: ClientRow, query: DropQuery) -> Answer:
        if (why := _why_none(query)) is not None:
            return why
        found = self._dead.find(query)
        done = found[: query.limit]
        self._tell(catalogue.DROP_ASKED, client, query, len(done))
        for letter in done:
            self._dead.drop(letter)
            self._outbox.trace(
                catalogue.DEAD_LETTER_DROPPED,
                request=letter.request_name,
                client=client.name,
                service=letter.service,
                text=letter.id,
            )
        self._outbox.counts["dead_letters_dropped"] += len(done)
        missing = self._missing(query, found)
        return json_answer({"dropped": len(done), "left": len(found) - len(done), "missing": missing})

    def _tell(self, event: catalogue.EventName, client: ClientRow, query: Filter, count: int) -> None:
        """Record the whole act first: of many letters at once, not each is recorded unless everything is."""
        chosen = [f"{name} {value}" for name in Filter.__struct_fields__ if (value := getattr(query, name)) is not None]
        text = ", ".join(chosen)[:LISTED_ERROR_CHARS] or "all"
        self._outbox.trace(event, client=client.name, count=count, text=text, fields=client.key.fields)

    def _missing(self, query: Filter, found: list[DeadLetter]) -> list[str]:
        """The ids that were asked for and are not, or not chosen by what else was asked."""
        known = {letter.id for letter in found}
        return [name for name in query.ids or () if name not in known]


def _why_none(query: DropQuery) -> Answer | None:
    """An act on everything has to be asked for, as it may be a mistake."""
    if query.is_empty and not query.all:
        return bad_request('say which dead letters: ids, service, error, older_than_s, newer_than_s, or "all": true')
    return None


def _not_found(name: str) -> Answer:
    return not_found(f"there is no dead letter {name!r}")

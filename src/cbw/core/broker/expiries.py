"""Where a request was when its time was over, in words for its client."""

from __future__ import annotations

import difflib
import math
from itertools import islice

from cbw.core.broker.delays import last_try, retries_of
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.broker.verdict import NAME_CHARS_COMPARED, SIMILAR
from cbw.core.messages import NO_WORKER, OWN_PREFIXES, QUEUE, WORKER

SERVICES_COMPARED_MAX = 200
"""Most services whose names are compared with one that nobody serves: each takes some 10 us."""
COMPARED_EVERY_S = 0.05
"""Time in seconds between two such comparisons: clients that ask for one nonsense after another must not slow the broker."""


class Expiries:
    """Tells why requests end with ``EXPIRED``, by what is in the rooms of ``dispatcher``."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._compared_at = -math.inf

    def why(self, entry: Entry, now: float) -> tuple[str, str]:
        """Where ``entry`` is, whose deadline has passed: the kind of its error, and the text."""
        worker, failed = entry.worker, entry.attempt - 1
        if worker is not None:
            text = f"no answer in time: worker {worker.name} has had it for {max(0.0, now - entry.handed_out_at):.3g} s"
            return WORKER, text + (f"; {failed} failed at it before" if failed else "")
        name, has_worker = entry.request.service, self.is_served(entry.request.service)
        text = self._why_stopped(name) if has_worker else ""
        if not text:
            reason = "was free" if has_worker else f"came that serves {name!r}" if name else "came"
            text = f"the deadline passed before {'another' if failed else 'a'} worker {reason}"
        if failed:
            text += f"; {failed} failed at it"
        if retries_of(entry):
            text += last_try(entry)
        return (QUEUE, text) if has_worker else (NO_WORKER, text + self._suggestion(entry.client, name, now))

    def why_unserved(self, client: ClientRow, service: str, now: float, unserved_s: float | None = None) -> str:
        """Why a request of ``client`` ends at once: nobody serves ``service``, or has for ``unserved_s`` seconds."""
        what = f"serves {service!r}" if service else "serves requests that name no service"
        since = "no worker here" if unserved_s is None else f"for {unserved_s:g} s (--unserved) no worker here"
        return f"{since} {what}{self._suggestion(client, service, now)}"

    def is_served(self, service: str) -> bool:
        """Whether a worker serves it, or the broker itself."""
        if service.startswith(OWN_PREFIXES):
            return True
        row = self._dispatcher.services.get(service)
        return row is not None and bool(row.workers)

    def _why_stopped(self, service: str) -> str:
        """The text if no worker gets requests for ``service``, be it free or not, as people want it so. Empty: they do not."""
        row = self._dispatcher.services.get(service)
        what = f"service {service!r}" if service else "the nameless service"
        if service in self._dispatcher.paused:
            return f"the deadline passed while {what} was paused (cbw pause)"
        if row is not None and all(worker.is_drained for worker in row.workers.values()):
            return f"the deadline passed while all workers of {what} were drained (cbw drain)"
        return ""

    def _suggestion(self, client: ClientRow, name: str, now: float) -> str:
        """A service that ``client`` may have meant, in words behind a text."""
        near = self.similar(client, name, now)
        return f"; did you mean {near!r}?" if near else ""

    def similar(self, client: ClientRow, name: str, now: float) -> str | None:
        """A service that ``client`` may have meant by ``name``; empty: none is like it; None: it was not looked for now."""
        if not name or len(name) > NAME_CHARS_COMPARED:
            return ""
        if now - self._compared_at < COMPARED_EVERY_S:
            return None
        self._compared_at = now
        rows = (row.name for row in self._dispatcher.services.values() if row.workers and row.name != name)
        usable = (other for other in rows if 0 < len(other) <= NAME_CHARS_COMPARED and client.key.may_ask(other))
        near = difflib.get_close_matches(name, islice(usable, SERVICES_COMPARED_MAX), 1, SIMILAR)
        return near[0] if near else ""

"""A client that records what it asks and what it gets."""

from __future__ import annotations

import time
from concurrent.futures import Future

from cbw.client import Client
from cbw.core.events import Record
from cbw.errors import Expired, UsageError
from cbw.session import Timeout
from cbw.trace import Trace

SPARE_S = 2.0
"""For the work of an heir, beyond the time after which its broker gives a silent worker up."""


class Caller:
    """A client whose requests stand in the trace at ``path`` as ``sent``, and then as ``got`` or ``failed``.

    Requests go to ``service`` of the broker at ``address``; ``timeout_s`` is for each that brings none of its own.
    """

    def __init__(self, address: str, id: str, service: str, path: str, timeout_s: float) -> None:
        self.id = id
        self._service = service
        self._timeout_s = timeout_s
        self._trace = Trace(path, is_printing=False)
        self._client = Client(address, id=id, timeout=timeout_s)
        self._count = 0
        self._expired = 0  # requests that may still be answered
        self._is_closed = False

    def submit(self, more: str = "", *, timeout_s: Timeout = ...) -> Future[str]:
        """Send ``<request>``, with ``more`` behind it: the id of the worker that has answered, or nothing.

        When the id is there, the answer stands in the trace. One thread at a time may do this: the requests are counted as
        the client itself counts them.
        """
        self._count += 1
        request = self.last_request
        text = f"{request} {more}" if more else request

        def note(event: str, said: str) -> None:
            now = time.monotonic()
            self._trace.write([Record(now, event, "client", self.id, request, self.id, self._service, text=said)])

        noted: Future[str] = Future()

        def ended(done: Future[bytes]) -> None:
            error = done.exception()
            self._expired += isinstance(error, Expired)
            said = done.result().decode(errors="replace") if error is None else str(error)
            note("got" if error is None else "failed", said)
            noted.set_result(said.rpartition(" ")[2] if error is None else "")

        note("sent", text)
        self._client.submit(text, self._service, timeout=timeout_s).add_done_callback(ended)
        return noted

    @property
    def last_request(self) -> str:
        """``<id>/<number>`` of what was submitted last, as it stands in all traces."""
        return f"{self.id}/{self._count}"

    def check_patience(self) -> None:
        """Whether requests have the time that their broker, once it has been met, needs to hand them to another worker.

        Raises:
            UsageError: they are not.
        """
        liveness_s = self._client.status()["liveness_s"]
        if liveness_s is not None and self._timeout_s < liveness_s + SPARE_S:
            raise UsageError(
                f"within --timeout {self._timeout_s:g} s nobody can answer for a frozen worker: "
                f"the broker gives it up after {liveness_s:g} s (its --liveness)",
                advice=f"Give --timeout {liveness_s + 2 * SPARE_S:g}.",
            )

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed it."""
        return self._client.has_met_broker

    def close(self) -> None:
        """End what is in flight as failed, and close the trace. Safe to call twice."""
        self._client.close()
        unasked = self._client.status()["counts"]["answers_unasked"] - self._expired
        if unasked > 0 and not self._is_closed:
            record = Record(time.monotonic(), "unasked", "client", self.id, client=self.id, service=self._service)
            record.count = unasked
            self._trace.write([record])
        self._is_closed = True
        self._trace.close()

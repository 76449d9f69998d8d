"""A client that records what it asks and what it gets."""

from __future__ import annotations

import time
from concurrent.futures import Future

from cbw.client.options import Timeout
from cbw.client.sync_client import Client
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import Expired, UsageError
from cbw.observe.trace import Trace
from cbw.verify.notebook import wait

CALLERS = 3
"""Clients of a verification: enough for a reply that is sent to the wrong client to have a wrong client to go to."""
SPARE_S = 2.0
"""Time for another worker to do the work, after the time in which the broker gives a silent worker up."""


def client_record(
    at: float, event: catalogue.EventName, client: str, service: str, request: str, text: str = "", count: int = 0
) -> Record:
    """What a client of a verification records of its own requests."""
    return Record(
        at,
        event,
        role="client",
        sender=client,
        request=request,
        client=client,
        service=service,
        text=text,
        count=count,
    )


class Caller:
    """A client whose requests stand in the trace at ``path`` as ``sent``, and then as ``got`` or ``failed``.

    Requests go to ``service`` of the broker at ``address``; ``timeout_s`` holds for a request that has none of its own.
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
        """Send ``<request>``, followed by ``more``; the future gives the id of the worker that answered, or "" on failure.

        When the future is done, the answer stands in the trace. Call it from one thread at a time: it counts requests as
        the client itself does.
        """
        self._count += 1
        request = self.last_request
        text = f"{request} {more}" if more else request
        noted: Future[str] = Future()

        def ended(done: Future[bytes]) -> None:
            error = done.exception()
            self._expired += isinstance(error, Expired)
            if error is None:
                answer = done.result().decode(errors="replace")
                self._note(catalogue.GOT, request, answer)
                noted.set_result(answer.rpartition(" ")[2])
            else:
                self._note(catalogue.FAILED, request, str(error))
                noted.set_result("")

        self._note(catalogue.SENT, request, text)
        self._client.submit(text, self._service, timeout=timeout_s).add_done_callback(ended)
        return noted

    def _note(self, event: catalogue.EventName, request: str, text: str = "", count: int = 0) -> None:
        self._trace.write([client_record(time.monotonic(), event, self.id, self._service, request, text, count)])

    @property
    def last_request(self) -> str:
        """``<id>/<number>`` of the request that was submitted last, as all traces name it."""
        return f"{self.id}/{self._count}"

    def check_patience(self) -> None:
        """Check that requests have the time that their broker, once it is known, needs to hand them to another worker.

        Raises:
            UsageError: they have less.
        """
        liveness_s = self._client.status()["liveness_s"]
        if liveness_s is not None and self._timeout_s < liveness_s + SPARE_S:
            raise UsageError(
                f"--timeout {self._timeout_s:g} s is too short for another worker to answer in place of a frozen one: "
                f"the broker gives it up after {liveness_s:g} s (its --liveness)",
                advice=f"Give --timeout {liveness_s + 2 * SPARE_S:g}.",
            )

    @property
    def broker(self) -> str:
        """The name of the broker that has its requests; empty: none has."""
        return self._client.status()["broker"] or ""

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._client.has_met_broker

    def close(self) -> None:
        """End what is in flight as failed, and close the trace. Safe to call twice."""
        self._client.close()
        unasked = self._client.status()["counts"]["answers_unasked"] - self._expired
        if unasked > 0 and not self._is_closed:
            self._note(catalogue.UNASKED, "", count=unasked)
        self._is_closed = True
        self._trace.close()


def is_broker_at(address: str, id: str, patience_s: float) -> bool:
    """Whether a broker welcomes a client called ``id`` at ``address`` within ``patience_s`` seconds."""
    with Client(address, id=id, timeout=None) as probe:
        asked = probe.submit("is anybody there?")  # a client looks for its broker when it has something to ask
        try:
            return wait(patience_s, lambda: probe.has_met_broker)
        finally:
            asked.cancel()  # there may be no worker

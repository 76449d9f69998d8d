"""The spans of requests, as a broker sees them, made from its records: how long each waited, and how long each attempt ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cbw.clock import Epoch
from cbw.core import catalogue
from cbw.core.headers import TRACEPARENT
from cbw.core.record import Record
from cbw.observe.spans import REQUEST_NAME, attributes_of, context_of, set_failed

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_WAITS_AGAIN = (catalogue.RETURNED, catalogue.ATTEMPT_FAILED, catalogue.RETRIED)
_FAILS = (catalogue.FAILED, catalogue.GAVE_UP, catalogue.EXPIRED, catalogue.CANCELLED, catalogue.STOPPED)
_ENDS = (catalogue.ANSWERED, *_FAILS)


class RequestSpans:
    """A span for each request that came with a ``traceparent``, below that of its client, and in it one for each time that the
    request waited (``wait``) and was with a worker (``run``). Requests from a journal have none: their beginning is not known.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._epoch = Epoch()
        self._open: dict[str, tuple[Span, Span]] = {}  # of a request, and of what it does now
        self._offset = 0.0

    def take(self, records: Iterable[Record]) -> None:
        """Make spans of these records, which come in order."""
        self._offset = self._epoch.offset()
        for record in records:
            if record.event == catalogue.ACCEPTED:
                self._begin(record)
            elif record.request in self._open:
                self._go_on(record)

    def _begin(self, record: Record) -> None:
        traceparent = (record.fields or {}).get(TRACEPARENT)
        if not traceparent:
            return
        from opentelemetry.trace import SpanKind

        whole = self._tracer.start_span(
            f"broker {record.service}",
            context_of({TRACEPARENT: traceparent}),
            SpanKind.INTERNAL,
            attributes_of(
                "broker", record.service, {REQUEST_NAME: record.request, "messaging.client.id": record.client}
            ),
            start_time=self._ns(record),
        )
        self._open[record.request] = (whole, self._part(whole, "wait", record))

    def _go_on(self, record: Record) -> None:
        whole, part = self._open[record.request]
        if record.event == catalogue.HANDED_OUT:
            part.end(self._ns(record))
            run = self._part(whole, "run", record)
            run.set_attribute("cbw.worker", record.worker)
            run.set_attribute("cbw.attempt", record.attempt)
            self._open[record.request] = (whole, run)
        elif record.event in _WAITS_AGAIN:
            set_failed(part, record.event, record.text)
            part.end(self._ns(record))
            self._open[record.request] = (whole, self._part(whole, "wait", record))
        elif record.event in _ENDS:
            del self._open[record.request]
            for span in (part, whole):
                if record.event in _FAILS:
                    set_failed(span, record.event, record.text)
                span.end(self._ns(record))

    def _part(self, whole: Span, name: str, record: Record) -> Span:
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(
            f"{name} {record.service}", set_span_in_context(whole), start_time=self._ns(record)
        )

    def _ns(self, record: Record) -> int:
        return int((record.at + self._offset) * 1e9)

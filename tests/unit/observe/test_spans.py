"""Spans, without a program that has set up OpenTelemetry: what a broker makes of its records, and what headers carry."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cbw.core import catalogue
from cbw.core.headers import HEADERS_BYTES_MAX, trace_of
from cbw.core.record import Record
from cbw.observe.request_spans import RequestSpans
from cbw.observe.spans import headers_within, tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def record(at: float, event: catalogue.EventName, **more: Any) -> Record:
    return Record(at, event, request="C1/1", client="C1", service="tea", **more)


def told(span: ReadableSpan) -> tuple[str, float, Any]:
    assert span.attributes is not None and span.start_time is not None and span.end_time is not None
    return span.name, round((span.end_time - span.start_time) / 1e9, 3), span.attributes.get("error.type")


def test_each_attempt_and_each_wait_is_a_span(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    spans = RequestSpans(provider.get_tracer("test"))
    spans.take([record(0, catalogue.ACCEPTED, fields={"traceparent": PARENT, "key": "ann"})])
    spans.take(
        [record(1, catalogue.HANDED_OUT, worker="W1", attempt=1), record(3, catalogue.ATTEMPT_FAILED, text="lost")]
    )
    spans.take([record(6, catalogue.HANDED_OUT, worker="W2", attempt=2), record(10, catalogue.ANSWERED)])
    found = exporter.get_finished_spans()
    assert list(map(told, found)) == [
        ("wait tea", 1, None),
        ("run tea", 2, "attempt_failed"),
        ("wait tea", 3, None),
        ("run tea", 4, None),
        ("broker tea", 10, None),
    ]
    whole = found[-1]
    assert whole.parent is not None and whole.parent.span_id == 0xB7AD6B7169203331
    assert {span.parent.span_id for span in found[:-1] if span.parent} == {
        whole.context.span_id if whole.context else 0
    }


@pytest.mark.parametrize("event", [catalogue.EXPIRED, catalogue.CANCELLED, catalogue.GAVE_UP, catalogue.STOPPED])
def test_what_ends_without_an_answer_has_failed(
    provider: TracerProvider, exporter: InMemorySpanExporter, event: catalogue.EventName
) -> None:
    spans = RequestSpans(provider.get_tracer("test"))
    spans.take([record(0, catalogue.ACCEPTED, fields={"traceparent": PARENT}), record(1, event, text="why")])
    assert [told(span)[2] for span in exporter.get_finished_spans()] == [event, event]


def test_requests_without_a_trace_have_no_span(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    spans = RequestSpans(provider.get_tracer("test"))
    spans.take([record(0, catalogue.ACCEPTED), record(1, catalogue.HANDED_OUT), record(2, catalogue.ANSWERED)])
    assert not exporter.get_finished_spans()


def test_headers_carry_the_span_if_there_is_room(provider: TracerProvider) -> None:
    span = provider.get_tracer("test").start_span("send")
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert trace_id in (headers_within(span, {"a": "b"}) or {})["traceparent"]
    full = {"a": "b" * (HEADERS_BYTES_MAX - 1)}
    assert headers_within(span, full) == full
    assert headers_within(span, None) is not None


def test_a_text_that_cannot_be_a_traceparent_is_not_recorded() -> None:
    assert trace_of({"traceparent": PARENT}) == PARENT
    assert trace_of({"traceparent": "x" * 129}) == trace_of({}) == trace_of(None) == ""


def test_there_is_no_tracer_before_somebody_sets_one_up() -> None:
    assert tracer() is None

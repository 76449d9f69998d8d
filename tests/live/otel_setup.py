"""Sets up OpenTelemetry in a program under test: its spans go to the file ``CBW_TEST_SPANS``, one JSON object a line."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class FileExporter(SpanExporter):
    """Each span is one write at the end of the file, which several processes share."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - as long as the program
        self._lock = threading.Lock()

    def export(self, spans: object) -> SpanExportResult:
        assert isinstance(spans, tuple | list)
        with self._lock:
            for span in spans:
                assert isinstance(span, ReadableSpan)
                self._file.write(span.to_json(indent=None).encode() + b"\n")
        return SpanExportResult.SUCCESS


def set_up() -> None:
    """Once a process."""
    provider = TracerProvider(resource=Resource({"service.name": os.environ.get("CBW_TEST_ROLE", "?")}))
    provider.add_span_processor(SimpleSpanProcessor(FileExporter(os.environ["CBW_TEST_SPANS"])))
    trace.set_tracer_provider(provider)


if __name__ == "__main__":
    from cbw.cli.main import main

    set_up()
    main()

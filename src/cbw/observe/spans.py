"""OpenTelemetry, if the program has it: the tracer, and how the context of a trace travels in the headers of a request.

Nothing is imported here. A program that has set up OpenTelemetry has imported it; for any other, a look is all that it costs.
The names of attributes are those of OpenTelemetry's conventions for messaging.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cbw.core.headers import why_bad_headers
from cbw.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context as TraceContext
    from opentelemetry.trace import Span, Tracer

REQUEST_NAME = "messaging.message.id"
"""The attribute for the name of the request in the log."""
_API = "opentelemetry.trace"
_found: Tracer | None = None


def tracer() -> Tracer | None:
    """What makes spans; None: the program has not set up OpenTelemetry."""
    return _found or (_look() if _API in sys.modules else None)


def _look() -> Tracer | None:
    global _found
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # which stands for one that is to come
        _found = trace.get_tracer("cbw", __version__)
    return _found


def context_of(headers: Mapping[str, str] | None) -> TraceContext:
    """The context that ``headers`` carry; without any, that of the code that runs."""
    from opentelemetry import context, propagate

    return propagate.extract(headers or {}, context.get_current())


def headers_within(span: Span, headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """``headers``, and the context of ``span``; without that, if there would be more than a request may have."""
    from opentelemetry import propagate, trace

    carried = dict(headers or {})
    propagate.inject(carried, trace.set_span_in_context(span, context_of(headers)))
    return dict(headers) if headers and why_bad_headers(carried) else carried


def attributes_of(operation: str, service: str, more: Mapping[str, str | int]) -> dict[str, str | int]:
    """What is said of a span, and ``more``. ``operation`` is ``send``, ``process`` or ``broker``."""
    return {
        "messaging.system": "cbw",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": service,
        **more,
    }


def set_failed(span: Span, kind: str, text: str, traceback: str | None = None) -> None:
    """Say that ``span`` has ended with an error, and where that was raised."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, text))
    if traceback:
        said = {"exception.type": kind, "exception.message": text, "exception.stacktrace": traceback}
        span.add_event("exception", said)

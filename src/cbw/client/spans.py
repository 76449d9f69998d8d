"""The span of a request, as its client sees it: from the moment when it is given to the client to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cbw.core import messages
from cbw.core.client.events import Ended
from cbw.core.parts import SUCCEEDED
from cbw.observe.spans import REQUEST_NAME, attributes_of, context_of, headers_within, set_failed

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class SentSpan:
    """A span around a request of ``service``, and the sink of its news, which go on to ``sink``.

    ``is_answered``: its client waits for the answer; otherwise only until the broker has the request.
    """

    def __init__(
        self,
        tracer: Tracer,
        service: str,
        sink: Callable[[Any], Any],
        headers: Mapping[str, str] | None,
        *,
        client: str,
        body_bytes: int,
        is_answered: bool = True,
    ) -> None:
        from opentelemetry.trace import SpanKind

        more: dict[str, str | int] = {"messaging.client.id": client, "messaging.message.body.size": body_bytes}
        self._sink = sink
        self._span = tracer.start_span(
            f"send {service}",
            context_of(headers),
            SpanKind.CLIENT if is_answered else SpanKind.PRODUCER,
            attributes_of("send", service, more),
        )
        self.headers = headers_within(self._span, headers)
        """Those of the request: the worker's span is below this one."""

    def is_called(self, request: str) -> None:
        """The request has this name in the log."""
        self._span.set_attribute(REQUEST_NAME, request)

    def __call__(self, news: Any) -> None:
        """Something has come of it."""
        if isinstance(news, Ended):
            answer = news.answer
            if answer.status not in SUCCEEDED:
                said = messages.error_parts(answer.body)
                set_failed(self._span, said.kind, said.text)
            self._span.end()
        self._sink(news)

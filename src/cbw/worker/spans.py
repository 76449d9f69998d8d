"""The span of a task, as its worker sees it: while its handler runs, which finds it as the current one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cbw.core import messages
from cbw.core.identities import ticket_name
from cbw.core.parts import SUCCEEDED
from cbw.observe.spans import REQUEST_NAME, attributes_of, context_of, set_failed

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


@contextlib.contextmanager
def processing(tracer: Tracer, task: messages.Task) -> Iterator[Span]:
    """The span of ``task``, below that of its client."""
    from opentelemetry.trace import SpanKind

    more: dict[str, str | int] = {
        REQUEST_NAME: task.request,
        "messaging.message.body.size": len(task.body),
        "cbw.attempt": task.attempt,
        "cbw.retries": task.retries,
    }
    kind = SpanKind.CONSUMER if task.request.startswith(ticket_name("")) else SpanKind.SERVER
    with tracer.start_as_current_span(
        f"process {task.service}",
        context_of(task.headers),
        kind,
        attributes_of("process", task.service, more),
    ) as span:
        yield span


@contextlib.contextmanager
def processing_all(tracer: Tracer, tasks: Sequence[messages.Task]) -> Iterator[Span]:
    """The span of a batch, linked to those of all its clients."""
    from opentelemetry.trace import Link, SpanKind, get_current_span

    service = tasks[0].service
    clients = (get_current_span(context_of(task.headers)).get_span_context() for task in tasks)
    with tracer.start_as_current_span(
        f"process {service}",
        kind=SpanKind.CONSUMER,
        attributes=attributes_of("process", service, {"messaging.batch.message_count": len(tasks)}),
        links=[Link(client) for client in clients if client.is_valid],
    ) as span:
        yield span


def tell_answers(span: Span, answers: Sequence[messages.Answer]) -> None:
    """Say on ``span`` how its tasks have ended: the first error, if there is one."""
    for answer in answers:
        if answer.status not in SUCCEEDED:
            said = messages.error_parts(answer.body)
            set_failed(span, said.kind, said.text, said.traceback)
            return

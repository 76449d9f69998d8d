"""The page of every exception, and of the statuses and refusals that raise them."""

from __future__ import annotations

import importlib
import inspect

from cbw import errors
from cbw.core import messages

from .markdown import cell, code, commented, markdown, page, table


def _exceptions() -> list[type[errors.CbwError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CbwError)]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])


def errors_page() -> str:
    """The page of every exception, and of the statuses and refusals that raise them."""
    rows = []
    for kind in _exceptions():
        bases = ", ".join(code(base.__name__) for base in kind.__bases__)
        text = cell(
            (kind.__doc__ or "").partition("\n\n")[0]
            if kind is not errors.CbwError
            else "Base class of all exceptions of cbw."
        )
        own = kind.__dict__.get("advice", "")
        rows.append([code(kind.__name__), bases, str(kind.exit_code), text + (f" *{cell(own)}*" if own else "")])
    statuses = [
        [str(status.value), code(status.name), _status_error(status), cell(comment)]
        for status, comment in commented(messages.Status)
    ]
    refusals = [
        [str(reason.value), code(reason.name), _refusal_error(reason), cell(comment)]
        for reason, comment in commented(messages.Refusal)
    ]
    doc = markdown(errors.__doc__).partition("\n\n")[2].strip()
    return page(
        "Errors",
        doc,
        "## All exceptions",
        "Text in italics is the default `advice` of the exception.",
        table(["exception", "base class", "exit code", "raised when"], rows),
        "Every `CbwError` has an `advice`, a text. A `RequestError` has `kind`, `text`, `request`, `request_id`, `service`.",
        "## The status of a request and its exception",
        "A request ends with a status of [the protocol](wire.md#statuses). For each the client library raises this exception:",
        table(["status", "name", "exception", "meaning"], statuses),
        "## Where an expired request was\n\n"
        + markdown(inspect.cleandoc(errors.Expired.__doc__ or "").partition("\n\n")[2]),
        "## The reason of a refused hello and its exception",
        "When a broker refuses the hello of a client or worker, the library raises:",
        table(["reason", "name", "exception", "meaning"], refusals),
    )


def _status_error(status: messages.Status) -> str:
    if status is messages.Status.OK:
        return "- (the answer)"
    if status is messages.Status.STOPPING:
        return "- (sent again)"
    if status is messages.Status.CRASHED:
        return "- (tried again)"
    result = importlib.import_module("cbw.client.result")
    answer = messages.Answer(1, status, messages.error_body("kind", "text"))
    error = result.exception_for(importlib.import_module("cbw.core.client.events").Ended(None, answer, "", ""))
    return code(type(error).__name__)


def _refusal_error(reason: messages.Refusal) -> str:
    refusal = importlib.import_module("cbw.wire.refusal")
    return code(type(refusal.refusal_error(messages.Refused(reason, ""))).__name__)

"""What a broker is sent that may be older than this client."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages


def why_unknown(request: messages.Message, broker: messages.Welcome) -> str:
    """Why ``broker`` cannot be asked that; empty: it can."""
    is_plain = isinstance(request, messages.Request)
    if not (is_plain or broker.keeps_tickets):
        return f"the broker {broker.broker} knows no tickets yet"
    if isinstance(request, messages.StreamRequest) and request.parts is not None and not broker.takes_streams:
        return f"the broker {broker.broker} knows no streams yet"
    return ""


def as_known(request: messages.Message, broker: messages.Welcome) -> messages.Message:
    """``request`` as ``broker`` knows it. One that does not know what else is wanted takes a plain request."""
    if isinstance(request, messages.StreamRequest) and not broker.takes_streams:
        kind = messages.RequestIfServed if request.requires_worker else messages.Request
        return as_known(kind(*_plain_fields(request)), broker)
    if type(request) is messages.RequestIfServed and not broker.refuses_unserved:
        return messages.Request(*_plain_fields(request))
    return request


def _plain_fields(request: messages.Request) -> tuple[Any, ...]:
    return msgspec.structs.astuple(request)[: len(messages.Request.__struct_fields__)]

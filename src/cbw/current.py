"""Which request the running code serves: set by workers around each handler, read by what logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

request_context: ContextVar[Any] = ContextVar("cbw.request_context", default=None)
"""The :class:`cbw.Context` of the request that this thread or coroutine serves; None: it serves none."""

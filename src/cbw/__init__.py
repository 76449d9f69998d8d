"""cbw: a fault-tolerant client-broker-worker system over ZeroMQ.

::

    import cbw

    with cbw.Client("localhost:9998") as client:
        print(client.call(b"hello"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cbw.errors import (
    BadAnswer,
    BadRequest,
    Busy,
    Cancelled,
    CannotBind,
    CannotResolve,
    CbwError,
    Closed,
    DuplicateId,
    Expired,
    GaveUp,
    HandlerFailed,
    NoAnswer,
    NotReady,
    PromiseBroken,
    RequestError,
    TooBig,
    UsageError,
    VersionMismatch,
)

if TYPE_CHECKING:
    from cbw.aio import AsyncClient
    from cbw.broker import Broker
    from cbw.client import Client
    from cbw.core.limits import Limits
    from cbw.handler import Attempt
    from cbw.log_handler import LogHandler
    from cbw.trace import LogTarget, Trace
    from cbw.worker import Worker
else:
    _HOMES = {
        "AsyncClient": "cbw.aio",
        "Attempt": "cbw.handler",
        "Broker": "cbw.broker",
        "Client": "cbw.client",
        "Limits": "cbw.core.limits",
        "LogHandler": "cbw.log_handler",
        "LogTarget": "cbw.trace",
        "Trace": "cbw.trace",
        "Worker": "cbw.worker",
    }

    def __getattr__(name: str) -> Any:
        """Imported when it is first asked for: a client need not load a broker, nor the command line both."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Attempt",
    "BadAnswer",
    "BadRequest",
    "Broker",
    "Busy",
    "Cancelled",
    "CannotBind",
    "CannotResolve",
    "CbwError",
    "Client",
    "Closed",
    "DuplicateId",
    "Expired",
    "GaveUp",
    "HandlerFailed",
    "Limits",
    "LogHandler",
    "LogTarget",
    "NoAnswer",
    "NotReady",
    "PromiseBroken",
    "RequestError",
    "TooBig",
    "Trace",
    "UsageError",
    "VersionMismatch",
    "Worker",
    "__version__",
]

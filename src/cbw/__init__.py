"""cbw: a fault-tolerant client-broker-worker system over ZeroMQ.

::

    import cbw

    with cbw.Client("localhost:9998") as client:
        print(client.call(b"hello"))
"""

from cbw.aio import AsyncClient
from cbw.broker import Broker
from cbw.client import Client
from cbw.core.broker import Limits
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
from cbw.handler import Attempt
from cbw.log_handler import LogHandler
from cbw.trace import LogTarget, Trace
from cbw.worker import Worker

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

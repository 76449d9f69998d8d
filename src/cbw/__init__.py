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
    AnswerTooBig,
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
    Failure,
    GaveUp,
    HandlerFailed,
    JournalBroken,
    JournalDamaged,
    JournalError,
    JournalFenced,
    JournalFull,
    JournalInUse,
    JournalOnNetwork,
    JournalTooNew,
    JournalTooOldServer,
    JournalUnreachable,
    KeyNotAllowed,
    KeyRefused,
    KeysMissing,
    NoAnswer,
    NotAllowed,
    NotEncodable,
    NotReady,
    PromiseBroken,
    RequestError,
    Retry,
    StreamBroken,
    TicketTaken,
    TimeLimit,
    TooBig,
    UnknownTicket,
    UsageError,
    VersionMismatch,
    WorkerStuck,
    WrongServerKey,
)
from cbw.version import __version__

if TYPE_CHECKING:
    from cbw import metrics
    from cbw.broker import Broker
    from cbw.client.async_client import AsyncClient
    from cbw.client.progress import Progress
    from cbw.client.stream import AnswerStream, AsyncAnswerStream
    from cbw.client.sync_client import Client
    from cbw.client.ticket import Ticket
    from cbw.codecs.interface import Codec
    from cbw.codecs.msgpack import Msgpack
    from cbw.contract.context import Context
    from cbw.contract.service import Service
    from cbw.core.broker.limits import Limits
    from cbw.observe.log_handler import LogHandler
    from cbw.observe.trace import LogTarget, Trace
    from cbw.worker.worker import Worker
else:
    _HOMES = {
        "AsyncClient": "cbw.client.async_client",
        "AsyncAnswerStream": "cbw.client.stream",
        "Broker": "cbw.broker",
        "Client": "cbw.client.sync_client",
        "Codec": "cbw.codecs.interface",
        "Context": "cbw.contract.context",
        "Limits": "cbw.core.broker.limits",
        "LogHandler": "cbw.observe.log_handler",
        "LogTarget": "cbw.observe.trace",
        "Msgpack": "cbw.codecs.msgpack",
        "Progress": "cbw.client.progress",
        "Service": "cbw.contract.service",
        "AnswerStream": "cbw.client.stream",
        "Ticket": "cbw.client.ticket",
        "Trace": "cbw.observe.trace",
        "Worker": "cbw.worker.worker",
        "metrics": "cbw.metrics",
    }

    def __getattr__(name: str) -> Any:
        """Imported when it is first asked for: a client need not load a broker, nor the command line both."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(_HOMES[name])
        value = globals()[name] = home if _HOMES[name] == f"cbw.{name}" else getattr(home, name)
        return value


__all__ = [
    "AnswerStream",
    "AnswerTooBig",
    "AsyncAnswerStream",
    "AsyncClient",
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
    "Codec",
    "Context",
    "DuplicateId",
    "Expired",
    "Failure",
    "GaveUp",
    "HandlerFailed",
    "JournalBroken",
    "JournalDamaged",
    "JournalError",
    "JournalFenced",
    "JournalFull",
    "JournalInUse",
    "JournalOnNetwork",
    "JournalTooNew",
    "JournalTooOldServer",
    "JournalUnreachable",
    "KeyNotAllowed",
    "KeyRefused",
    "KeysMissing",
    "Limits",
    "LogHandler",
    "LogTarget",
    "Msgpack",
    "NoAnswer",
    "NotAllowed",
    "NotEncodable",
    "NotReady",
    "Progress",
    "PromiseBroken",
    "RequestError",
    "Retry",
    "Service",
    "StreamBroken",
    "Ticket",
    "TicketTaken",
    "TimeLimit",
    "TooBig",
    "Trace",
    "UnknownTicket",
    "UsageError",
    "VersionMismatch",
    "Worker",
    "WorkerStuck",
    "WrongServerKey",
    "__version__",
    "metrics",
]

"""The standard library's logging, delivered to cbw's logger."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from cbw.addresses import checked_host, checked_port
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.keys.folder import link_keys
from cbw.observe.program_logs import request_fields
from cbw.observe.sender import LogSender
from cbw.settings import LOG_PORT, LOGGER_HOST, LOGGER_PORT
from cbw.wire.refusal import checked_id

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogHandler(logging.Handler):
    """A :class:`logging.Handler` that sends what any Python program logs to the logger at ``host``.

    ::

        logging.getLogger().addHandler(cbw.LogHandler("log.example.org"))

    Each record becomes one line of the log: ``event`` is ``"log"``, ``sender`` is ``name`` (default ``APP_<host>_<process>``),
    ``text`` the formatted message with its traceback, ``level`` in lower case, ``fields`` the logger's name and what was given
    as ``extra``. Logging never waits for the logger: the newest ``spool_bytes`` bytes that it has not acknowledged are kept
    (default: 64 MiB, or less to fit the memory limit of the container).
    What is logged inside a handler carries its request, and so joins its story. What JSON has no form for is printed; a line is
    at most 1 MiB long. A forked process is a sender of its own. ``keys`` is the folder of keys, or the program's own secret key
    file in it (default: ``CBW_KEYS``; empty: nothing is encrypted).

    Raises:
        UsageError: ``host`` and ``port`` are no address, ``name`` is no id, or a key is missing.
    """

    def __init__(
        self,
        host: str,
        port: int = LOG_PORT,
        *,
        name: str | None = None,
        spool_bytes: int | None = None,
        level: int = logging.NOTSET,
        keys: str | Path | None = None,
    ) -> None:
        super().__init__(level)
        checked_host(host, LOGGER_HOST)
        checked_port(port, LOGGER_PORT)
        self._name = f"APP_{socket.gethostname()}_{os.getpid()}" if name is None else checked_id(name)
        self._sender = LogSender(
            self._name, host, port + 1, spool_bytes=spool_bytes, keys=link_keys(keys, "logger", "client")
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Hand ``record`` over; an error in it goes to :meth:`logging.Handler.handleError`, as usual."""
        try:
            fields: dict[str, Any] = {"logger": record.name}
            for name, value in vars(record).items():
                if name not in _STANDARD:
                    fields[name] = msgspec.to_builtins(value, enc_hook=repr)
            line = Record(
                record.created,
                catalogue.LOG,
                role="app",
                sender=self._name,
                text=self.format(record),
                level=record.levelname.lower(),
                fields=fields,
                **request_fields(),
            )
            self._sender.put([line])
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Deliver what is left, for at most two seconds. The standard library calls this when the program ends."""
        self._sender.close()
        super().close()

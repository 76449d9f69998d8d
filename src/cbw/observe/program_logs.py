"""What a user's handlers log with Python's ``logging``: it is printed, and joins the story of the request that they serve."""

from __future__ import annotations

import logging
import time
from typing import Any

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.current import request_context
from cbw.observe.trace import Trace


def show_logs() -> None:
    """Print it to stderr, from level INFO on, unless the program has set ``logging`` up itself. Call it when that is imported."""
    form = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%H:%M:%S")


def request_fields() -> dict[str, Any]:
    """What a record of a log line says of the request that this thread or coroutine serves; empty: it serves none."""
    context = request_context.get()
    if context is None or not context.request:
        return {}
    named = {"request": context.request, "client": context.client, "service": context.service}
    return {**named, "task": context.task, "attempt": context.attempt}


class StoryHandler(logging.Handler):
    """Keeps what the handlers of ``worker`` log, from level INFO on, where ``trace`` keeps records. What is logged beside
    requests is left out.
    """

    def __init__(self, worker: str, trace: Trace) -> None:
        super().__init__(logging.INFO)
        self._worker = worker
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        """Hand ``record`` over; an error in it goes to :meth:`logging.Handler.handleError`, as usual."""
        if record.name == "cbw.worker" or not (named := request_fields()):  # failures have records of their own
            return
        try:
            line = Record(
                time.monotonic(),
                catalogue.LOG,
                role="worker",
                sender=self._worker,
                worker=self._worker,
                text=self.format(record),
                level=record.levelname.lower(),
                fields={"logger": record.name},
                **named,
            )
            self._trace.keep([line])
        except Exception:
            self.handleError(record)


def tell_stories(worker: str, trace: Trace) -> None:
    """Let what handlers log join the stories of their requests, if anybody keeps them."""
    if trace.wants_all:
        logging.getLogger().addHandler(StoryHandler(worker, trace))

"""How far a handler is, as the caller is told who has ``on_progress``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from cbw.core.messages import ProgressMade

_log = logging.getLogger("cbw.client")


class Progress(NamedTuple):
    """What a handler has given to ``Context.progress``: it has ``done`` so much of ``total`` (None: that is not known)."""

    done: float
    total: float | None = None
    text: str = ""


OnProgress = Callable[[Progress], Any] | None
"""Called with each progress that the handler tells, in the thread that reads the socket, or that waits for the answer."""


def progress_of(message: ProgressMade) -> Progress:
    """What ``message`` says."""
    return Progress(message.done, message.total, message.text)


class ProgressSink:
    """Where the news of one request go: each progress to ``on_progress``, and its end to ``end``.

    What ``on_progress`` raises is logged, as :meth:`.RequestFuture.end` does with callbacks; not so Ctrl-C.
    """

    def __init__(self, end: Callable[[Any], None], on_progress: Callable[[Progress], Any]) -> None:
        self._end = end
        self._on_progress = on_progress

    def __call__(self, news: Any) -> None:
        """Something has come."""
        if isinstance(news, ProgressMade):
            try:
                self._on_progress(progress_of(news))
            except KeyboardInterrupt:
                raise
            except BaseException:  # it runs in the thread of whoever reads the socket, and others wait for that
                _log.exception("exception calling on_progress %r", self._on_progress)
        else:
            self._end(news)

"""What the services of a worker open when a process begins to serve, and close when it ends: ``@shop.lifespan``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

from cbw.contract.service import Service
from cbw.errors import NotReady
from cbw.worker.event_loop import LoopThread
from cbw.worker.handler import Handler, indented

OPENING_LOOK_S = 0.25
"""Seconds between two looks at whether a worker that is still opening its lifespans was told to stop."""
LIFESPAN_CLOSE_S = 10.0
"""Longest time in seconds that an async lifespan may take to close. A service manager would not wait much longer either."""
_log = logging.getLogger("cbw.worker")


class Lifespans:
    """The lifespans of the services of ``handlers``, in this process.

    There is an event loop if one of them is async, or the handlers want it (``wants_loop``); ``fail`` is told if that ends.

    From :meth:`open` on the handlers have the states that the lifespans have yielded. Handlers must run in the event loop of
    :attr:`loop_thread`, if there is one: what is opened in one loop cannot be used in another.
    """

    def __init__(
        self, handlers: Iterable[Handler], fail: Callable[[BaseException], None], *, wants_loop: bool = False
    ) -> None:
        self._handlers = [handler for handler in handlers if handler.owner is not None]
        owners = dict.fromkeys(handler.owner for handler in self._handlers)
        self._services = [owner for owner in owners if owner is not None and owner.opens is not None]
        self._closings: list[Callable[[], object]] = []
        self.opening = ""
        """The service whose lifespan is being opened; empty: none is."""
        is_async = any(inspect.isasyncgenfunction(service.opens) for service in self._services)
        self.loop_thread = LoopThread(fail) if is_async or wants_loop else None

    def open(self, is_unwanted: Callable[[], bool] = lambda: False) -> None:
        """Open all, in order, unless that ``is_unwanted`` meanwhile. When one fails, those before it are closed.

        Raises:
            NotReady: one has raised, or has not yielded.
        """
        for service in self._services:
            if is_unwanted():
                return
            self.opening = service.name
            try:
                state = self._open(service, is_unwanted)
            except Exception as error:
                self.close()
                text = f"the lifespan of {service.name} failed: {type(error).__name__}: {error}"
                raise NotReady(text, advice=_told(error, service)) from error
            finally:
                self.opening = ""
            for handler in self._handlers:
                if handler.owner is service:
                    handler.state = state

    def close(self) -> None:
        """Close what was opened, the last one first. What goes wrong is told to ``logging``, and the others are closed."""
        while self._closings:
            try:
                self._closings.pop()()
            except Exception:
                _log.exception("a lifespan has failed at its end")
        if self.loop_thread is not None:
            self.loop_thread.close()
            self.loop_thread = None

    def _open(self, service: Service, is_unwanted: Callable[[], bool]) -> Any:
        assert service.opens is not None
        if inspect.isasyncgenfunction(service.opens):
            assert self.loop_thread is not None
            return self._open_async(service.opens, self.loop_thread.loop, is_unwanted)
        manager = contextlib.contextmanager(service.opens)()
        state = manager.__enter__()
        self._closings.append(functools.partial(manager.__exit__, None, None, None))
        return state

    def _open_async(
        self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, is_unwanted: Callable[[], bool]
    ) -> Any:
        opened: futures.Future[Any] = futures.Future()
        is_over = asyncio.Event()

        async def hold() -> None:
            # One task from the beginning to the end, as task groups and cancel scopes want it.
            async with contextlib.asynccontextmanager(function)() as state:
                opened.set_result(state)
                await is_over.wait()

        held = asyncio.run_coroutine_threadsafe(hold(), loop)
        while not futures.wait([opened, held], OPENING_LOOK_S, futures.FIRST_COMPLETED).done:
            if is_unwanted():
                held.cancel()
                return None
        if not opened.done():
            held.result()  # raises what it has raised

        def close() -> None:
            loop.call_soon_threadsafe(is_over.set)
            held.result(LIFESPAN_CLOSE_S)

        self._closings.append(close)
        return opened.result()


def _told(error: BaseException, service: Service) -> str:
    """Where the lifespan of ``service`` has raised ``error``, without the frames that have called it."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code is not getattr(service.opens, "__code__", None):
        frames = frames.tb_next
    return indented(error, frames or error.__traceback__)

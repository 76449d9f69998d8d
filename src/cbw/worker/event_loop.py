"""An event loop in a thread of its own, for everything in a process that is async: handlers and lifespans."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

LOOP_CLOSE_S = 1.0
"""Longest time in seconds that a closing loop waits for its coroutines, which are cancelled, to close what they have open."""


class LoopThread:
    """Runs :attr:`loop` until it is closed. ``fail`` is told of an error that ends it before that."""

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self._fail = fail
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="handlers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cancel what still runs, and end."""
        self._is_closed = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LOOP_CLOSE_S)  # longer only if a coroutine blocks the loop

    def _run(self) -> None:
        loop = self.loop
        try:
            asyncio.set_event_loop(loop)
            while not self._is_closed:
                # A handler may stop the loop, or exit in a task of its own: others run on.
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    loop.run_forever()
            # Those that do not end run on with the process, as threads do: asyncio would complain of a loop that is closed.
            for unwinding in (_cancel_all(), loop.shutdown_asyncgens()):
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    loop.run_until_complete(unwinding)
            loop.close()
        except BaseException as error:
            self._fail(error)


async def _cancel_all() -> None:
    """Cancel what runs, tasks that handlers have made too, and wait until it has ended."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)

"""A way between two programs that a test can interrupt, as a partition of the network does, or make long."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from tests.ports import free_port

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16
CLOSE_S = 0.02
"""For what the loop does in its next turns: it closes a connection in the turn after the one that ends it."""


class _Way:
    """One direction of a connection: its bytes arrive ``delay_s`` after they were sent, and not before ``gate`` is open."""

    def __init__(
        self, relay: Relay, gate: asyncio.Event, source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        self._relay = relay
        self._gate = gate
        self._source = source
        self._to = to
        self._on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def run(self) -> None:
        """Until one of the two ends is closed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take())
            tasks.create_task(self._give())

    async def _take(self) -> None:
        data = b" "
        while data:
            try:
                data = await self._source.read(CHUNK_BYTES)
            except OSError:
                data = b""
            self._on_the_way.put_nowait((asyncio.get_running_loop().time() + self._relay.delay_s, data))

    async def _give(self) -> None:
        while True:
            due_at, data = await self._on_the_way.get()
            await asyncio.sleep(due_at - asyncio.get_running_loop().time())
            await self._gate.wait()
            self._relay.passes(data, self._gate)
            with contextlib.suppress(OSError):
                self._to.write(data)
                await self._to.drain()
            if not data:
                self._to.close()
                return


class Relay:
    """Listens on :attr:`address` and passes everything on to the port ``target`` of this machine, in a thread of its own.

    Whatever is held back arrives when the relay is mended, as what TCP sends again does after a partition.
    """

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        """How long everything is on its way, in each direction."""
        self.address = f"{HOST}:{(port := free_port())}"
        self._target = target
        self._awaited = b""
        self._has_passed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._towards_target, self._back = asyncio.Event(), asyncio.Event()
        self._ends: set[asyncio.StreamWriter] = set()
        self._towards_target.set()
        self._back.set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, port))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Hold everything back, in both directions, and of connections that are made from now on too."""
        self._loop.call_soon_threadsafe(self._towards_target.clear)
        self._loop.call_soon_threadsafe(self._back.clear)

    def cut_behind(self, words: bytes) -> None:
        """Pass on what is sent up to ``words``, and hold everything back from then on."""
        self._has_passed.clear()
        self._awaited = words

    def wait_for_the_cut(self, within_s: float) -> bool:
        """Wait until what :meth:`cut_behind` waits for has been passed on; whether it has."""
        return self._has_passed.wait(within_s)

    def mend(self) -> None:
        """Pass everything on again."""
        self._awaited = b""
        self._loop.call_soon_threadsafe(self._towards_target.set)
        self._loop.call_soon_threadsafe(self._back.set)

    def passes(self, data: bytes, gate: asyncio.Event) -> None:
        """``data`` goes through ``gate``."""
        if self._awaited and gate is self._towards_target and self._awaited in data:
            self._awaited = b""
            self._towards_target.clear()
            self._back.clear()
            self._has_passed.set()

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._target)
        except OSError:
            near.close()
            return
        if not self._server.is_serving():
            near.transport.abort()
            far.transport.abort()
            return
        self._ends |= {near, far}
        await asyncio.gather(
            _Way(self, self._towards_target, near_reader, far).run(),
            _Way(self, self._back, far_reader, near).run(),
            return_exceptions=True,
        )
        self._ends -= {near, far}

    def close(self) -> None:
        """Close all connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._awaited = b""
        self._towards_target.set()
        self._back.set()
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(CLOSE_S)  # who was accepted just now has a task by then
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        await asyncio.sleep(CLOSE_S)

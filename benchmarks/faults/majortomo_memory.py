"""majortomo, a Majordomo broker that keeps everything in memory. Its README tells clients to ask again after a time.

- A client that gets no reply in time connects again and sends its request again: "Timeouts & Retrying" of
  https://github.com/Shoppimon/majortomo. The time is longer than 1,000 requests take, because a repetition is another request.
- ``--busy-worker-timeout`` 30 s: a worker that takes longer counts as lost. The default is 900 s.

Its client has one request at a time, so 1,000 requests are asked by 1,000 clients in one process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import client
from benchmarks.faults.handler import handle
from benchmarks.faults.system import HOST, LEASE_S, PORTS, QUEUE, Command, ComparedSystem, ports_of, program

MODULE = "benchmarks.faults.majortomo_memory"
CLIENTS_MAX = 2000
"""ZeroMQ's own limit is 1023 sockets in a process."""
LOOK_S = 0.001
"""The shortest time that its client can wait for a reply; 0 is for ever."""


def _servers(python: str, _: Path, ports: Sequence[int]) -> list[Command]:
    command = [python, "-m", "majortomo.broker", "-b", f"tcp://{HOST}:{ports[0]}", "-B", str(LEASE_S)]
    return [Command(command, port=ports[0])]


def _worker(python: str, _: str, __: Sequence[int]) -> Command:
    return program(MODULE, python, "worker")


SYSTEM = ComparedSystem(
    name="majortomo",
    module=MODULE,
    ports=1,
    servers=_servers,
    worker=_worker,
    settings="nothing is stored; clients ask again after 30 s, `--busy-worker-timeout` 30",
    libraries=("majortomo", "pyzmq"),
    late_s=LEASE_S + 15.0,
)


class Waiting:
    """A request, the client that waits for its reply, and since when."""

    def __init__(self, request: str, url: str, context: Any) -> None:
        import majortomo

        self._request = request
        self._client = majortomo.Client(url, zmq_context=context)
        self._ask()

    def _ask(self) -> None:
        self._client.connect(reconnect=True)
        self._client.send(QUEUE, self._request.encode())
        self._asked_at = time.monotonic()

    def look(self) -> str | None:
        """The reply, or None: not yet, or it was fetched before. Asks again when it has waited too long."""
        from majortomo.error import Timeout

        try:
            frames = self._client.recv_part(timeout=LOOK_S)
        except Timeout:
            if time.monotonic() - self._asked_at > LEASE_S:
                self._ask()
            return None
        return frames[0].decode() if frames else None


class Asker:
    """A client for each request."""

    def __init__(self) -> None:
        import zmq

        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, CLIENTS_MAX)
        self._url = f"tcp://{HOST}:{ports_of(os.environ[PORTS])[0]}"

    def ask(self, request: str) -> object:
        return Waiting(request, self._url, self._context)

    def answer_of(self, handle: object) -> str | None:
        assert isinstance(handle, Waiting)
        return handle.look()


def _work() -> None:
    import majortomo
    from majortomo.error import Disconnected

    (port,) = ports_of(os.environ[PORTS])
    worker = majortomo.Worker(f"tcp://{HOST}:{port}", QUEUE)
    worker.connect()
    while True:
        try:
            name, (request,) = worker.wait_for_request()
        except Disconnected:
            worker.connect()
        else:
            worker.send_reply_final(name, [handle(request.decode()).encode()])


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client.run(Asker())
    else:
        _work()

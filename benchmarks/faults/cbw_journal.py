"""cbw with a journal: ``--journal-sync full``, the default, syncs each batch before a request is handed out or answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import cast

from benchmarks.faults import client
from benchmarks.faults.system import HOST, PORTS, Command, ComparedSystem, ports_of

HANDLER = "benchmarks.faults.handler:handle"
NO_STATUS = {"CBW_STATUS_PORT": "0"}
"""No status page: only one role of a host can have the usual port."""


def _servers(python: str, folder: Path, ports: Sequence[int]) -> list[Command]:
    clients, workers = map(str, ports)
    command = [python, "-m", "cbw", "broker", clients, workers, "--listen", HOST]
    return [Command([*command, "--journal", str(folder / "journal")], NO_STATUS, ports[0])]


def _worker(python: str, name: str, ports: Sequence[int]) -> Command:
    command = [python, "-m", "cbw", "worker", name, HOST, str(ports[1]), "--handler", HANDLER]
    return Command([*command, "--processes", "1"], NO_STATUS)


SYSTEM = ComparedSystem(
    name="cbw",
    module="benchmarks.faults.cbw_journal",
    ports=2,
    servers=_servers,
    worker=_worker,
    settings="`--journal`, workers with `--processes 1`",
    child="the child process of `--processes`",
)


class Asker:
    """A :class:`cbw.Client` that keeps its requests until they are answered, for as long as that takes."""

    def __init__(self) -> None:
        import cbw

        self._client = cbw.Client(f"{HOST}:{ports_of(os.environ[PORTS])[0]}", timeout=None)

    def ask(self, request: str) -> object:
        return self._client.submit(request)

    def answer_of(self, handle: object) -> str | None:
        future = cast("Future[bytes]", handle)
        if not future.done():
            return None
        if (error := future.exception()) is not None:
            raise client.RequestFailed(repr(error))
        return future.result().decode()


if __name__ == "__main__":
    client.run(Asker())

"""The journal in NATS keeps the contract, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cbw.journal.backend import Backend
from cbw.journal.nats import NatsJournal
from cbw.journal.nats_place import NatsPlace
from tests.nats_server import NatsServer
from tests.unit.journal.contract import Contract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


class TestNatsJournal(Contract):
    @pytest.fixture(autouse=True)
    def _on(self, server: NatsServer) -> None:
        self.server = server

    def backend(self, folder: Path) -> Backend:
        name = "".join(letter if letter.isalnum() else "-" for letter in folder.name)[:64]
        return NatsJournal(NatsPlace.of(f"nats://{self.server.address}/{name}"))

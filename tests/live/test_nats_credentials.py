"""A broker shows its credentials to a NATS server that wants some; without them it does not get in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nats_accounts import Accounts
from tests.nats_server import NatsServer

from .conftest import Connect, Start, StartWorker, broker_of
from .program import PATIENCE_S


@pytest.fixture(scope="module")
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture(scope="module")
def server(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats"), accounts.configuration) as running:
        yield running


def test_with_credentials_it_keeps_its_journal_there(
    accounts: Accounts, server: NatsServer, start: Start, start_worker: StartWorker, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "nats.creds"
    file.write_text(accounts.credentials)
    broker = broker_of(start("broker", 0, 0, "--journal", f"nats://{server.address}/creds?credentials={file}"))
    start_worker("W1", "echo", at=broker)
    assert connect(broker).call("kept") == b"kept"


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
def test_without_the_right_ones_it_is_not_let_in(whose: str, server: NatsServer, start: Start, tmp_path: Path) -> None:
    file = tmp_path / "nats.creds"
    file.write_text(Accounts().credentials)
    more = "" if whose == "nobody's" else f"?credentials={file}"
    broker = start("broker", 0, 0, "--journal", f"nats://{server.address}/creds{more}")
    broker.wait_for("waits", "uthorization", within_s=PATIENCE_S)

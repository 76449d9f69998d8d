"""Programs that know only ZeroMQ, with keys: Node's Request sockets, given the halves that are in the key files."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import HOST, Start, StartBroker


@pytest.fixture
def keys(start: Start, tmp_path: Path) -> Path:
    """A folder of keys."""
    start("keys", "new", tmp_path / "keys").finish()
    return tmp_path / "keys"


def test_node_with_keys(start: Start, start_broker: StartBroker, keys: Path) -> None:
    broker = start_broker("--keys", keys)
    start("curve_worker.js", "W1", HOST, broker.back, CBW_KEYS=keys)
    client = start("curve_client.js", "C1", 3, HOST, broker.front, CBW_KEYS=keys)
    assert client.finish() == [f"C1-{number} W1" for number in range(1, 4)]
    stranger = start("modern_client.js", "C2", 1, HOST, broker.front)
    ours = start("client", "C3", 2, HOST, broker.front, "--keys", keys)
    assert ours.finish() == [f"C3-{number} W1" for number in range(1, 3)]
    assert stranger.is_running(), "it waits for a reply, and gets none"

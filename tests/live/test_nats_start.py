"""A journal on servers that do not keep streams yet, as those of a cluster that has no leader."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbw.errors import JournalUnreachable
from cbw.journal.nats import NatsJournal
from cbw.journal.nats_place import NatsPlace
from tests.nats_server import NatsCluster


def test_a_server_of_a_cluster_without_a_leader(tmp_path: Path) -> None:
    """It is waited for: that is no reason to end."""
    server = NatsCluster(tmp_path).servers[0]
    with server, pytest.raises(JournalUnreachable):
        NatsJournal(NatsPlace.of(f"nats://{server.address}/j")).open()

"""How long requests took: counted a batch at a time, also if nobody looks."""

from __future__ import annotations

import pytest

from cbw.core.broker import requests
from cbw.core.histogram import Latencies

from .system import CoreSystem


def test_what_nobody_looks_at_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(requests, "LATENCIES_MAX", 3)
    monkeypatch.setattr(Latencies, "add", lambda latencies, seconds: counted.append(len(seconds)))
    system = CoreSystem()
    system.client()
    system.worker(concurrency=7)
    system.ask(*range(7))
    system.answer_all("W1")
    assert counted == [3, 3]
    assert system.core.requests.latencies is not None
    assert counted == [3, 3, 1]

"""A role that is told to stop while it starts stops, though it is the first process of its container."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from .engine import must

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("role", ["imbroker", "imworker", "imclient", "imlogger"])
@pytest.mark.parametrize("after_s", [0.0, 0.2])
def test_a_stop_while_it_starts(images: dict[str, str], run: Callable[..., str], role: str, after_s: float) -> None:
    name = run("--detach", "-e", "BROKER_HOST=172.17.0.250", images[role])
    time.sleep(after_s)
    must("stop", "--time", 30, name)
    state = json.loads(must("inspect", name))[0]["State"]
    assert state["ExitCode"] == 0, must("logs", name)

"""Coroutines that still run when the grace time of their worker is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import HOST, Broker, Connect, Start
from .program import wait_until

ASYNC = """\
import asyncio
from pathlib import Path

HERE = Path(__file__).parent


async def tidy(body: str) -> None:
    (HERE / "begun").touch()
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.1)
        (HERE / "tidied").touch()


async def tidy_for_long(body: str) -> None:
    (HERE / "begun").touch()
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(600)


async def stay(body: str) -> None:
    (HERE / "begun").touch()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
"""


@pytest.mark.parametrize("handler", ["tidy", "tidy_for_long", "stay"])
def test_coroutines_may_clean_up_when_the_grace_time_is_over(
    start: Start, broker: Broker, connect: Connect, tmp_path: Path, handler: str
) -> None:
    """Of those that do not end, asyncio does not say that they were destroyed."""
    (tmp_path / "lasting.py").write_text(ASYNC)
    worker = start(
        *("worker", "W1", HOST, broker.worker_port, "--handler", f"lasting:{handler}", "--grace", 0.5),
        PYTHONPATH=str(tmp_path),
    )
    asked = connect(broker).submit("x")
    wait_until((tmp_path / "begun").exists, "the handler has begun")
    worker.terminate()
    assert (tmp_path / "tidied").exists() is (handler == "tidy")
    assert len(worker.errors) == 0, worker
    asked.cancel()

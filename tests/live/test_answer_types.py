"""Types that no answer can be read as: the caller is told so before the work is done."""

from __future__ import annotations

import asyncio
import enum
import threading
from typing import Any

import pytest

import cbw

from .conftest import Broker, Connect

SAID = "which no answer can be read as"


@pytest.mark.parametrize("returns", ["int", enum, len, threading.Thread])
def test_no_work_is_done_for_an_answer_that_nobody_could_read(shared: Broker, connect: Connect, returns: Any) -> None:
    client = connect(shared)
    for ask in (client.call, client.submit, client.stream):
        with pytest.raises(cbw.UsageError, match=SAID):
            ask("x", "echo", returns=returns)
    with pytest.raises(cbw.UsageError, match=SAID):
        client.map(["x"], "echo", returns=returns)
    with pytest.raises(cbw.UsageError, match=SAID):
        client.result("ticket", returns=returns)


def test_nor_by_an_async_client(shared: Broker) -> None:
    async def use() -> None:
        async with cbw.AsyncClient(shared.address) as client:
            with pytest.raises(cbw.UsageError, match=SAID):
                await client.call("x", "echo", returns=len)
            with pytest.raises(cbw.UsageError, match=SAID):
                await client.result("ticket", returns=len)

    asyncio.run(use())

"""Which requests of one turn of a loop travel together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cbw

from .conftest import Broker
from .program import PATIENCE_S


@pytest.mark.parametrize(("count", "at_once"), [(100, [100]), (300, [128, 128, 44])])
def test_what_is_asked_in_one_turn(shared: Broker, count: int, at_once: list[int]) -> None:
    """Few requests leave in one message. Of many the first leave while the program makes more: so the broker works meanwhile."""
    sent: list[int] = []

    async def main() -> None:
        async with cbw.AsyncClient(shared.address, timeout=PATIENCE_S) as client:
            await client.call("met", "echo")
            connection = client._connection
            send = connection.send

            def counted(batch: list[Any]) -> list[Any]:
                sent.append(len(batch))
                return send(batch)

            connection.send = counted  # type: ignore[method-assign]
            futures = [client.submit(f"{number}", "echo") for number in range(count)]
            before_the_end_of_the_turn = [*sent]
            answers = await asyncio.gather(*futures)
            assert answers == [b"%d" % number for number in range(count)]
            assert before_the_end_of_the_turn == at_once[: len(at_once) - 1]
            assert sent == at_once

    asyncio.run(main())

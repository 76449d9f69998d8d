"""How long handlers and requests took, as the worker and the client measure it themselves and show it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cbw
from tests.ports import free_port

from .conftest import Broker, StartWorker
from .program import wait_until
from .test_status import metrics, status

HANDLER_S = 0.2


def durations(shown: dict[str, Any], service: str) -> dict[str, Any]:
    """What a status says of ``service``."""
    (row,) = [row for row in shown["service_durations"] if row["service"] == service]
    return row  # type: ignore[no-any-return]


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_what_waits_is_in_the_time_of_the_request_and_not_in_that_of_the_handler(
    broker: Broker, start_worker: StartWorker, options: list[object]
) -> None:
    port = free_port()
    handlers = ("sleep=echo_slowly", "async=echo_async", "unused=echo")
    start_worker("W1", *handlers, options=["--status-port", port, *options])
    with cbw.Client(broker.address) as client, cbw.metrics.serve(client, port=0) as server:
        for future in [client.submit(f"{HANDLER_S} s", "sleep") for _ in range(3)]:
            future.result()
        client.call(b"x", "async")
        ours = metrics(server.port)
        wait_until(lambda: status(port)["counts"]["tasks_done"] == 4, "the worker has counted all")
        theirs = metrics(port)
        of_request, of_handler = durations(client.status(), "sleep"), durations(status(port), "sleep")
    handler, request = "cbw_worker_handler_duration_seconds", "cbw_client_request_duration_seconds"
    assert theirs[f"{handler}_count", "sleep"] == ours[f"{request}_count", "sleep"] == 3
    assert theirs[f"{handler}_count", "async"] == ours[f"{request}_count", "async"] == 1
    assert theirs[f"{handler}_count", "unused"] == 0
    assert theirs[f"{handler}_bucket", "0.1", "sleep"] == 0, "each has taken longer"
    assert theirs[f"{handler}_sum", "sleep"] >= 3 * HANDLER_S
    assert ours[f"{request}_sum", "sleep"] >= theirs[f"{handler}_sum", "sleep"] + 2 * HANDLER_S, "one waited, one twice"
    assert HANDLER_S / 2 < of_handler["p50_s"] <= of_handler["p99_s"]
    assert of_handler["handlers"]["counts"] and of_request["p99_s"] >= HANDLER_S


def test_an_asyncio_client_shows_it_from_any_thread(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")

    async def use() -> dict[str, Any]:
        async with cbw.AsyncClient(broker.address) as client:
            await asyncio.gather(*[client.call(b"x") for _ in range(20)])
            return await asyncio.to_thread(client.status)

    assert sum(durations(asyncio.run(use()), "")["requests"]["counts"]) == 20

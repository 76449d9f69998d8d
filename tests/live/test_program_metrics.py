"""Metrics that a program serves of its own clients and workers, and whether a service can be used, for probes."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import cbw
from tests.ports import free_port

from .conftest import Broker, Start, StartBroker, StartWorker
from .program import wait_until
from .test_status import get, metrics


@pytest.fixture
def port() -> int:
    """A free one."""
    return free_port()


def test_a_client_of_a_program(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")
    with cbw.Client(broker.address, id="C1") as client, cbw.metrics.serve(client, port=0) as server:
        for _ in range(3):
            client.call(b"x")
        found = metrics(server.port)
        assert found["cbw_client_requests_sent_total",] == found["cbw_client_requests_ended_total",] == 3
        assert found["cbw_client_requests_in_flight",] == 0
        assert found["process_resident_memory_bytes",] > 0
        assert get(server.port, "/readyz") == (200, "ok\n")
        assert json.loads(get(server.port, "/status.json")[1])["name"] == "C1"
        code, text = get(server.port, "/readyz?service=s")
        assert code == 400 and "a client serves nothing" in text


def test_an_asyncio_client_of_a_program(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")

    async def use() -> None:
        async with cbw.AsyncClient(broker.address) as client:
            with cbw.metrics.serve(client, port=0) as server:
                await client.call(b"x")
                found = await asyncio.to_thread(metrics, server.port)
                assert found["cbw_client_requests_ended_total",] == 1

    asyncio.run(use())


def test_the_registry_of_a_program(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")
    registry = CollectorRegistry(auto_describe=True)
    with cbw.Client(broker.address) as client, cbw.Client(broker.address) as other:
        registry.register(cbw.metrics.collector(client))
        client.call(b"x")
        assert b"cbw_client_requests_sent_total 1.0" in generate_latest(registry)
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(cbw.metrics.collector(other))


def test_a_worker_that_does_not_run_has_no_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(cbw.metrics.collector(cbw.Worker("127.0.0.1:1")))
    assert generate_latest(registry) == b""


def test_a_port_that_is_taken(broker: Broker) -> None:
    with cbw.Client(broker.address) as client, cbw.metrics.serve(client, port=0) as server:
        with pytest.raises(cbw.CannotBind, match=f"status port {server.port} cannot be used") as raised:
            cbw.metrics.serve(client, port=server.port)
        assert raised.value.advice == "Give another port, or 0 for a free one."


# --- whether a service can be used


def test_ready_is_a_broker_whose_service_has_a_ready_worker(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, port: int
) -> None:
    broker = start_broker("--status-port", port)

    def ready(*services: str) -> tuple[int, str]:
        return get(port, "/readyz?" + "&".join(f"service={service}" for service in services))

    assert ready("render") == (503, "no worker that serves 'render' is ready\n")
    start_worker("W1", "render=hang", at=broker)
    wait_until(lambda: ready("render") == (200, "ok\n"), "it is served")
    assert ready("render", "ecko%21") == (503, "no worker that serves 'ecko!' is ready\n")
    assert ready("") == (503, "no worker that serves '' is ready\n"), "the nameless service"
    with cbw.Client(broker.address) as client:
        client.submit("30", "render")
        wait_until(lambda: '"state":"busy"' in get(port, "/status.json")[1], "its only worker is busy")
        assert ready("render")[0] == 200, "a busy worker takes the next one later"
        assert start("drain", "W1", "--broker", broker.address).exit_code() == 0
        assert ready("render")[0] == 503
        assert get(port, "/readyz")[0] == 200, "the broker itself is ready"
        assert start("undrain", "W1", "--broker", broker.address).exit_code() == 0
        assert ready("render")[0] == 200
        client.close()


def test_ready_is_a_worker_that_serves_it(broker: Broker, start_worker: StartWorker, port: int) -> None:
    start_worker("W1", "render=echo", options=["--status-port", port])
    wait_until(lambda: get(port, "/readyz?service=render") == (200, "ok\n"), "a worker that is registered")
    assert get(port, "/readyz?service=ecko") == (503, "this worker does not serve 'ecko'\n")


def test_a_wrong_question_is_no_yes(start_broker: StartBroker, port: int) -> None:
    start_broker("--status-port", port)
    code, text = get(port, "/readyz?services=render")
    assert code == 400 and "services: /readyz knows only ?service=NAME" in text
    assert get(port, "/readyz?" + "&".join(["service=s"] * 11))[0] == 400

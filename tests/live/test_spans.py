"""OpenTelemetry: the spans of client, broker and worker, each in a process of its own, with the real SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

from .program import HERE, PATIENCE_S, environment, wait_until

ROOT = HERE.parents[1]


class Spans:
    """What all processes of a system have told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._processes: list[subprocess.Popen[bytes]] = []
        self.client_port = free_port()
        self._worker_port = free_port()

    @property
    def _variables(self) -> dict[str, str]:
        return environment(CBW_TEST_SPANS=str(self.path), BROKER_HOST="127.0.0.1", BROKER_PORT=str(self.client_port))

    def start(self, role: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.live.otel_setup", *map(str, arguments)]
        self._processes.append(subprocess.Popen(command, cwd=ROOT, env={**self._variables, "CBW_TEST_ROLE": role}))

    def serve(self, *options: str) -> None:
        self.start("broker", "broker", self.client_port, self._worker_port)
        app = ("--app", "tests.live.traced_tasks:traced")
        command = [sys.executable, "-m", "cbw", "worker", "W1", "127.0.0.1", str(self._worker_port), *app, *options]
        self._processes.append(subprocess.Popen(command, cwd=ROOT, env={**self._variables, "CBW_TEST_ROLE": "worker"}))

    def ask(self, program: str) -> None:
        """Run ``program`` in a process that has OpenTelemetry and a client."""
        text = (
            "import asyncio, cbw\nfrom opentelemetry import trace\nfrom tests.live import otel_setup\n"
            "from tests.live.traced_tasks import *\ntracer = trace.get_tracer('mine')\n"
            "async def main():\n    async with cbw.AsyncClient(id='C1') as client:\n" + program
            if "await" in program
            else "import cbw\nfrom opentelemetry import trace\nfrom tests.live.traced_tasks import *\n"
            "tracer = trace.get_tracer('mine')\nwith cbw.Client(id='C1') as client:\n" + program
        )
        if "await" in program:
            text += "\nasyncio.run(main())\n"
        variables = {**self._variables, "CBW_TEST_ROLE": "client"}
        subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=variables, check=True, timeout=PATIENCE_S)

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """All spans, as soon as there are so many."""
        wait_until(lambda: len(self._read()) >= count, f"{count} spans")
        return self._read()

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            assert process.wait(PATIENCE_S) == 0


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Spans]:
    found = Spans(tmp_path / "spans")
    yield found
    found.close()


def role(span: dict[str, Any]) -> str:
    return str(span["resource"]["attributes"]["service.name"])


def tree(spans: list[dict[str, Any]]) -> dict[str, str]:
    """Of each span, as ``role: name``, the parent."""
    by_id = {span["context"]["span_id"]: f"{role(span)}: {span['name']}" for span in spans}
    return {by_id[span["context"]["span_id"]]: by_id.get(span["parent_id"], "") for span in spans}


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["threads", "processes"])
def test_a_request_is_one_trace_through_three_processes(spans: Spans, options: tuple[str, ...]) -> None:
    spans.serve(*options)
    spans.ask("    with tracer.start_as_current_span('outside'):\n        assert client.call(work, 'tea') == 'TEA'\n")
    found = spans.wait_for(7)
    assert tree(found) == {
        "client: outside": "",
        "client: send traced.work": "client: outside",
        "broker: broker traced.work": "client: send traced.work",
        "broker: wait traced.work": "broker: broker traced.work",
        "broker: run traced.work": "broker: broker traced.work",
        "worker: process traced.work": "client: send traced.work",
        "worker: inside": "worker: process traced.work",
    }
    assert len({span["context"]["trace_id"] for span in found}) == 1
    by_name = {span["name"]: span for span in found}
    sent, served = by_name["send traced.work"], by_name["process traced.work"]
    assert (sent["kind"], served["kind"]) == ("SpanKind.CLIENT", "SpanKind.SERVER")
    assert sent["attributes"] == {
        "messaging.system": "cbw",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "traced.work",
        "messaging.client.id": "C1",
        "messaging.message.body.size": len('{"word":"tea"}'),
        "messaging.message.id": "C1/1",
    }
    assert served["attributes"]["messaging.message.id"] == "C1/1"
    whole = by_name["broker traced.work"]
    assert sent["start_time"] <= whole["start_time"] <= whole["end_time"] <= sent["end_time"]
    assert by_name["run traced.work"]["attributes"] == {"cbw.worker": "W1", "cbw.attempt": 1}


def test_every_kind_of_request_has_spans_on_both_sides(spans: Spans) -> None:
    spans.serve()
    spans.ask(
        "        assert await client.call(later, 'tea') == 'TEA'\n"
        "        assert [one async for one in client.map(work, ['a', 'b'])] == ['A', 'B']\n"
        "        assert [one async for one in client.stream(parts)] == [0, 1, 2]\n"
        "        assert await client.result(await client.start(work, 'later'), returns=str) == 'LATER'\n"
    )
    found = spans.wait_for(5 * 5 + 4)
    sides = [(span["name"], span["kind"].removeprefix("SpanKind.")) for span in found if "INTERNAL" not in span["kind"]]
    assert sorted(sides) == sorted(
        [
            *[("send traced.work", "CLIENT"), ("process traced.work", "SERVER")] * 2,
            *[("send traced.later", "CLIENT"), ("process traced.later", "SERVER")],
            *[("send traced.parts", "CLIENT"), ("process traced.parts", "SERVER")],
            *[("send traced.work", "PRODUCER"), ("process traced.work", "CONSUMER")],
        ]
    )
    assert len({span["context"]["trace_id"] for span in found}) == 5


def named(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in found if span["name"] == name]


def test_failures_and_retries_are_seen(spans: Spans) -> None:
    spans.serve()
    spans.ask(
        "    assert client.call(flaky) == 1\n"
        "    try:\n        client.call(broken)\n    except cbw.HandlerFailed:\n        pass\n"
        "    try:\n        client.call(b'', 'nobody', require_worker=True)\n    except cbw.Expired:\n        pass\n"
    )
    found = spans.wait_for(14)
    assert [span["attributes"].get("error.type") for span in named(found, "process traced.flaky")] == [
        "ConnectionError",
        None,
    ]
    assert [span["attributes"]["cbw.retries"] for span in named(found, "process traced.flaky")] == [0, 1]
    assert len(named(found, "wait traced.flaky")) == len(named(found, "run traced.flaky")) == 2
    (failed,) = named(found, "process traced.broken")
    assert failed["status"] == {"status_code": "ERROR", "description": "no such thing"}
    assert "LookupError: no such thing" in failed["events"][0]["attributes"]["exception.stacktrace"]
    (sent,) = named(found, "send traced.broken")
    assert sent["attributes"]["error.type"] == "LookupError"
    (unserved,) = named(found, "send nobody")
    assert unserved["attributes"]["error.type"] == "no_worker"


def test_a_batch_is_linked_to_all_its_requests(spans: Spans) -> None:
    spans.serve()
    spans.ask("    assert list(client.map(many, ['a', 'bb', 'ccc'])) == [1, 2, 3]\n")
    found = spans.wait_for(3 * 4 + 1)
    batches = [span for span in found if span["name"] == "process traced.many"]
    linked = {link["context"]["span_id"] for span in batches for link in span["links"]}
    assert linked == {span["context"]["span_id"] for span in found if span["name"] == "send traced.many"}
    assert sum(span["attributes"]["messaging.batch.message_count"] for span in batches) == 3


def test_a_traceparent_that_is_given_is_the_parent(spans: Spans) -> None:
    spans.serve()
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    spans.ask(f"    client.call(work.with_options(headers={{'traceparent': '{given}'}}), 'tea')\n")
    found = spans.wait_for(6)
    assert {span["context"]["trace_id"] for span in found} == {"0x0af7651916cd43dd8448eb211c80319c"}
    (sent,) = (span for span in found if span["name"] == "send traced.work")
    assert sent["parent_id"] == "0xb7ad6b7169203331"


def test_without_a_provider_nothing_is_imported() -> None:
    program = (
        "import sys, asyncio, cbw, cbw.testing\n"
        "with cbw.testing.System() as system:\n"
        "    system.worker(lambda body: body)\n"
        "    assert system.call(b'a') == b'a'\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=PATIENCE_S)

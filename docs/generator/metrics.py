"""The page of every metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.snapshot import snapshot
from cbw.core.service_latencies import ServiceLatencies
from cbw.observe import metrics
from cbw.observe.inquiry import status_of
from cbw.wire import native

from .markdown import cell, code, page, table


def _statuses() -> Iterator[dict[str, Any]]:
    """An example status of each role. Only its keys matter."""
    core = BrokerCore()
    core.step([events.WorkerSaid(b"w", [messages.WorkerHello("W1", "1", ["resize"], 1, 1)], native.WORKER)], 0.0)
    log = {"records": 0, "dropped": 0, "waiting": 0}
    yield status_of("broker", "BRO", 0.0, "", log=log, journal={"size_bytes": 0}, **snapshot(core, 0.0))
    took = ServiceLatencies(["resize"]).look()
    yield status_of("worker", "W1", 0.0, "", in_hand=0, credit=1, stuck=0, **took.shown("handlers"))
    yield status_of("client", "C1", 0.0, "", in_flight=0, **took.shown("requests"))
    yield status_of("logger", "LOG", 0.0, "", file_bytes=0, senders=0)


def metrics_page() -> str:
    """The page of every metric, made from an example status of each role."""
    parts = []
    for status in _statuses():
        rows = []
        for family in metrics.families(status):
            name = family.name + ("_total" if family.type == "counter" else "_info" if family.type == "info" else "")
            labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
            rows.append([code(name), family.type, ", ".join(map(code, labels)), cell(family.documentation)])
        parts += [f"## {status['role'].capitalize()}", table(["metric", "type", "labels", "meaning"], rows)]
    return page(
        "Metrics",
        "Each role serves these metrics under `/metrics`, together with those of its process (`process_…`: CPU, memory, file "
        "descriptors). The metrics `cbw_log_…` exist only if the role sends its trace to a logger. "
        "[Monitor a running system](../howto/monitor.md) shows how to use them.",
        *parts,
    )

"""The one sentence about a broker that somebody reads first: what keeps requests waiting, or that nothing does."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

SIMILAR = 0.7
"""How much of two names has to be the same, from 0 to 1, so that one may be meant by the other."""
NAME_CHARS_COMPARED = 50
"""Longest name that is compared, in characters: the time grows with its square."""


class BrokerVerdict(msgspec.Struct, frozen=True):
    """``kind`` says which sentence; the rest is what it is about."""

    kind: str
    service: str = ""
    waiting: int = 0
    workers: int = 0
    similar: str = ""


SENTENCES: Mapping[str, str] = {
    "stalled": "The broker takes no new requests: its journal does not store them.",
    "paused": "The broker reads no more requests of plain clients: too many wait.",
    "unserved": "{waiting} wait for {service}, which nobody serves{similar}.",
    "held": "{waiting} wait for {service}, which is paused: resume it.",
    "elsewhere": "{waiting} wait for {service}, all {workers} workers are with other brokers: add workers.",
    "drained": "{waiting} wait for {service}, and nobody of {workers} takes more: undrain a worker, or start another.",
    "busy": "{waiting} wait for {service}, all {workers} workers are busy: add workers.",
    "dead": "Nothing waits; requests that were given up and are kept as dead letters: {waiting}.",
    "running": "All is well: {waiting} running, nothing waits.",
    "idle": "All is well: nothing to do for {workers} workers.",
    "empty": "Nobody is here yet: start a worker.",
}
"""The sentences in English, most urgent first."""


def verdict(status: Mapping[str, Any]) -> BrokerVerdict:
    """What the snapshot ``status`` of a broker says. A journal that stores nothing comes first: no answer leaves meanwhile."""
    if status["refusal"]:
        return BrokerVerdict("stalled")
    if status["is_paused"]:
        return BrokerVerdict("paused")
    services = status["services"]
    worst: BrokerVerdict | None = None
    for service in services:
        if service["waiting"]:
            found = _of_service(service, services)
            order = list(SENTENCES)
            if worst is None or (order.index(found.kind), -found.waiting) < (order.index(worst.kind), -worst.waiting):
                worst = found
    if worst is not None:
        return worst
    if status["dead_letters"]:
        return BrokerVerdict("dead", waiting=status["dead_letters"])
    if status["in_flight"]:
        return BrokerVerdict("running", waiting=status["in_flight"])
    return BrokerVerdict("idle" if status["worker_count"] else "empty", workers=status["worker_count"])


def _of_service(service: Mapping[str, Any], services: list[Mapping[str, Any]]) -> BrokerVerdict:
    name, waiting, workers = service["service"], service["waiting"], service["workers"]
    if not workers:
        return BrokerVerdict("unserved", name, waiting, similar=_similar(name, services))
    if service["is_paused"]:
        return BrokerVerdict("held", name, waiting, workers)
    if service["running"]:
        return BrokerVerdict("busy", name, waiting, workers)
    return BrokerVerdict("elsewhere" if service["elsewhere_workers"] == workers else "drained", name, waiting, workers)


def _similar(name: str, services: list[Mapping[str, Any]]) -> str:
    if not 0 < len(name) <= NAME_CHARS_COMPARED:
        return ""
    served = (other["service"] for other in services if other["workers"])
    near = difflib.get_close_matches(
        name, [other for other in served if 0 < len(other) <= NAME_CHARS_COMPARED], 1, SIMILAR
    )
    return near[0] if near else ""


def sentence(told: Mapping[str, Any]) -> str:
    """A verdict in English."""
    text = SENTENCES[told["kind"]]
    if told["waiting"] == 1:
        text = text.replace("{waiting} wait ", "1 waits ")
    if told["workers"] == 1:
        text = text.replace("all {workers} workers are", "its only worker is").replace("{workers} workers", "1 worker")
    similar = f"; similar: {told['similar']}" if told["similar"] else ""
    return text.format(**{**told, "service": told["service"] or "the nameless service", "similar": similar})

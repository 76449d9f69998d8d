"""What a role's status is called in Prometheus: names, units and labels. ``docs/reference/metrics.md`` lists them.

Label values are bounded: workers and services that are gone vanish with the next scrape, and clients have no labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from cbw.vocabulary import REQUEST_ENDS

WORKERS_MAX = 200
"""No more workers than this have series of their own; all are in ``cbw_broker_workers``."""

COUNTERS = {
    "broker": {
        "requests_arrived": "Requests that clients sent.",
        "requests_refused": "Requests that were not accepted.",
        "requests_joined": "Requests that were sent again and joined the running one.",
        "attempts_failed": "Attempts that took their worker down, or were left behind by it.",
        "answers_fenced": "Answers of attempts that were given up, thrown away.",
        "answers_dropped": "Answers kept for absent clients, thrown away for want of room.",
        "tasks_recalled": "Tasks asked back from workers that had too many.",
        "tasks_returned": "Tasks that came back before they were begun.",
        "workers_registered": "Times a worker said hello.",
        "workers_lost": "Workers that failed or left.",
        "workers_late": "Times a plain worker did not answer in time.",
        "hellos_refused": "Peers that were sent away.",
        "messages_bad": "Messages that made no sense.",
        "messages_dropped": "Messages for peers that do not read, thrown away.",
        "messages_undelivered": "Messages whose receiver was gone.",
    },
    "worker": {
        "tasks_done": "Tasks that ended here, also with an error.",
        "tasks_failed": "Tasks whose handler raised, or whose body was wrong.",
    },
    "client": {
        "requests_sent": "Requests that were made.",
        "requests_ended": "Requests that ended, also with an error.",
        "requests_resent": "Requests sent again after a lost connection.",
        "answers_unasked": "Answers to requests that had ended here: cancelled, expired or answered already.",
    },
    "logger": {
        "records": "Records written.",
        "text_lines": "Lines of text written.",
        "missing": "Records that never came: the counted gaps.",
        "duplicates": "Records that came again, left out.",
        "lost": "Lines of text lost while the file could not be written.",
        "rotated": "Files closed and begun anew.",
        "messages_bad": "Messages that made no sense.",
    },
}
REFUSALS = ("busy", "too_big", "bad_request", "expired", "stopping")
STATES = ("free", "busy", "leaving", "late", "absent")


def page(status: dict[str, Any]) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Status(status))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def families(status: dict[str, Any]) -> Iterator[Metric]:
    """What the status of a role is to Prometheus."""
    return _Status(status).collect()


class _Status(Collector):
    """The families of one status."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        role = status["role"]
        info = {name: str(status[name]) for name in ("version", "role", "name")}
        yield InfoMetricFamily("cbw_build", "What runs here.", value=info)
        yield _gauge("cbw_ready", "1: the role can do its work.", float(status["ready"]))
        yield _gauge("cbw_uptime_seconds", "Since the role was started.", status["uptime_s"])
        counts: dict[str, int] = status.get("counts", {})
        for name, text in COUNTERS[role].items():
            yield CounterMetricFamily(f"cbw_{role}_{name}", text, value=counts.get(name, 0))
        if role == "broker":
            yield from self._broker(counts)
        elif role == "worker":
            yield _gauge("cbw_worker_tasks_in_hand", "Tasks that have not ended.", status["in_hand"])
            yield _gauge("cbw_worker_credit", "Tasks that it wants in hand.", status["credit"])
        elif role == "client":
            yield _gauge("cbw_client_requests_in_flight", "Requests that have not ended.", status["in_flight"])
        else:
            yield _gauge("cbw_logger_can_write", "1: the file can be written.", float(status["ready"]))
            yield _gauge("cbw_logger_file_bytes", "Size of the file that is written.", status["file_bytes"])
            yield _gauge("cbw_logger_senders", "Starts of senders whose place in the log is known.", status["senders"])
        log: dict[str, int] | None = status.get("log")
        if log is not None:
            yield CounterMetricFamily("cbw_log_records", "Records made for the logger.", value=log["records"])
            yield CounterMetricFamily("cbw_log_dropped", "Records the spool had no room for.", value=log["dropped"])
            yield _gauge("cbw_log_waiting_records", "Records that the logger has not on disk.", log["waiting"])

    def _broker(self, counts: dict[str, int]) -> Iterator[Metric]:
        status = self._status
        ends = CounterMetricFamily("cbw_broker_requests_ended", "Requests that ended, and how.", labels=["how"])
        for how in REQUEST_ENDS:
            ends.add_metric([how], counts.get(how, 0))
        yield ends
        refused = CounterMetricFamily("cbw_broker_requests_refused_by_reason", "And why.", labels=["reason"])
        for reason in REFUSALS:
            refused.add_metric([reason], counts.get(f"refused_{reason}", 0))
        yield refused
        latency = status["latency"]
        total = 0
        buckets = []
        for bound, count in zip([*map(str, latency["bounds_s"]), "+Inf"], latency["counts"], strict=True):
            total += count
            buckets.append((bound, total))
        text = "From acceptance to the answer."
        yield HistogramMetricFamily("cbw_broker_request_duration_seconds", text, buckets, latency["total_s"])
        yield _gauge("cbw_broker_requests_in_flight", "Requests that a worker has.", status["in_flight"])
        yield _gauge("cbw_broker_requests_bytes", "Bodies of the requests that are here.", status["requests_bytes"])
        yield _gauge("cbw_broker_kept_bytes", "Answers kept for absent clients.", status["kept_bytes"])
        yield _gauge("cbw_broker_paused", "1: the client port is not read, there is too much.", status["is_paused"])
        yield _gauge("cbw_broker_clients", "Clients that are connected.", status["clients"])
        waiting = GaugeMetricFamily("cbw_broker_requests_waiting", "Requests that wait.", labels=["service"])
        serving = GaugeMetricFamily("cbw_broker_service_workers", "Workers of a service.", labels=["service"])
        for service in status["services"]:
            waiting.add_metric([service["service"]], service["waiting"])
            serving.add_metric([service["service"]], service["workers"])
        yield waiting
        yield serving
        states = status["worker_states"]
        workers = GaugeMetricFamily("cbw_broker_workers", "Workers, by what they do.", labels=["state"])
        for state in STATES:
            workers.add_metric([state], states.get(state, 0))
        yield workers
        yield from self._workers(status["workers"][:WORKERS_MAX])

    def _workers(self, workers: list[dict[str, Any]]) -> Iterator[Metric]:
        in_hand = GaugeMetricFamily("cbw_broker_worker_tasks_in_hand", "What a worker has.", labels=["worker"])
        answered = CounterMetricFamily("cbw_broker_worker_answers", "What it has answered.", labels=["worker"])
        failed = CounterMetricFamily("cbw_broker_worker_failed", "Attempts it took down with it.", labels=["worker"])
        for worker in workers:
            in_hand.add_metric([worker["worker"]], worker["in_hand"])
            answered.add_metric([worker["worker"]], worker["answered"])
            failed.add_metric([worker["worker"]], worker["failed"])
        yield in_hand
        yield answered
        yield failed


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)

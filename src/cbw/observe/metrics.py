"""A role's status as metrics for Prometheus: names, units and labels. ``docs/reference/metrics.md`` lists them.

Label values are bounded (:mod:`cbw.observe.labels`): workers and services that are gone vanish with the next scrape, and clients
have no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
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

from cbw.core.catalogue import REQUEST_ENDS
from cbw.core.histogram import BOUNDS_S
from cbw.observe.labels import OTHERS, label, series

COUNTERS = {
    "broker": {
        "requests_arrived": "Requests received from clients, accepted or not.",
        "requests_refused": "Requests that were not accepted.",
        "requests_joined": "Requests sent again by their client that joined the one that was running.",
        "own_services_answered": "Requests to the broker's own services, cbw.* and mmi.*, which no worker sees.",
        "requests_retried": "Times that a handler failed and is called again later for the same request.",
        "attempts_failed": "Attempts that ended because their worker was lost, stopped or late.",
        "answers_fenced": "Answers dropped because their attempt had been given up before.",
        "answers_inherited": "Answers to requests of an earlier broker, without a journal, that were passed on to their clients.",
        "partials_dropped": "Parts of answers dropped because their client takes no parts, or was away.",
        "answers_dropped": "Replies parked for absent clients that were dropped to stay within the memory limit.",
        "dead_letters_kept": "Requests that were given up and kept as dead letters.",
        "dead_letters_pushed_out": "Dead letters dropped to stay within --dead-max and --dead-bytes-max, or too large for it.",
        "dead_letters_requeued": "Dead letters that were sent again.",
        "dead_letters_dropped": "Dead letters that were dropped by somebody.",
        "results_expired": "Answers kept under tickets that were dropped when their time was over.",
        "results_dropped": "Answers kept under tickets that were dropped early to stay within the memory limit.",
        "tasks_recalled": "Tasks asked back from workers that had more than they could begin.",
        "tasks_returned": "Tasks that workers gave back without having begun them.",
        "workers_registered": "Registrations of workers; a worker that registers again counts again.",
        "workers_lost": "Workers that were lost or said goodbye.",
        "workers_late": "Times that a REQ worker of the lab did not answer in time.",
        "hellos_refused": "Peers whose hello was refused.",
        "messages_bad": "Messages that could not be understood.",
        "messages_dropped": "Messages dropped because their receiver did not read.",
        "messages_undelivered": "Messages that could not be sent because their receiver was gone.",
    },
    "worker": {
        "tasks_done": "Tasks that ended at this worker, with an answer or with an error.",
        "tasks_failed": "Tasks that ended with an error: the handler raised an exception, or the body could not be read.",
        "children_replaced": "Child processes that were ended between two tasks, to be replaced by new ones.",
        "tasks_overdue": "Tasks that took longer than their time limit, and were answered with TimeLimit.",
    },
    "client": {
        "requests_sent": "Requests made by this client.",
        "requests_ended": "Requests that ended, with an answer or with an error.",
        "requests_resent": "Requests sent again because a connection was lost.",
        "answers_unasked": "Answers to requests that had ended before: cancelled, expired or already answered.",
        "answers_repeated": "The same, to requests from before a connection was lost: a broker may say them again.",
    },
    "logger": {
        "records": "Records written to the log.",
        "text_lines": "Lines of text written to the log.",
        "missing": "Records of senders that never arrived: they are gaps in the log.",
        "duplicates": "Records that arrived a second time and were not written again.",
        "lost": "Lines of text lost because the log could not be written.",
        "rotated": "Rotations of the log file.",
        "messages_bad": "Messages that made no sense.",
    },
}
DURATIONS = {
    "broker": (
        (
            "requests",
            "cbw_broker_request_duration_seconds",
            "Seconds from the acceptance of a request to its answer, by service.",
        ),
        (
            "attempts",
            "cbw_broker_attempt_duration_seconds",
            "Seconds from the handing out of a request to its answer, by service: the handler, and what its worker did before.",
        ),
    ),
    "worker": (
        (
            "handlers",
            "cbw_worker_handler_duration_seconds",
            "Seconds from the call of a handler to its end, by service; of a batch, each call counts once.",
        ),
    ),
    "client": (
        (
            "requests",
            "cbw_client_request_duration_seconds",
            "Seconds from when the program made a request to its end at this client, by service: answered, or not in time.",
        ),
    ),
}
REFUSALS = ("busy", "too_big", "bad_request", "expired", "stopping")
STATES = ("free", "busy", "elsewhere", "draining", "drained", "leaving", "late", "absent")


def page(status: dict[str, Any]) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(lambda: status))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def families(status: dict[str, Any]) -> Iterator[Metric]:
    """The metrics made from the status of a role."""
    return _Status(status).families()


class StatusCollector(Collector):
    """Collects the metrics of the status that ``ask`` returns; none if that is None."""

    def __init__(self, ask: Callable[[], dict[str, Any] | None]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        status = self._ask()
        if status is not None:
            yield from families(status)


class _Status:
    """The metrics of one status."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def families(self) -> Iterator[Metric]:
        status = self._status
        role = status["role"]
        info = {name: label(str(status[name])) for name in ("version", "role", "name")}
        yield InfoMetricFamily("cbw_build", "Version, role and name of this process.", value=info)
        yield _gauge("cbw_ready", "1 if the role can do its work, else 0.", float(status["ready"]))
        yield _gauge("cbw_uptime_seconds", "Seconds since the role was started.", status["uptime_s"])
        counts: dict[str, int] = status.get("counts", {})
        for name, text in COUNTERS.get(role, {}).items():
            yield CounterMetricFamily(f"cbw_{role}_{name}", text, value=counts.get(name, 0))
        if role == "broker":
            yield from self._broker(counts)
        elif role == "worker":
            yield _gauge("cbw_worker_tasks_in_hand", "Tasks that this worker has and has not ended.", status["in_hand"])
            yield _gauge(
                "cbw_worker_stuck",
                "Handlers that have exceeded their time limit, have not ended, and hold their slots.",
                status["stuck"],
            )
            yield _gauge(
                "cbw_worker_credit", "Tasks that this worker wants to have at the same time.", status["credit"]
            )
            yield from self._durations()
        elif role == "client":
            yield _gauge(
                "cbw_client_requests_in_flight", "Requests of this client that have not ended.", status["in_flight"]
            )
            yield from self._durations()
        elif role == "logger":
            yield _gauge("cbw_logger_can_write", "1 if the log file can be written, else 0.", float(status["ready"]))
            yield _gauge(
                "cbw_logger_file_bytes", "Size in bytes of the log file that is being written.", status["file_bytes"]
            )
            yield _gauge(
                "cbw_logger_senders",
                "Senders whose last record in the log is known; each start of a sender counts.",
                status["senders"],
            )
        log: dict[str, int] | None = status.get("log")
        if log is not None:
            yield CounterMetricFamily(
                "cbw_log_records", "Records that this role made for the logger.", value=log["records"]
            )
            yield CounterMetricFamily(
                "cbw_log_dropped",
                "Records dropped because the memory for records that the logger has not confirmed was full.",
                value=log["dropped"],
            )
            yield _gauge("cbw_log_waiting_records", "Records that the logger has not confirmed yet.", log["waiting"])

    def _broker(self, counts: dict[str, int]) -> Iterator[Metric]:
        status = self._status
        ends = CounterMetricFamily("cbw_broker_requests_ended", "Requests that ended, by outcome.", labels=["how"])
        for how in REQUEST_ENDS:
            ends.add_metric([how], counts.get(how, 0))
        yield ends
        refused = CounterMetricFamily(
            "cbw_broker_requests_refused_by_reason", "Requests refused, by reason.", labels=["reason"]
        )
        for reason in REFUSALS:
            refused.add_metric([reason], counts.get(f"refused_{reason}", 0))
        yield refused
        yield from self._durations()
        yield _gauge("cbw_broker_requests_in_flight", "Requests that workers have.", status["in_flight"])
        yield _gauge(
            "cbw_broker_requests_bytes", "Bytes of the bodies of unfinished requests.", status["requests_bytes"]
        )
        yield _gauge(
            "cbw_broker_parked_bytes", "Bytes of replies that are parked for absent clients.", status["parked_bytes"]
        )
        yield _gauge("cbw_broker_tickets", "Requests that outlive their clients, and their answers.", status["tickets"])
        yield _gauge("cbw_broker_results", "Answers that are kept under tickets.", status["results"])
        yield _gauge("cbw_broker_tickets_bytes", "Bytes that tickets and their answers take.", status["tickets_bytes"])
        yield _gauge(
            "cbw_broker_dead_letters", "Requests that were given up and are kept for cbw dead.", status["dead_letters"]
        )
        yield _gauge(
            "cbw_broker_dead_letters_bytes",
            "Memory, in bytes, that the dead letters take.",
            status["dead_letters_bytes"],
        )
        yield _gauge(
            "cbw_broker_paused",
            "1 if the broker does not read from clients because too many requests wait, else 0.",
            status["is_paused"],
        )
        if journal := status.get("journal"):
            yield _gauge(
                "cbw_broker_journal_stalled",
                "1 if the broker takes no new requests because its journal does not store them, else 0.",
                float(bool(status["refusal"])),
            )
            yield _gauge("cbw_broker_journal_bytes", "Bytes that the journal takes.", journal["size_bytes"])
        yield _gauge("cbw_broker_clients", "Clients with a connection.", status["clients"])
        yield from self._services([*status["services"], {"service": OTHERS, **status["other_services"]}])
        yield _workers_wanted(status["workers_wanted"])
        states = status["worker_states"]
        workers = GaugeMetricFamily("cbw_broker_workers", "Registered workers, by state.", labels=["state"])
        for state in STATES:
            workers.add_metric([state], states.get(state, 0))
        yield workers
        yield from self._workers(status["workers"])

    def _durations(self) -> Iterator[Metric]:
        status = self._status
        rows = [*status["service_durations"], {**status["other_durations"], "service": OTHERS}]
        for kind, name, text in DURATIONS[status["role"]]:
            metric = HistogramMetricFamily(name, text, labels=["service"])
            figures = ((row["service"], [*row[kind]["counts"], row[kind]["total_s"]]) for row in rows)
            for value, (*counts, total_s) in series(figures).items():
                if value != OTHERS or any(counts):
                    totals = zip([*map(str, BOUNDS_S), "+Inf"], accumulate(counts), strict=True)
                    metric.add_metric([value], list(totals), total_s)
            yield metric

    def _services(self, services: list[dict[str, Any]]) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "cbw_broker_requests_waiting", "Requests that wait for a worker, by service.", labels=["service"]
        )
        delayed = GaugeMetricFamily(
            "cbw_broker_requests_delayed",
            "Requests that are not to be handed out yet, as their client or their handler wants it, by service.",
            labels=["service"],
        )
        serving = GaugeMetricFamily("cbw_broker_service_workers", "Registered workers, by service.", labels=["service"])
        rows = (
            (service["service"], [service[name] for name in ("waiting", "delayed", "workers")]) for service in services
        )
        for value, figures in series(rows).items():
            if value != OTHERS or any(figures):
                for metric, figure in zip((waiting, delayed, serving), figures, strict=True):
                    metric.add_metric([value], figure)
        yield waiting
        yield delayed
        yield serving
        age = GaugeMetricFamily(
            "cbw_broker_queue_age_seconds",
            "Seconds that the request has waited for a worker that has waited longest, by service; 0 if none waits.",
            labels=["service"],
        )
        for value, (oldest_s,) in series(((row["service"], [row["oldest_s"]]) for row in services), max).items():
            if value != OTHERS or oldest_s:
                age.add_metric([value], oldest_s)
        yield age

    def _workers(self, workers: list[dict[str, Any]]) -> Iterator[Metric]:
        in_hand = GaugeMetricFamily("cbw_broker_worker_tasks_in_hand", "Tasks that each worker has.", labels=["worker"])
        answered = CounterMetricFamily(
            "cbw_broker_worker_answers", "Attempts that each worker has answered.", labels=["worker"]
        )
        failed = CounterMetricFamily(
            "cbw_broker_worker_failed",
            "Attempts that ended because the worker was lost, for each worker.",
            labels=["worker"],
        )
        rows = ((worker["worker"], [worker[name] for name in ("in_hand", "answered", "failed")]) for worker in workers)
        for value, figures in series(rows).items():
            in_hand.add_metric([value], figures[0])
            if value != OTHERS:  # a counter may not fall, and the sum over many workers falls whenever one leaves
                answered.add_metric([value], figures[1])
                failed.add_metric([value], figures[2])
        yield in_hand
        yield answered
        yield failed


def _workers_wanted(services: list[dict[str, Any]]) -> Metric:
    wanted = GaugeMetricFamily(
        "cbw_workers_wanted",
        "Workers that each service could use: its requests that wait or run, by what one worker runs at once, rounded up.",
        labels=["service"],
    )
    for value, figures in series((service["service"], [service["wanted"]]) for service in services).items():
        if value != OTHERS or any(figures):
            wanted.add_metric([value], figures[0])
    return wanted


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)

"""What status pages compute: latencies in steps, rates over windows, and names for Prometheus, bounded in number."""

from __future__ import annotations

import errno
import socket
import threading
import time
import urllib.request
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cbw.core import messages
from cbw.core.broker.snapshot import CLIENTS_SHOWN_MAX, SERVICES_SHOWN_MAX, WORKERS_SHOWN_MAX, snapshot
from cbw.core.histogram import BOUNDS_S, Latencies, bucket_quantile
from cbw.core.service_latencies import ServiceLatencies
from cbw.observe import metrics
from cbw.observe.inquiry import Inquiry, status_of
from cbw.observe.labels import LABEL_CHARS_MAX, OTHERS, SERIES_MAX, series
from cbw.observe.status import CONNECTIONS_MAX, HTTP_TIMEOUT_S, Rates, StatusServer
from tests.unit.core.broker.system import CoreSystem, client_said

SECONDS = st.floats(0, 1000, allow_nan=False) | st.sampled_from(BOUNDS_S)
BATCHES = st.lists(st.lists(SECONDS, min_size=1, max_size=20), max_size=20)


def counted(seconds: list[float]) -> Latencies:
    """Latencies with one batch in them."""
    latencies = Latencies()
    if seconds:
        latencies.add(list(seconds))
    return latencies


# --- latencies


@given(BATCHES)
def test_batches_are_counted_as_one_by_one(batches: list[list[float]]) -> None:
    latencies = Latencies()
    one_by_one = [0] * (len(BOUNDS_S) + 1)
    for batch in batches:
        latencies.add(list(batch))
        for seconds in batch:
            one_by_one[bisect_left(BOUNDS_S, seconds)] += 1  # up to and with the bound, as Prometheus's `le`
    assert latencies.counts == one_by_one
    assert latencies.total_s == pytest.approx(sum(map(sum, batches)))


@given(st.lists(st.floats(0, BOUNDS_S[-1]), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_lies_in_the_step_of_the_true_one(seconds: list[float], share: float) -> None:
    found = bucket_quantile(counted(seconds).counts, share)
    rank = next(n for n in range(1, len(seconds) + 1) if n >= share * len(seconds))
    step = bisect_left(BOUNDS_S, sorted(seconds)[rank - 1])
    low = BOUNDS_S[step - 1] if step else 0.0
    assert found == pytest.approx(min(max(found or 0.0, low), BOUNDS_S[step]))


def test_quantiles_at_the_ends() -> None:
    assert bucket_quantile(counted([]).counts, 0.5) is None
    assert bucket_quantile(counted([5000.0]).counts, 0.5) == BOUNDS_S[-1], "there is no bound to interpolate to"


# --- rates


def test_rates_over_each_window() -> None:
    rates = Rates(0.0)
    for second in range(1, 121):  # 10 a second for a minute, then 100 a second
        count = 10 * second if second <= 60 else 600 + 100 * (second - 60)
        rates.sample({"counts": {"answered": count}}, float(second))
    assert rates.rates({"counts": {"answered": 6600}}, 120.0) == {"answered": {"1s": 100, "10s": 100, "60s": 100}}
    assert rates.rates({"counts": {"answered": 6600}}, 125.0)["answered"]["1s"] == 0


def test_rates_of_a_role_that_has_just_started() -> None:
    rates = Rates(0.0)
    assert rates.rates({"counts": {"answered": 50}}, 0.5)["answered"] == {"1s": 100, "10s": 100, "60s": 100}


def test_rates_of_a_counter_that_is_new_and_of_a_role_without() -> None:
    rates = Rates(0.0)
    rates.sample({"counts": {}}, 1.0)
    assert rates.rates({"counts": {"late": 3}}, 2.0)["late"]["1s"] == 3
    assert rates.rates({}, 2.0) == {}


def test_latencies_are_those_of_the_last_minute() -> None:
    rates = Rates(0.0)
    old = [0] * (len(BOUNDS_S) + 1)
    old[BOUNDS_S.index(10.0)] = 1000
    rates.sample({"latency": {"counts": old}}, 1.0)
    assert (rates.latencies({"latency": {"counts": old}}, 2.0)["p50"] or 0) > 5
    new = list(old)
    new[BOUNDS_S.index(0.001)] = 10
    assert (rates.latencies({"latency": {"counts": new}}, 62.0)["p99"] or 1) <= 0.001


# --- asking the loop


def test_the_loop_answers_who_asks() -> None:
    inquiry: Inquiry
    inquiry = Inquiry(lambda: threading.Thread(target=lambda: inquiry.answer({"ready": True})).start())
    assert inquiry.ask() == {"ready": True}
    assert not inquiry.is_open


def test_a_loop_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbw.observe.inquiry.LOOP_ANSWER_S", 0.01)
    inquiry = Inquiry(lambda: None)
    assert inquiry.ask() is None
    assert inquiry.is_open, "it may answer later"
    inquiry.answer({"ready": True})
    assert inquiry.ask() is None, "an answer to the question before is none to this one"


def test_nobody_waits_again_for_a_loop_that_owes_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many probes at once waited one after another, a second each."""
    monkeypatch.setattr("cbw.observe.inquiry.LOOP_ANSWER_S", 0.01)
    inquiry = Inquiry(lambda: None)
    assert inquiry.ask() is None
    monkeypatch.setattr("cbw.observe.inquiry.LOOP_ANSWER_S", 60.0)
    began_at = time.monotonic()
    assert inquiry.ask() is None
    assert time.monotonic() - began_at < 10.0


@pytest.mark.parametrize("page", ["livez", "readyz", "status_json", "metrics"])
def test_a_page_that_has_found_the_loop_stuck_says_so(page: str) -> None:
    """It looked a second time, and said 200 if the loop was there again."""
    answers = [None, *[status_of("broker", "B", 0.0, "")] * 9]
    server = StatusServer(lambda: answers.pop(0), "127.0.0.1", 0)
    try:
        code, body, _ = getattr(server, page)()
        assert code == 503 and b"the loop has not answered" in body
    finally:
        server.close()


@pytest.mark.slow
def test_a_server_without_descriptors_waits_instead_of_trying_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    server = StatusServer(lambda: status_of("worker", "W", 0.0, ""), "127.0.0.1", 0)
    tries: list[float] = []

    def accept(_socket: object) -> None:
        tries.append(time.monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    try:
        monkeypatch.setattr("socket.socket.accept", accept)
        with socket.create_connection(("127.0.0.1", server.port)):
            time.sleep(1.0)
        assert 1 <= len(tries) <= 10
    finally:
        server.close()


# --- for Prometheus


def answers_beside(idle_count: int) -> bool:
    """Whether a probe is answered before connections that say nothing are given up."""
    server = StatusServer(lambda: status_of("worker", "W", 0.0, ""), "127.0.0.1", 0)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(idle_count)]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=HTTP_TIMEOUT_S / 2) as answer:
            return bool(answer.read() == b"ok\n")
    except TimeoutError:
        return False
    finally:
        for one in idle:
            one.close()
        server.close()


@pytest.mark.slow
def test_connections_that_say_nothing_keep_nobody_out() -> None:
    assert any(answers_beside(2 * CONNECTIONS_MAX) for _ in range(3)), "once in three times, on a busy machine"


def told(system: CoreSystem) -> dict[str, Any]:
    """A broker's status."""
    return status_of("broker", "B", 0.0, "", **snapshot(system.core, system.now))


def samples(status: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """What Prometheus reads in it, by name and values of labels."""
    families = text_string_to_metric_families(metrics.page(status)[0].decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.mark.parametrize(("refusal", "stalled"), [("", 0), ("No space left on device", 1)])
def test_a_journal_that_stores_nothing(refusal: str, stalled: int) -> None:
    status = told(CoreSystem())
    assert ("cbw_broker_journal_stalled",) not in samples(status), "there is no journal"
    found = samples(status | {"journal": {"size_bytes": 4096}, "refusal": refusal})
    assert found["cbw_broker_journal_stalled",] == stalled and found["cbw_broker_journal_bytes",] == 4096


def test_a_broker_at_work() -> None:
    system = CoreSystem()
    system.client("C1")
    system.worker("W1", credit=1)
    system.ask(1, 2)
    found = samples(told(system))
    assert found["cbw_broker_requests_waiting", "s"] == 1
    assert found["cbw_broker_requests_in_flight",] == 1
    assert found["cbw_broker_workers", "busy"] == 1
    assert found["cbw_broker_worker_tasks_in_hand", "W1"] == 1
    system.answer_all("W1")
    found = samples(told(system))
    assert found["cbw_broker_requests_ended_total", "answered"] == 1
    assert found["cbw_broker_request_duration_seconds_count", "s"] == 1
    assert found["cbw_broker_attempt_duration_seconds_count", "s"] == 1


@pytest.mark.parametrize(
    ("role", "kind", "name"),
    [
        ("worker", "handlers", "cbw_worker_handler_duration_seconds"),
        ("client", "requests", "cbw_client_request_duration_seconds"),
    ],
)
def test_what_the_two_ends_measure_are_histograms_by_service(role: str, kind: str, name: str) -> None:
    latencies = ServiceLatencies(["unused"])
    latencies.add({"render": [0.15, 0.3], "price": [0.001]})
    rest = {"in_hand": 0, "stuck": 0, "credit": 1} if role == "worker" else {"in_flight": 0}
    found = samples(status_of(role, "X", 0.0, "", **rest, **latencies.look().shown(kind)))
    assert [found[f"{name}_bucket", le, "render"] for le in ("0.1", "0.2", "0.5", "+Inf")] == [0, 1, 2, 2]
    assert found[f"{name}_count", "render"] == 2 and found[f"{name}_sum", "render"] == pytest.approx(0.45)
    assert found[f"{name}_count", "price"] == 1
    assert found[f"{name}_count", "unused"] == 0, "so that its first call is an increase"
    assert (f"{name}_count", OTHERS) not in found, "there are none"


def test_delayed_requests_are_neither_waiting_nor_in_flight() -> None:
    system = CoreSystem()
    system.client("C1")
    system.tell(client_said(b"C1", [messages.Request(n, "s", b"", delay_s=60.0) for n in range(3)]))
    system.ask(9)
    found = samples(told(system))
    assert found["cbw_broker_requests_delayed", "s"] == 3
    assert found["cbw_broker_requests_waiting", "s"] == 1
    assert found["cbw_broker_requests_in_flight",] == 0
    assert found["cbw_broker_requests_retried_total",] == 0


def test_workers_wanted_are_told_to_prometheus_and_to_programs() -> None:
    system = CoreSystem()
    system.worker("W1", concurrency=2)
    system.lose_worker("W1")
    status = told(system)
    assert status["workers_wanted"] == [{"service": "s", "wanted": 0}]
    assert samples(status)["cbw_workers_wanted", "s"] == 0
    system.client("C1")
    system.ask(1, 2, 3)
    assert samples(told(system))["cbw_workers_wanted", "s"] == 2


def test_series_are_bounded_and_totals_are_not() -> None:
    system = CoreSystem()
    for number in range(WORKERS_SHOWN_MAX + 50):
        system.worker(f"W{number}", services=(f"s{number}",), credit=1)
    for number in range(CLIENTS_SHOWN_MAX + 5):
        system.client(f"C{number}")
        system.ask(1, client=f"C{number}", service="nobody")
    status = told(system)
    assert (status["worker_count"], len(status["workers"])) == (WORKERS_SHOWN_MAX + 50, WORKERS_SHOWN_MAX)
    assert len(status["busiest_clients"]) == CLIENTS_SHOWN_MAX
    found = samples(status)
    assert found["cbw_broker_workers", "free"] == WORKERS_SHOWN_MAX + 50
    assert len([name for name in found if name[0] == "cbw_broker_worker_answers_total"]) == SERIES_MAX
    assert len([name for name in found if name[0] == "cbw_broker_service_workers"]) == SERVICES_SHOWN_MAX + 1
    assert found["cbw_broker_service_workers", OTHERS] == WORKERS_SHOWN_MAX + 50 - SERVICES_SHOWN_MAX, (
        "the rest is counted"
    )
    assert not [name for name in found if "C1" in name], "clients have no labels"


def test_names_of_peers_are_escaped() -> None:
    system = CoreSystem()
    system.worker('W"1\\\n{}', credit=1)
    assert samples(told(system))["cbw_broker_worker_answers_total", 'W"1\\\\n{}'] == 0


def test_names_that_would_act_on_a_terminal_are_visible_and_short_in_labels() -> None:
    system = CoreSystem()
    system.worker("W\x1b[5m\x9b\u202e", services=("s" * 200,), credit=1)
    found = samples(told(system))
    assert found["cbw_broker_worker_answers_total", "W\\u001b[5m\\u009b\\u202e"] == 0
    assert found["cbw_broker_service_workers", "s" * (LABEL_CHARS_MAX - 1) + "…"] == 1


def test_names_that_are_cut_alike_are_one_series() -> None:
    rows = [(f"{'n' * LABEL_CHARS_MAX}{number}", [1.0, 2.0]) for number in range(5)]
    assert list(series(rows).values()) == [[5.0, 10.0]]


def test_rates_of_a_minute_are_of_a_minute_however_often_one_asks() -> None:
    rates = Rates(0.0)
    for half_seconds in range(1, 400):
        now = half_seconds / 2
        rates.sample({"counts": {"x": half_seconds if now <= 150 else 300}}, now)
    before = 2 * (now - 60)
    assert rates.rates({"counts": {"x": 300}}, now)["x"]["60s"] == pytest.approx((300 - before) / 60, abs=0.02)

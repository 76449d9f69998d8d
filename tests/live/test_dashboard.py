"""The dashboard for Grafana: each of its queries is asked of a real Prometheus that scrapes a live system."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import cbw
from cbw.observe.metrics import DURATIONS
from tests.ports import free_port

from .conftest import Start, StartBroker, StartWorker
from .program import wait_until
from .prometheus import HOST, SCRAPED_WITHIN_S, scraping
from .test_prometheus import FOLDER, installed  # noqa: F401 - a fixture that skips

DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
VARIABLES = {"$__rate_interval": "10s", "$service": ".*", "${datasource}": ""}
"""What Grafana puts in the place of each variable, for scrapes a second apart."""
EMPTY_WHEN_ALL_IS_WELL = {"Alerts"}
"""Panels whose queries have no series in a system of which nothing has to be told; a series of theirs is asked for elsewhere."""
UNITS = {"short", "s", "reqps", "cps", "bytes"}


class Query(NamedTuple):
    """An expression of a panel, and how it calls its series."""

    title: str
    expression: str
    legend: str


def queries() -> list[Query]:
    found = [
        Query(panel["title"], target["expr"], target["legendFormat"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]
    return [one._replace(expression=with_variables(one.expression)) for one in found]


def with_variables(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def test_every_panel_of_a_live_system_has_data(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    ports = {role: free_port() for role in ("broker", "worker", "logger", "client")}
    logger = start("logger", 0, tmp_path / "logs", "--status-port", ports["logger"])
    text_port = re.search(r"text on port (\d+)", logger.wait_for("text on port"))
    assert text_port is not None
    broker = start_broker(HOST, text_port[1], "--status-port", ports["broker"])
    start_worker("W1", "render=echo", at=broker, options=["--status-port", ports["worker"]])
    shutil.copy(FOLDER / "rules.yml", tmp_path)
    with (
        cbw.Client(broker.address) as client,
        cbw.metrics.serve(client, port=ports["client"]),
        scraping(tmp_path, [*ports.values()]) as prometheus,
    ):
        client.call(b"x", "render")
        wait_until(lambda: len(prometheus.query("cbw_ready == 1")) == 4, "all are scraped", within_s=SCRAPED_WITHIN_S)
        client.submit(b"", "nobody")
        left = {query for query in queries() if query.title not in EMPTY_WHEN_ALL_IS_WELL}

        def all_have_data() -> bool:
            client.call(b"x", "render")
            for query in [*left]:
                series = prometheus.query(query.expression)
                if any(one["value"][1] != "NaN" for one in series):
                    left.remove(query)
                    its_labels = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
                    assert all(its_labels <= one["metric"].keys() for one in series), query
            return not left

        deadline = time.monotonic() + SCRAPED_WITHIN_S
        while not all_have_data():
            assert time.monotonic() < deadline, f"no data for {left}"
        offered = prometheus.label_values("cbw_broker_service_workers", "service")
        assert offered == {"render", "nobody"}
        for query in queries():
            if query.title in EMPTY_WHEN_ALL_IS_WELL:
                assert prometheus.query(query.expression) == []
        alert = 'ALERTS{alertname="CbwNoWorker", service="nobody"}'
        wait_until(lambda: prometheus.query(alert), "an alert is at least pending", within_s=SCRAPED_WITHIN_S)
        client.close()


def test_it_is_what_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken and place["x"] + place["w"] <= 24, f"{panel['title']} lies over another"
        taken |= cells
        assert panel["description"].endswith(".") and panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(panels))) - {"__rate_interval"}
    assert used == {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_every_metric_by_service_is_on_it() -> None:
    """Those that tell what waits, how long it takes and who is missing."""
    text = json.dumps(DASHBOARD)
    for name in ("queue_age_seconds", "requests_waiting"):
        assert f"cbw_broker_{name}" in text, name
    assert "cbw_workers_wanted" in text
    for role, timed in DURATIONS.items():
        for _, name, _ in timed:
            assert f"{name}_bucket" in text, f"{role}: {name}"


def test_the_durations_of_handlers_are_beside_those_of_requests() -> None:
    """Whoever is paged compares them: the difference is what requests wait."""
    places = {panel["title"]: panel["gridPos"] for panel in DASHBOARD["panels"]}
    requests, handlers = places["Duration of requests"], places["Duration of handlers"]
    assert (handlers["x"], handlers["y"]) == (requests["x"] + requests["w"], requests["y"])
    (panel,) = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Duration of handlers"]
    assert [target["legendFormat"] for target in panel["targets"]] == ["p50 {{service}}", "p99 {{service}}"]

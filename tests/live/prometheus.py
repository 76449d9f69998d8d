"""A real Prometheus that scrapes what runs on this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.ports import free_port

from .test_status import get, listens

HOST = "127.0.0.1"
SCRAPED_WITHIN_S = 60.0
SCRAPE_S = 1
"""Seconds between two scrapes."""


class Prometheus:
    """Asked over HTTP on ``port``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def query(self, expression: str) -> list[Any]:
        """The series that ``expression`` has now; none if it cannot be asked yet.

        Raises:
            AssertionError: ``expression`` is wrong.
        """
        found: list[Any] = self._data("query", query=expression).get("result", [])
        return found

    def label_values(self, metric: str, label: str) -> set[str]:
        """The values of ``label`` in the series of ``metric``: what a variable of a dashboard offers."""
        return {series["metric"][label] for series in self.query(metric) if label in series["metric"]}

    def _data(self, what: str, **fields: str) -> dict[str, Any]:
        if not listens(self.port):
            return {}
        code, text = get(self.port, f"/api/v1/{what}?{urlencode(fields)}")
        assert code != 400, f"{fields}: {text}"
        data: dict[str, Any] = json.loads(text)["data"] if code == 200 else {}
        return data


@contextmanager
def scraping(folder: Path, ports: list[int], **scrape: Any) -> Iterator[Prometheus]:
    """One that scrapes these status ports each second, with the rules that lie in ``folder``, until the context ends."""
    targets = [{"targets": [f"{HOST}:{port}" for port in ports]}]
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "cbw", "static_configs": targets, **scrape}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={HOST}:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.kill()
        process.wait()

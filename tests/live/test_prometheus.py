"""A real Prometheus scrapes every role, and its own tool judges the rules in ``deploy/observability``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cbw
from cbw.keys.status_token import STATUS_TOKEN, write_token
from cbw.observe.metrics import COUNTERS
from tests.ports import free_port

from .conftest import Start, StartBroker, StartWorker
from .program import wait_until
from .prometheus import SCRAPED_WITHIN_S, scraping
from .test_status import metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
RULES = (FOLDER / "rules.yml").read_text()


@pytest.fixture(autouse=True)
def installed() -> None:
    """Prometheus and promtool come in one package. They may be missing only where nobody relies on these tests."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt-get install prometheus)")


def test_a_real_prometheus_scrapes_every_role_with_a_token(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    ports = {"broker": free_port(), "worker": free_port(), "logger": free_port()}
    write_token(tmp_path)
    token = ("--status-token-file", tmp_path / STATUS_TOKEN)
    broker = start_broker("--status-port", ports["broker"], *token)
    start_worker("W1", "echo", at=broker, options=["--status-port", ports["worker"], *token])
    start("logger", 0, tmp_path / "logs", "--status-port", ports["logger"], *token).wait_for("text on port")
    shutil.copy(FOLDER / "rules.yml", tmp_path)
    with cbw.Client(broker.address) as client:
        client.call(b"x")
    with scraping(tmp_path, [*ports.values()], authorization={"credentials_file": STATUS_TOKEN}) as prometheus:
        query = prometheus.query
        wait_until(lambda: len(query("cbw_ready == 1")) == 3, "all three are scraped", within_s=SCRAPED_WITHIN_S)
        roles = {series["metric"]["role"] for series in query("cbw_build_info")}
        assert roles == set(ports)
        (answered,) = query('cbw_broker_requests_ended_total{how="answered"}')
        assert answered["value"][1] == "1"
        wait_until(lambda: query("cbw:requests:rate1m"), "a recording rule has run", within_s=SCRAPED_WITHIN_S)


def test_the_configuration_takes_the_token_if_its_line_is_no_comment(tmp_path: Path) -> None:
    """The line that stands there for whoever has a token is one that Prometheus takes, at its place."""
    text = (FOLDER / "prometheus.yml").read_text()
    assert text.count("# authorization: ") == 1
    for name, content in (
        ("prometheus.yml", text.replace("# authorization: ", "authorization: ")),
        ("rules.yml", RULES),
    ):
        (tmp_path / name).write_text(content)
    command = ["promtool", "check", "config", "prometheus.yml"]
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode == 1 and STATUS_TOKEN in without.stdout + without.stderr, "it wants the file"
    write_token(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", ["check config prometheus.yml", "check rules rules.yml", "test rules rules.test.yml"]
)
def test_rules_and_configuration_are_right(arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments.split()], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES))
    tests = (FOLDER / "rules.test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:", tests))
    assert alerts and alerts == fired, alerts ^ fired


def test_every_metric_of_the_rules_exists(start_broker: StartBroker) -> None:
    """A rule about a metric that nobody has would never fire."""
    port = free_port()
    start_broker("--status-port", port)
    known = {name for name, *_ in metrics(port)} | {
        f"cbw_{role}_{name}_total" for role, counters in COUNTERS.items() for name in counters
    }
    known |= {"cbw_logger_can_write", "cbw_log_dropped_total", "cbw_broker_requests_waiting"}
    known |= {
        "cbw_broker_service_workers",
        "cbw_broker_queue_age_seconds",
    }  # without samples, as there is no service yet
    known |= {"cbw_broker_journal_stalled"}  # only with a journal
    known |= {f"cbw_broker_{what}_duration_seconds_bucket" for what in ("request", "attempt")}
    used = set(re.findall(r"\bcbw_[a-z_]+", RULES))
    assert used and used <= known, used - known

"""S1 and S2: the base image, and the roles by ``docker build``, ``docker run`` and ``docker inspect``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

import cbw
from tests.live.program import wait_until

from .engine import LABEL, address_of, answers_in, docker, must

pytestmark = pytest.mark.timeout(300)
Run = Callable[..., str]
AT_ONCE_S = 9.0
"""Docker kills what has not ended after 10 s."""


def inspect(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(must("inspect", name))[0]
    return found


def test_the_base_image(images: dict[str, str]) -> None:
    base = images["tsr-zmq"]
    assert must("run", "--rm", "--label", f"{LABEL}=1", base, "cbw", "--version") == f"cbw {cbw.__version__}"
    found = must("run", "--rm", "--label", f"{LABEL}=1", base, "sh", "-c", "id -u; command -v gcc cc curl; true")
    assert found.split() == ["10001"], "an unprivileged user, no compiler, no curl"
    assert docker("run", "--rm", "--label", f"{LABEL}=1", base, "/opt/cbw/bin/python", "-m", "pip").returncode != 0
    config = inspect(base)["Config"]
    assert isinstance(config, dict)
    assert config["Labels"]["org.opencontainers.image.version"] == cbw.__version__
    assert isinstance(config["Cmd"], list) and config["Healthcheck"]["Test"] == ["CMD", "cbw-ready"]


def test_broker_worker_and_client_by_hand(images: dict[str, str], run: Run) -> None:
    broker = run("--detach", images["imbroker"])
    host = address_of(inspect(broker))
    worker = run("--detach", "-e", f"BROKER_HOST={host}", "-e", "CBW_WORKER_WORK_TIME_S=0.05", images["imworker"])
    client = run("-e", f"BROKER_HOST={host}", images["imclient"])
    answers = answers_in(must("logs", client).splitlines())
    name = f"CLI_{inspect(client)['Config']['Hostname']}"  # type: ignore[index]
    assert [request for request, _, _ in answers] == [f"{name}-{number}" for number in range(1, 11)]
    assert all(request == answer for request, answer, _ in answers)
    for role in (worker, broker):
        wait_until(lambda role=role: health(role) == "healthy", f"{role} is healthy")  # type: ignore[misc]
    for role in (worker, broker):
        began_at = time.monotonic()
        must("stop", role)
        assert time.monotonic() - began_at < AT_ONCE_S, "it waits for nothing"
        assert inspect(role)["State"]["ExitCode"] == 0  # type: ignore[index]


def test_machines_that_vanish(images: dict[str, str], run: Run) -> None:
    """A container taken off its network says nothing more, not even that it goes. A client has no beats: TCP's probes find it."""
    broker = run("--detach", images["imbroker"])
    host = ["-e", f"BROKER_HOST={address_of(inspect(broker))}"]
    run("--detach", *host, "-e", "HN=BUSY", "-e", "CBW_WORKER_WORK_TIME_S=60", images["imworker"])
    client = run("--detach", *host, images["imclient"])
    is_told(broker, "worker ready")
    idle = run("--detach", *host, "-e", "HN=IDLE", images["imworker"])
    wait_until(lambda: must("logs", broker).count("worker ready") == 2, "both workers are ready")
    for container, loss in ((client, "client away"), (idle, "worker lost")):
        must("network", "disconnect", "--force", "bridge", container)
        is_told(broker, loss)


def is_told(container: str, words: str) -> None:
    wait_until(lambda: words in must("logs", container), words)


def health(name: str) -> str:
    return str(inspect(name)["State"]["Health"]["Status"])  # type: ignore[index]


@pytest.mark.parametrize("role", ["imworker", "imclient"])
@pytest.mark.parametrize("environment", [[], ["-e", "BROKER_HOST="]])
def test_without_a_broker_it_says_what_is_missing(images: dict[str, str], role: str, environment: list[str]) -> None:
    done = docker("run", "--rm", "--label", f"{LABEL}=1", *environment, images[role])
    assert done.returncode == 2
    assert "where is the broker?" in done.stdout and "BROKER_HOST" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_broker_host(images: dict[str, str], run: Run) -> None:
    worker = run("--detach", "-e", "BROKER_HOST=no-such-host.invalid", images["imworker"])
    wait_until(lambda: "does not resolve" in must("logs", worker), "it says that the name means nothing")
    assert inspect(worker)["State"]["Running"], "it goes on: the name may come"  # type: ignore[index]
    wait_until(lambda: health(worker) in ("starting", "unhealthy"), "it is not healthy")


def test_a_client_that_waits_stops_at_once(images: dict[str, str], run: Run) -> None:
    client = run("--detach", "-e", "BROKER_HOST=172.17.0.250", images["imclient"])
    time.sleep(1)
    began_at = time.monotonic()
    must("stop", client)
    assert time.monotonic() - began_at < AT_ONCE_S
    assert inspect(client)["State"]["ExitCode"] == 0  # type: ignore[index]


def test_an_image_for_another_machine_is_told(images: dict[str, str]) -> None:
    done = docker("run", "--rm", "--pull", "never", "--platform", "linux/s390x", images["imbroker"])
    assert done.returncode != 0
    assert "platform" in done.stdout, done.stdout

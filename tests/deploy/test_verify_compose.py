"""``cbw verify --compose`` on real containers: deployments that keep their promises, and those with a planted fault."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import DockerException
from docker.models.containers import Container

from cbw.cli.main import main
from cbw.verify.checks import judge
from cbw.verify.scenario import merged
from tests.live import faulty_broker
from tests.live.program import environment, wait_until

from .conftest import SERVICES, NewName
from .engine import DEPLOY, LABEL, SELDOM, service_override

CHECKS = [
    "own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker",
    "killed-broker", "restarted-broker", "cut-off-worker", "complete-log",
]  # fmt: skip
FOUND_BY = {
    # fault: the checks that must find it; those that take longest first
    "does_not_come_back": ["restarted-broker"],
    "does_not_come_back_twice": ["killed-broker"],
    "swaps_replies": ["own-replies"],
    "has_a_favourite": ["no-idle-while-waiting"],
    "is_deaf": ["killed-worker", "frozen-worker", "cut-off-worker"],
    "has_no_fence": ["frozen-worker"],
    "delivers_late_answers": ["frozen-worker"],
    "forgets_its_log": ["complete-log"],
}
AT_ONCE = 3
"""Deployments that are tried side by side: verify mostly waits."""
WORK_S = "0.5"
"""Long enough for Docker to hurt a worker meanwhile, on a busy machine too."""
RUN_S = 200
"""A run takes half a minute; more when others need the machine."""
pytestmark = pytest.mark.timeout(500)


def verify(project: str, files: Sequence[Path], *options: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """``cbw verify --compose`` to its end."""
    command = [sys.executable, "-m", "cbw", "verify", *compose_options(project, files), *map(str, options)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_S, env=environment(**variables), check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def compose_options(project: str, files: Sequence[Path]) -> list[str]:
    """Of ``cbw verify``."""
    return ["--project", project, *(word for file in files for word in ("--compose", str(file)))]


def compose(project: str, files: Sequence[Path], *arguments: object) -> None:
    """``docker compose``, which must succeed."""
    command = ["docker", "compose", "-p", project, *(word for file in files for word in ("-f", str(file)))]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr


def checks_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The checks of ``--json`` by name."""
    assert done.stdout, done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def containers_of(sdk: DockerClient, project: str, **more: str) -> list[Container]:
    labels = [f"com.docker.compose.project={project}", *(f"com.docker.compose.{k}={v}" for k, v in more.items())]
    return sdk.containers.list(all=True, filters={"label": labels})


def state_of(sdk: DockerClient, project: str) -> dict[str, Any]:
    """What must be the same afterwards: which containers there are, what they do, and their names in each network."""
    found = {}
    for container in containers_of(sdk, project):
        networks = container.attrs["NetworkSettings"]["Networks"]
        names = {name: sorted(settings["Aliases"] or []) for name, settings in networks.items()}
        found[container.name or ""] = (container.id, container.status, names)
    return found


def processes_of(sdk: DockerClient, project: str) -> list[Any]:
    """Another one after any harm."""
    states = [container.attrs["State"] for container in containers_of(sdk, project)]
    return [(state["Status"], state["Pid"], state["StartedAt"]) for state in states]


def left_of(sdk: DockerClient, project: str) -> list[Any]:
    """All containers, networks and volumes of ``project``."""
    ours: dict[str, Any] = {"label": f"com.docker.compose.project={project}"}
    networks, volumes = sdk.networks.list(filters=ours), sdk.volumes.list(filters=ours)
    return [*sdk.containers.list(all=True, filters=ours), *networks, *volumes]


def deployment(
    folder: Path, role: dict[str, Any], *, has_log: bool = False, fault: str = "", work_s: str = WORK_S
) -> Path:
    """A Compose file (JSON is YAML) of a broker, workers and, if wanted, a logger; one of them may have a fault."""
    variables = {"PYTHONUNBUFFERED": "1", "BROKER_HOST": "bro", "CBW_WORKER_WORK_TIME_S": work_s}
    variables |= {"LOGGER_HOST": "log"} if has_log else {}
    role = role | {"environment": variables, "labels": {LABEL: "1"}, "healthcheck": SELDOM}
    cbw, mounts = role["entrypoint"], []
    broker, logger = [*cbw, "broker", "9998", "9999"], [*cbw, "logger"]
    if fault in faulty_broker.FAULTS:
        mounts = [f"{faulty_broker.__file__}:/faulty_broker.py:ro"]
        broker = ["python3", "/faulty_broker.py", fault, "9998", "9999"]
    elif fault == "does_not_come_back":
        broker = ["sh", "-c", f"test -e /tmp/was && exec sleep 999; touch /tmp/was; exec {' '.join(broker)}"]
    elif fault == "does_not_come_back_twice":
        count = "echo >> /tmp/starts; test $$(wc -l < /tmp/starts) -gt 2 && exec sleep 999"
        broker = ["sh", "-c", f"{count}; exec {' '.join(broker)}"]
    elif fault == "forgets_its_log":
        logger = ["sh", "-c", f"rm -f /tmp/cbwlog/logs; exec {' '.join(logger)}"]
    services: dict[str, Any] = {
        "bro": role | {"entrypoint": broker, "volumes": mounts, "init": True},
        "wor": role | {"entrypoint": [*cbw, "worker", "HN"]},
        "cli": role | {"entrypoint": [*cbw, "client", "HN", "2"], "depends_on": ["bro"]},
    }
    whole: dict[str, Any] = {"services": services, "networks": {"default": {"labels": {LABEL: "1"}}}}
    if has_log:
        log = {"PYTHONUNBUFFERED": "1", "LOGGER_DIR": "/tmp/cbwlog"}
        services["log"] = role | {"entrypoint": logger, "environment": log, "volumes": ["log:/tmp/cbwlog"], "user": "0"}
        whole["volumes"] = {"log": {"labels": {LABEL: "1"}}}
    path = folder / f"{fault or 'healthy'}.yml"
    path.write_text(json.dumps(whole))
    return path


# --- deployments that keep their promises


def test_one_that_runs_is_put_back_as_it_was_found(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path
) -> None:
    project, other = new_name(), new_name()
    files = [deployment(tmp_path, role)]
    compose(project, files, "up", "-d", "--scale", "wor=2", "--scale", "cli=1")
    compose(other, files, "up", "-d", "--scale", "wor=1", "--scale", "cli=0")
    (client,) = containers_of(sdk, project, service="cli")
    assert client.wait()["StatusCode"] == 0
    before, untouched = state_of(sdk, project), processes_of(sdk, other)

    done = verify(project, files, "--keep", tmp_path / "traces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only 2 of 3 workers run" in done.stderr
    results = re.findall(r"^(kept|broken|not tried) +(\S+)", done.stdout, re.MULTILINE)
    assert results == [*(("kept", name) for name in CHECKS[:-1]), ("not tried", CHECKS[-1])]
    assert state_of(sdk, project) == before
    assert processes_of(sdk, other) == untouched

    verdicts = {found.name: found for found in judge(merged(map(str, (tmp_path / "traces").glob("*.jsonl"))))}
    assert list(verdicts) == CHECKS
    figures = {name: found.figures for name, found in verdicts.items()}
    assert figures["frozen-worker"]["fenced"] == figures["frozen-worker"]["judged"]
    for name in ("killed-broker", "restarted-broker"):
        assert (figures[name]["restarts"], figures[name]["lost"]) == (1, 0)
    for name in ("killed-worker", "frozen-worker", "cut-off-worker"):
        assert figures[name]["judged"] and figures[name]["answered_s"]


def test_the_one_of_this_repository_is_started_and_nothing_is_left_of_it(
    sdk: DockerClient, images: dict[str, str], new_name: NewName, tmp_path: Path
) -> None:
    """``deploy/cbwl`` as it is, with the images of this checkout."""
    names = tmp_path / "names.yml"
    names.write_text(service_override({service: images[image] for service, image in SERVICES.items()}, WORK_S))
    project = new_name()
    where = {"BROKER_PUBLISHED": "0", "LOG_DIR": str(tmp_path / "log"), "CBW_TIMES": "1"}
    options = ("--json", "--report", str(tmp_path / "report.html"))
    done = verify(project, [DEPLOY / "cbwl" / "docker-compose.yml", names], *options, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    titles = re.findall(r"<figure><h3>(.+?)</h3>", (tmp_path / "report.html").read_text())
    for harm in (
        "was killed while",
        "was frozen while",
        "was cut off",
        "the broker was restarted",
        "the broker was killed",
    ):
        assert [title for title in titles if harm in title], (harm, titles)
    assert f"nothing of project {project} runs: starting it, with 3 workers" in done.stderr
    checks = checks_of(done)
    assert list(checks) == CHECKS
    assert all(check["passed"] and check["figures"]["judged"] for check in checks.values())
    assert checks["no-idle-while-waiting"]["figures"]["source"] == "broker"
    log = checks["complete-log"]["figures"]
    assert (log["restarts"], log["untold"], log["lost"], log["written_twice"]) == (2, 0, 0, 0)
    assert log["recovery_s"] > 0
    assert not left_of(sdk, project)
    assert (tmp_path / "log" / "logs").stat().st_size > 0, "the host's folder is not ours to remove"


def test_a_broker_with_a_journal_runs_nothing_again(
    sdk: DockerClient, images: dict[str, str], new_name: NewName, tmp_path: Path
) -> None:
    """``deploy/cbw`` with ``journal.yml``: the volume survives ``docker kill``, and the workers go on with what they have."""
    names = tmp_path / "names.yml"
    services = {service: images[image] for service, image in SERVICES.items() if service != "log"}
    names.write_text(service_override(services, WORK_S))
    files = [DEPLOY / "cbw" / "docker-compose.yml", DEPLOY / "cbw" / "journal.yml", names]
    project = new_name()
    done = verify(project, files, "--json", BROKER_PUBLISHED="0")
    assert done.returncode == 0, done.stdout + done.stderr
    # What was handed out in the last milliseconds before a kill, with the write after them, is not known to run.
    for name, again_max in (("killed-broker", 1), ("restarted-broker", 0)):
        figures = checks_of(done)[name]["figures"]
        assert (figures["restarts"], figures["lost"]) == (1, 0) and figures["executed_again"] <= again_max, figures
    assert not left_of(sdk, project)


# --- deployments that do not

Trials = dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def trials(role: dict[str, Any], new_name: NewName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """All faults are tried as soon as the first is asked for."""
    folder = tmp_path_factory.mktemp("faults")

    def try_fault(fault: str) -> subprocess.CompletedProcess[str]:
        file = deployment(folder, role, has_log=fault == "forgets_its_log", fault=fault)
        return verify(new_name(), [file], "--json", "--timeout", "5")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {fault: pool.submit(try_fault, fault) for fault in FOUND_BY}


@pytest.mark.xdist_group("planted faults of a deployment")
@pytest.mark.parametrize("fault", FOUND_BY)
def test_a_planted_fault_is_found(trials: Trials, fault: str) -> None:
    done = trials[fault].result()
    assert done.returncode == 4, done.stdout + done.stderr
    checks = checks_of(done)
    assert list(checks) == CHECKS
    broken = {name for name, check in checks.items() if not check["passed"]}
    assert broken >= {*FOUND_BY[fault]}, done.stdout


def test_every_check_can_fail() -> None:
    assert {check for checks in FOUND_BY.values() for check in checks} == {*CHECKS}


# --- broken off


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_breaking_it_off_puts_everything_back(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path, number: signal.Signals
) -> None:
    """In the worst moment, while a worker is frozen, and twice: who is impatient must not hinder it."""
    project, files = new_name(), [deployment(tmp_path, role)]
    compose(project, files, "up", "-d", "--scale", "wor=3", "--scale", "cli=0")
    before = state_of(sdk, project)
    command = [
        sys.executable,
        "-m",
        "cbw",
        "verify",
        *compose_options(project, files),
        "--keep",
        str(tmp_path / "traces"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        notes = tmp_path / "traces" / "verify.jsonl"
        wait_until(
            lambda: (notes.exists() and b'"frozen"' in notes.read_bytes()) or process.poll() is not None,
            "a worker is frozen",
            within_s=RUN_S,
        )
        assert any(container.status == "paused" for container in containers_of(sdk, project))
        process.send_signal(number)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said, said
    assert state_of(sdk, project) == before


# --- what cannot be verified


@pytest.mark.parametrize(
    ("content", "exit_code", "message"),
    [
        (None, 2, "is not there"),
        ("services: [", 2, "yaml"),
        ('{"services": {"web": {"image": "x"}}}', 2, "has no service bro, only web"),
        ('{"services": {"bro": {"image": "x"}}}', 2, "has no service wor, only bro"),
    ],
)
def test_a_file_that_is_none(
    sdk: DockerClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    exit_code: int,
    message: str,
) -> None:
    path = tmp_path / "docker-compose.yml"
    if content is not None:
        path.write_text(content)
    assert exit_code_of("--compose", path) == exit_code
    assert message in capsys.readouterr().err


def exit_code_of(*arguments: object) -> int:
    """Of ``cbw verify`` in this process."""
    with pytest.raises(SystemExit) as exited:
        main(["verify", *map(str, arguments)])
    assert isinstance(exited.value.code, int)
    return exited.value.code


def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("--project", "x") == 2
    assert "--compose" in capsys.readouterr().err
    assert exit_code_of("--compose", "x.yml", "--broker", "localhost") == 2
    assert "--broker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("service", "scale", "message"),
    [("wor", 0, "no worker of project"), ("bro", 0, "no broker of project")],
)
def test_a_deployment_that_lacks_something(
    sdk: DockerClient,
    role: dict[str, Any],
    new_name: NewName,
    tmp_path: Path,
    service: str,
    scale: int,
    message: str,
) -> None:
    project, files = new_name(), [deployment(tmp_path, role)]
    scales = {"bro": 1, "wor": 1, "cli": 0} | {service: scale}
    compose(project, files, "up", "-d", *(word for name, n in scales.items() for word in ("--scale", f"{name}={n}")))
    before = state_of(sdk, project)
    done = verify(project, files)
    assert done.returncode == 3, done.stdout + done.stderr
    assert message in done.stderr
    assert f"--scale {service}=" in done.stderr
    assert state_of(sdk, project) == before


@pytest.mark.parametrize("running", [0, 2])
def test_stopped_containers_are_used_and_stopped_again(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path, running: int
) -> None:
    """Of four workers none or two run. More than are wanted must not be removed."""
    project, files = new_name(), [deployment(tmp_path, role, work_s="0")]
    compose(project, files, "up", "-d", "--scale", "wor=4", "--scale", "cli=0")
    stopped = containers_of(sdk, project, service="wor")[running:]
    for container in stopped if running else containers_of(sdk, project):
        container.stop(timeout=5)
    before = state_of(sdk, project)
    done = verify(project, files)
    assert done.returncode == 3 and "too soon" in done.stderr, done.stderr
    assert state_of(sdk, project) == before


def test_a_broker_that_does_not_start_is_quoted(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path
) -> None:
    project = new_name()
    file = deployment(tmp_path, role | {"entrypoint": ["sh", "-c", "echo the disk is on fire >&2; exit 1"]})
    done = verify(project, [file])
    assert done.returncode == 3
    assert "the disk is on fire" in done.stderr
    assert not left_of(sdk, project)


def test_workers_that_are_too_quick_to_be_caught(role: dict[str, Any], new_name: NewName, tmp_path: Path) -> None:
    done = verify(new_name(), [deployment(tmp_path, role, work_s="0")])
    assert done.returncode == 3
    assert "CBW_WORKER_WORK_TIME_S" in done.stderr


def test_workers_that_do_not_say_what_they_begin(role: dict[str, Any], new_name: NewName, tmp_path: Path) -> None:
    path = deployment(tmp_path, role)
    whole = json.loads(path.read_text())
    whole["services"]["wor"]["entrypoint"] += ["--handler", "cbw.codec:encode"]
    path.write_text(json.dumps(whole))
    done = verify(new_name(), [path])
    assert done.returncode == 2, done.stderr
    assert "demonstration worker" in done.stderr


# --- no Docker


@pytest.fixture
def some_file(tmp_path: Path) -> Path:
    path = tmp_path / "docker-compose.yml"
    path.write_text('{"services": {"bro": {"image": "x"}, "wor": {"image": "x"}}}')
    return path


def test_no_docker(some_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(some_file.parent))
    assert exit_code_of("--compose", some_file) == 3
    assert "Docker is not installed" in capsys.readouterr().err


def test_an_old_compose(some_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As the command says it where the plugin is missing."""
    command = some_file.parent / "docker"
    command.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{some_file.parent}{os.pathsep}{os.environ['PATH']}")
    assert exit_code_of("--compose", some_file) == 3
    assert "docker-compose-plugin" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_no_daemon(sdk: DockerClient, some_file: Path, url: str) -> None:
    done = verify("x", [some_file], DOCKER_HOST=url)
    assert done.returncode == 3
    assert "the Docker daemon is not running" in done.stderr


def test_a_daemon_that_does_not_let_us_in(
    sdk: DockerClient, some_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs the tests may be root, whom no file refuses: so the error is the SDK's, as users have met it."""

    def refuse(**_: object) -> None:
        raise DockerException("Error while fetching server API version: PermissionError(13, 'Permission denied')")

    monkeypatch.setattr("docker.DockerClient", refuse)
    assert exit_code_of("--compose", some_file) == 3
    assert "usermod -aG docker" in capsys.readouterr().err

"""``cbw verify --compose`` of deployments with several brokers: one that shares its workers, and one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from .conftest import NewName
from .test_verify_compose import checks_of, compose, deployment, state_of, verify

CHECKS = [
    "own-replies",
    "no-idle-while-waiting",
    "work-shared",
    "killed-worker",
    "killed-broker",
    "frozen-broker",
    "cut-off-broker",
]
pytestmark = pytest.mark.timeout(500)


def test_three_brokers_of_which_two_are_brought_down(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path
) -> None:
    project, files = new_name(), [deployment(tmp_path, role)]
    compose(project, files, "up", "-d", "--scale", "bro=3", "--scale", "wor=3", "--scale", "cli=0")
    before = state_of(sdk, project)
    done = verify(project, files, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = checks_of(done)
    assert all(checks[name]["figures"]["judged"] and checks[name]["passed"] for name in CHECKS), checks
    assert checks["killed-broker"]["figures"]["restarts"] == 2, "one of three, then two of them"
    assert state_of(sdk, project) == before


def test_workers_that_serve_one_broker_of_two_are_found(
    sdk: DockerClient, role: dict[str, Any], new_name: NewName, tmp_path: Path
) -> None:
    """Each knows only the address of one broker, as all roles did before workers served all of them."""
    project, path = new_name(), deployment(tmp_path, role)
    whole = json.loads(path.read_text())
    only = "import socket, sys; print(sorted(socket.gethostbyname_ex('bro')[2])[0])"
    whole["services"]["wor"]["entrypoint"] = ["sh", "-c", f'exec cbw worker HN "$$(python3 -c "{only}")" 9999']
    path.write_text(json.dumps(whole))
    compose(project, [path], "up", "-d", "--scale", "bro=2", "--scale", "wor=3", "--scale", "cli=0")
    done = verify(project, [path], "--json", "--timeout", "8")
    assert done.returncode == 4, done.stdout + done.stderr
    assert not checks_of(done)["work-shared"]["passed"]

"""S7: two brokers with one journal on three NATS servers, by Compose: one serves, and the other goes on when it is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.program import wait_until

from .conftest import NewProject
from .engine import DEPLOY, LABEL, Project, answers_in, docker, must

pytestmark = pytest.mark.timeout(400)
UP_S = 120.0
VERIFY_S = 300.0
"""It takes a minute and a half on a quiet machine: three leaders are elected."""
NATS = ("nats1", "nats2", "nats3")


@pytest.fixture
def nats_file(nats_image: str, tmp_path: Path) -> Path:
    """A Compose file that gives the servers an image that is here, and restarts no broker."""
    path = tmp_path / "nats-image.yml"
    services: dict[str, dict[str, Any]] = {name: {"image": nats_image, "labels": {LABEL: "1"}} for name in NATS}
    services["bro"] = {"restart": "no"}  # else the killed owner may be back before the standby has noticed
    path.write_text(json.dumps({"services": services}))
    return path


def answered(project: Project, count: int) -> bool:
    """Whether the clients' answers are so many, each its own request's."""
    answers = answers_in(project.logs("cli"))
    assert all(request == answer for request, answer, _ in answers), answers
    return len(answers) >= count


def says(container: dict[str, Any]) -> str:
    """What the broker in ``container`` says of itself, and that Docker holds it for healthy."""
    return docker("exec", container["Id"], "cbw-ready").stdout.strip()


def test_a_standby_goes_on_when_the_owner_is_killed(new_project: NewProject, nats_file: Path) -> None:
    project = new_project("cbw", BROKER_PUBLISHED="0")
    project.add_file(DEPLOY / "cbw" / "nats.yml")
    project.add_file(nats_file)
    project.must("up", "--detach", "--scale", "bro=2", "--scale", "cli=2", "--scale", "wor=2", within_s=UP_S)
    wait_until(lambda: answered(project, 20), "the first answers", within_s=UP_S)
    brokers = project.containers("bro")
    said = {says(one).partition(":")[0]: one for one in brokers}
    assert said.keys() == {"ok", "stands by"}, said
    assert all(docker("exec", one["Id"], "cbw-ready").returncode == 0 for one in brokers), "both are healthy"
    must("kill", said["ok"]["Id"])
    wait_until(lambda: says(said["stands by"]) == "ok", "the second broker serves", within_s=UP_S)
    project.must("start", "cli")  # and the broker that was killed, on which they depend
    wait_until(lambda: answered(project, 40), "its answers", within_s=UP_S)
    wait_until(lambda: says(said["ok"]).startswith("stands by"), "the first one stands by", within_s=UP_S)


def test_a_deployment_with_a_standby_is_verified(new_project: NewProject, nats_file: Path) -> None:
    """The owner is killed, and frozen until the standby has its journal: then it ends, and nothing of it is believed."""
    project = new_project("cbw", BROKER_PUBLISHED="0", CBW_WORKER_WORK_TIME_S="2")
    project.add_file(DEPLOY / "cbw" / "nats.yml")
    project.add_file(nats_file)
    project.must("up", "--detach", "--scale", "bro=2", "--scale", "cli=0", "--scale", "wor=3", within_s=UP_S)
    wait_until(lambda: "ok" in map(says, project.containers("bro")), "one of them serves", within_s=UP_S)
    done = project.verify("--json", within_s=VERIFY_S)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("own-replies", "standby-takes-over", "frozen-broker", "fenced-zombie"):
        assert checks[name]["passed"] and checks[name]["figures"]["judged"], done.stdout

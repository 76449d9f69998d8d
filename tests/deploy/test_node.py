"""The lab's own programs in Node (``deploy/node``), alone and beside ours, and when their broker is restarted or killed."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.program import wait_until

from .conftest import NewProject, one_builds
from .engine import DEPLOY, LABEL, Project, docker, must, offline_base, service_override

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("node")]
NODE = DEPLOY / "node"
ROLES_IN_NODE = {"bro": "broker", "wor": "worker", "cli": "client"}
UP_S = 120
END_S = 150.0
QUICK_S = 0.2
WORK_S = 2.4
BEGUN_S = 1.8
"""A task began at most this long before a broker is hurt, which takes Docker less than what is left of it."""
Images = dict[str, str]


@pytest.fixture(scope="module")
def node_images(engine: None, tag: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """The image of each service, made as the comments of the files say; removed at the end."""
    made: list[str] = []
    try:
        with one_builds(tmp_path_factory):
            base = f"tsr-node:{tag}"
            build = ["build", "--quiet", "--label", f"{LABEL}=1"]
            must(*build, "-t", base, *offline_base(), NODE / "base", within_s=500)
            made.append(base)
            for role in ROLES_IN_NODE.values():
                copy = tmp_path_factory.mktemp("node") / role
                shutil.copytree(NODE / role, copy)
                file = copy / "Dockerfile"
                file.write_text(file.read_text().replace("FROM tsr-node\n", f"FROM {base}\n"))
                must(*build, "-t", f"im{role}-node:{tag}", copy)
                made.append(f"im{role}-node:{tag}")
        yield {service: f"im{role}-node:{tag}" for service, role in ROLES_IN_NODE.items()}
    finally:
        for image in reversed(made):
            docker("image", "rm", "--force", image)


@pytest.fixture
def mixed(new_project: NewProject, node_images: Images, tmp_path: Path) -> Callable[..., Project]:
    """``mixed("wor", "cli", work_s=1)``: our deployment, with these services as the lab's own programs; workers take so long."""

    def mix(*services: str, work_s: float) -> Project:
        project = new_project("cbw")
        for service in services:
            project.add_file(NODE / f"{ROLES_IN_NODE[service]}s.yml")
        override = tmp_path / "node-images.yml"
        text = json.loads(service_override({service: node_images[service] for service in services}))
        if "wor" in services:
            text["services"].setdefault("bro", {})["environment"] = {"CBW_BROKER_ANSWER_TIMEOUT_S": 2 + 4 * work_s}
            command = f"node worker HN $$BROKER_HOST $$BROKER_PORT {work_s}"
            text["services"]["wor"]["command"] = ["bash", "-c", command]
        override.write_text(json.dumps(text))
        project.add_file(override)
        return project

    return mix


def has_all_answers(project: Project) -> None:
    """Both clients have got all that they asked for, and ended."""
    ended = [must("wait", container["Id"], within_s=END_S) for container in project.containers("cli")]
    said = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line) for line in project.logs("cli")]
    answers = [line.split()[:3] for line in said if " -> " in line]
    assert ended == ["0", "0"] and len(answers) == 20, said
    assert all(asked == answer for asked, _, answer in answers), said


@pytest.mark.parametrize("services", [("bro", "wor", "cli"), ("wor",), ("cli",)], ids=" ".join)
def test_both_worlds_in_one_deployment(mixed: Callable[..., Project], services: tuple[str, ...]) -> None:
    project = mixed(*services, work_s=QUICK_S)
    project.must("up", "--detach", "--no-build", "--scale", "cli=2", "--scale", "wor=4", within_s=UP_S)
    has_all_answers(project)


def in_the_middle(project: Project) -> Callable[[], bool]:
    """Tells, as often as it is asked, whether both workers are in the middle of a task, at least their third.

    What a broker is sent while it ends is read by nobody, and then a program of the lab waits for ever: so nobody may be about
    to answer.
    """
    begun = dict.fromkeys(project.ids("wor"), (0, 0.0))  # how many tasks, and since when at most
    looked_at = 0.0

    def is_so() -> bool:
        nonlocal looked_at
        before, looked_at = looked_at, time.monotonic()
        for worker, (count, _) in begun.items():
            if (now := must("logs", worker).count(" begins ")) != count:
                begun[worker] = now, before
        oldest_s = time.monotonic() - min(since for _, since in begun.values())
        return all(count >= 3 for count, _ in begun.values()) and oldest_s < BEGUN_S

    return is_so


@pytest.mark.parametrize("harm", ["restart", "kill"])
@pytest.mark.parametrize("overlay", ["", "journal.yml"])
def test_the_labs_programs_outlive_their_broker(mixed: Callable[..., Project], harm: str, overlay: str) -> None:
    """Twenty answers of twenty, in the middle of a task each: as with the lab's own broker, and better if that is killed."""
    project = mixed("wor", "cli", work_s=WORK_S)
    if overlay:
        project.add_file(DEPLOY / "cbw" / overlay)
    project.must("up", "--detach", "--no-build", "--scale", "cli=2", "--scale", "wor=2", within_s=UP_S)
    (broker,) = project.ids("bro")
    wait_until(in_the_middle(project), "both workers are in the middle of a task")
    must(harm, broker)  # not by Compose, which takes as long as a task
    if harm == "kill":
        must("start", broker)
    has_all_answers(project)

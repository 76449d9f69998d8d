"""The lab's own programs in Node (``deploy/node``), alone and beside ours, and when their broker is restarted or killed."""

from __future__ import annotations

import json
import re
import shutil
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
END_S = 60.0
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
    """``mixed("wor", "cli")``: our deployment, in which these services are the lab's own programs."""

    def mix(*services: str, is_quick: bool = False) -> Project:
        project = new_project("cbw")
        for service in services:
            project.add_file(NODE / f"{ROLES_IN_NODE[service]}s.yml")
        override = tmp_path / "node-images.yml"
        text = json.loads(service_override({service: node_images[service] for service in services}))
        if is_quick and "wor" in services:
            text["services"]["wor"]["command"] = QUICK
        override.write_text(json.dumps(text))
        project.add_file(override)
        return project

    return mix


QUICK = ["bash", "-c", "node worker HN $$BROKER_HOST $$BROKER_PORT 0.2"]
"""The lab's worker, which takes a second for a request if it is not told another time."""


def has_all_answers(project: Project) -> None:
    """Both clients have got all that they asked for, and ended."""
    ended = [must("wait", container["Id"], within_s=END_S) for container in project.containers("cli")]
    said = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line) for line in project.logs("cli")]
    answers = [line.split()[:3] for line in said if " -> " in line]
    assert ended == ["0", "0"] and len(answers) == 20, said
    assert all(asked == answer for asked, _, answer in answers), said


@pytest.mark.parametrize("services", [("bro", "wor", "cli"), ("wor",), ("cli",)], ids=" ".join)
def test_both_worlds_in_one_deployment(mixed: Callable[..., Project], services: tuple[str, ...]) -> None:
    project = mixed(*services, is_quick=True)
    project.must("up", "--detach", "--no-build", "--scale", "cli=2", "--scale", "wor=4", within_s=UP_S)
    has_all_answers(project)


@pytest.mark.parametrize("harm", ["restart", "kill"])
@pytest.mark.parametrize("overlay", ["", "journal.yml"])
def test_the_labs_programs_outlive_their_broker(mixed: Callable[..., Project], harm: str, overlay: str) -> None:
    """Twenty answers of twenty, in the middle of a task each: as with the lab's own broker, and better if that is killed."""
    project = mixed("wor", "cli")
    if overlay:
        project.add_file(DEPLOY / "cbw" / overlay)
    project.must("up", "--detach", "--no-build", "--scale", "cli=2", "--scale", "wor=2", within_s=UP_S)
    wait_until(lambda: "".join(project.logs("wor")).count("-3 of ") == 2, "both third requests are begun")
    project.must(harm, "bro")
    if harm == "kill":
        project.must("start", "bro")
    has_all_answers(project)

"""The engine and the images for the tests of deployments."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.nats_server import command
from tests.ports import free_port

from .engine import DEPLOY, LABEL, OFFLINE_BASE, ROOT, SELDOM, Project, docker, must, offline_base, service_override

NewProject = Callable[..., Project]
NewName = Callable[[], str]
ROLES = {
    "imbroker": DEPLOY / "cbw" / "broker",
    "imworker": DEPLOY / "cbw" / "worker",
    "imclient": DEPLOY / "cbw" / "client",
    "imlogger": DEPLOY / "cbwl" / "logger",
}
HERE = Path(__file__).parent
STANDINS = HERE / "standins"
STANDIN_IMAGES = {
    "db": ("mariadb", "cbw-standin-mariadb:bookworm"),
    "wp": ("wordpress", "cbw-standin-wordpress:bookworm"),
}
"""Service of the blog: the folder of its stand-in, and the image that is made of it."""
MONGO_STANDIN_IMAGES = {
    "db": ("mongo", "cbw-standin-mongo:bookworm"),
    "page": ("mongo-express", "cbw-standin-mongo-express:bookworm"),
}
"""Images that stand in for those of the database and its page."""
NATS_IMAGE = "nats:2.14-alpine"
NATS_STANDIN = "cbw-standin-nats:bookworm"
LONGEST = (
    "test_guide.py",
    "test_swarm.py",
    "test_verify_brokers.py",
    "test_standby.py",
    "test_prefabricated.py",
    "test_verify_compose.py",
    "test_wordpress.py",
    "test_pods.py",
    "test_node.py",
)
"""Whose tests take longest. They run first, so that no process of a run is left with one of them when the others have ended."""
SERVICES = {"bro": "imbroker", "wor": "imworker", "cli": "imclient", "log": "imlogger"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests of this folder before its others."""
    places = [place for place, item in enumerate(items) if item.path.parent == HERE]
    rank = {name: number for number, name in enumerate(LONGEST)}
    ordered = sorted((items[place] for place in places), key=lambda item: rank.get(item.path.name, len(rank)))
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def engine() -> None:
    """A running engine. It may be missing only where nobody relies on these tests."""
    missing = "docker is not installed" if shutil.which("docker") is None else ""
    if not missing and docker("info").returncode != 0:
        missing = "the Docker daemon does not run (.ci/docker-engine starts one)"
    if not missing and docker("compose", "version").returncode != 0:
        missing = "docker compose (version 2) is not installed"
    if missing:
        pytest.skip(missing)


@contextlib.contextmanager
def one_builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One process of a run at a time. The next one finds every layer made, so its build takes a second."""
    with (tmp_path_factory.getbasetemp().parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tag() -> str:
    """The tag of this run's images."""
    return f"test-{secrets.token_hex(3)}"


@pytest.fixture(scope="session")
def images(engine: None, tag: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Images of this checkout by the lab's names, made as the lab makes them, each in its folder; removed at the end."""
    made: dict[str, str] = {}
    try:
        with one_builds(tmp_path_factory):
            base = f"tsr-zmq:{tag}"
            must("build", "--quiet", "--label", f"{LABEL}=1", "-t", base, *offline_base(), ROOT, within_s=600)
            made["tsr-zmq"] = base
            for name, folder in ROLES.items():
                copy = tmp_path_factory.mktemp(name) / folder.name
                shutil.copytree(folder, copy)
                file = copy / "Dockerfile"
                file.write_text(file.read_text().replace("FROM tsr-zmq\n", f"FROM {base}\n"))
                must("build", "--quiet", "--label", f"{LABEL}=1", "-t", f"{name}:{tag}", copy)
                made[name] = f"{name}:{tag}"
        yield made
    finally:
        for image in reversed(made.values()):
            docker("image", "rm", "--force", image)


@pytest.fixture
def new_project(images: dict[str, str], tmp_path: Path) -> Iterator[NewProject]:
    """``new_project("cbw", LOG_DIR=…)``: a deployment of ``deploy/cbw``, not yet up; taken down at the end."""
    projects: list[Project] = []

    def new(folder: str, **environment: str) -> Project:
        file = DEPLOY / folder / "docker-compose.yml"
        override = tmp_path / f"images-{len(projects)}.yml"
        services = {service: images[image] for service, image in SERVICES.items() if service != "log" or "l" in folder}
        override.write_text(service_override(services))
        projects.append(Project(file, override, {"BROKER_PUBLISHED": str(free_port()), **environment}))
        return projects[-1]

    yield new
    for project in projects:
        project.down()


@pytest.fixture(scope="session")
def standins(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Compose file that changes the images' names, and asks often whether they are healthy, as nothing goes on before they are.
    The images are kept for the next run on this machine.
    """
    return standins_file(STANDIN_IMAGES, tmp_path_factory, {"start_interval": "1s"})


@pytest.fixture(scope="session")
def mongo_standins(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for the database with its page. Who is healthy is seldom asked: its shell takes two seconds of a processor."""
    return standins_file(MONGO_STANDIN_IMAGES, tmp_path_factory, SELDOM | {"start_interval": "5s"})


def standins_file(
    images: Mapping[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory, healthcheck: Mapping[str, str]
) -> Path:
    """Make the images, and a Compose file that names them and says how often to ask for their health."""
    with one_builds(tmp_path_factory):
        for name, image in images.values():
            must("build", "--quiet", "--label", f"{LABEL}=standin", "-t", image, STANDINS / name, within_s=800)
    path = tmp_path_factory.mktemp("standins") / "standins.yml"
    services = {service: {"image": image, "healthcheck": healthcheck} for service, (_, image) in images.items()}
    path.write_text(json.dumps({"services": services}))
    return path


@pytest.fixture(scope="session")
def nats_image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of a NATS server: the one that deploy/ names, or where no registry can be reached one that stands in for it."""
    if docker("image", "inspect", OFFLINE_BASE).returncode != 0:
        return NATS_IMAGE
    folder = tmp_path_factory.mktemp("nats") / "nats"
    shutil.copytree(STANDINS / "nats", folder)
    shutil.copy(command(), folder / "nats-server")
    with one_builds(tmp_path_factory):
        must("build", "--quiet", "--label", f"{LABEL}=standin", "-t", NATS_STANDIN, folder)
    return NATS_STANDIN


@pytest.fixture
def run(engine: None) -> Iterator[Callable[..., str]]:
    """``run("--detach", image)``: ``docker run`` with our label; the container is removed at the end. Its id."""
    names: list[str] = []

    def start(*words: object) -> str:
        names.append(f"cbw-test-{secrets.token_hex(3)}")
        must("run", "--name", names[-1], "--label", f"{LABEL}=1", *words)
        return names[-1]

    yield start
    for name in names:
        docker("rm", "--force", "--volumes", name)


@pytest.fixture(scope="module")
def sdk(engine: None) -> Iterator[DockerClient]:
    """Docker, as ``cbw verify`` itself sees it."""
    with contextlib.closing(DockerClient.from_env()) as client:
        yield client


@pytest.fixture(scope="module")
def role(images: dict[str, str]) -> dict[str, Any]:
    """What all services of a deployment have in common."""
    return {"image": images["tsr-zmq"], "pull_policy": "never", "entrypoint": ["cbw"]}


@pytest.fixture(scope="module")
def new_name(sdk: DockerClient) -> Iterator[NewName]:
    """Names of projects; what is left of them at the end is removed."""
    projects: list[str] = []

    def new() -> str:
        projects.append(f"cbw-verify-{secrets.token_hex(3)}")
        return projects[-1]

    yield new
    for project in projects:
        ours: dict[str, Any] = {"label": f"com.docker.compose.project={project}"}
        for container in sdk.containers.list(all=True, filters=ours):
            container.remove(force=True, v=True)
        for network in sdk.networks.list(filters=ours):
            network.remove()
        for volume in sdk.volumes.list(filters=ours):
            volume.remove()

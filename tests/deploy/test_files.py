"""Every YAML file and Dockerfile of ``deploy/`` and ``examples/``: what it names exists, as a setting, a command, a version."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import cbw
from cbw import settings
from cbw.cli.main import cli

from .engine import DEPLOY, ROOT

EXAMPLES = ROOT / "examples"
YAMLS = sorted(
    path for path in (*DEPLOY.rglob("*.y*ml"), *EXAMPLES.rglob("*.y*ml")) if "templates" not in path.parts
)  # helm makes YAML of templates
DOCKERFILES = sorted([ROOT / "Dockerfile", *DEPLOY.rglob("Dockerfile"), *EXAMPLES.rglob("Dockerfile")])
OVERLAYS = {"deploy/cbw/journal.yml", "deploy/cbw/nats.yml", "deploy/cbwl/keys.yml", "deploy/swarm/keys.yml"}
"""Compose files that add to the services of another."""
OURS = {
    "tsr-zmq",
    "imbroker",
    "imworker",
    "imclient",
    "imlogger",
    "imbroker-node",
    "imworker-node",
    "imclient-node",
    "imshop",
}
NODE_BASE = DEPLOY / "node" / "base" / "Dockerfile"
ENVIRONMENT = {
    name
    for one in vars(settings).values()
    for one in (one if isinstance(one, tuple) else (one,))
    if isinstance(one, settings.Setting)
    for name in one.environments
}
OF_OTHERS = re.compile(r"(PATH|PIP_\w+|PYTHON\w+|WORDPRESS_\w+|MARIADB_\w+|MYSQL_\w+|MONGO_\w+|ME_CONFIG_\w+)")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def environment_of(service: dict[str, Any]) -> list[str]:
    """The names that a service of a Compose file sets."""
    given = service.get("environment", {})
    return list(given) if isinstance(given, dict) else [line.partition("=")[0] for line in given]


def services() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """File, name and text of every service of every Compose file."""
    for path in YAMLS:
        content = yaml.safe_load(path.read_text())
        for name, service in (content.get("services") or {}).items():
            yield named(path), name, service


@pytest.mark.parametrize("path", YAMLS, ids=named)
def test_it_is_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize(("file", "name", "service"), list(services()))
def test_a_service(file: str, name: str, service: dict[str, Any]) -> None:
    assert "links" not in service and "container_name" not in service
    for variable in environment_of(service):
        assert variable in ENVIRONMENT or OF_OTHERS.fullmatch(variable), f"{variable} sets nothing of cbw"
    image = service.get("image", "").removeprefix("${REGISTRY:-}")
    is_overlay = file in OVERLAYS and not image
    if image.partition(":")[0] not in OURS and "extends" not in service and not is_overlay:
        assert re.search(r":[\w.-]*\d", image), f"{image} of others is pinned to a version"
    command = service.get("command")
    if command:
        exists(command if isinstance(command, list) else shlex.split(command))


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_a_dockerfile(path: Path) -> None:
    text = path.read_text()
    for form, words in re.findall(r"^(CMD|ENTRYPOINT) (.*)$", text, re.M):
        is_exec = words.startswith("[")
        is_replaced = "FROM tsr-node\n" in text and 'SHELL ["/bin/bash", "-c"]' in NODE_BASE.read_text()
        assert is_exec or is_replaced, f"{form} in exec form, so that the role gets its signals"
        if form == "CMD" and is_exec:
            exists(yaml.safe_load(words))
    for variable in re.findall(r"^(?:ENV |    )([A-Z_]+)=", text, re.M):
        assert variable in ENVIRONMENT or OF_OTHERS.fullmatch(variable), f"{variable} sets nothing of cbw"
    for version in re.findall(r'image\.version="([^"]+)"', text):
        assert version == cbw.__version__


def exists(words: list[str]) -> None:
    """The command line has this command, and takes so many arguments."""
    if words[0] != "cbw":
        return
    if words[1].startswith("-"):
        assert any(words[1] in parameter.opts for parameter in cli.get_params(click.Context(cli))), words
        return
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, f"no such command: {words}"
    command.make_context(words[1], list(words[2:]))  # parses, runs nothing


def test_the_lock_of_what_builds_the_wheel_is_made_from_the_build_system() -> None:
    image = DEPLOY / "image"
    (wanted,) = re.findall(r'^requires = \["(.+)"\]$', (ROOT / "pyproject.toml").read_text(), re.M)
    asked = [line for line in (image / "build-requirements.in").read_text().splitlines() if not line.startswith("#")]
    assert asked == [wanted]
    assert re.search(r"^hatchling==", (image / "build-requirements.txt").read_text(), re.M)


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_every_locked_requirement_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (DEPLOY / "image" / name).read_text())
    locked = [entry for entry in entries if not entry.startswith("#")]
    assert locked
    for entry in locked:
        assert re.match(r"[\w.-]+==\S+ [^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_locked_requirements_are_within_the_ranges() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (DEPLOY / "image" / "requirements.txt").read_text(), re.M))
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'"([\w-]+)>=([\d.]+),<(\d+)"', project[project.index("dependencies = [") :].partition("]")[0])
    assert wanted
    for name, low, high in wanted:
        version = [int(part) for part in locked[name].split(".")[:2]]
        assert [int(part) for part in low.split(".")] <= version < [int(high), 0], f"{name}: renew the lock"

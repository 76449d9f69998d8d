"""The lab guide is carried out as it is written, in a copy of the checkout; both languages have the same commands."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import test_examples as pages
from tests.ports import free_port

from .engine import LABEL, ROOT, docker, offline_base

TUTORIAL = ROOT / "docs" / "tutorial"
SESSIONS = sorted(path.name for path in (TUTORIAL / "lab").glob("*.md"))
COPIED = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "src", "deploy")
STEP_S = 240.0
"""A step may build an image, or wait for ten requests of a second each."""
pytestmark = pytest.mark.timeout(900)


class Renamed:
    """What the guide names, under names of this test's own, so that nobody's images, containers or ports are touched."""

    def __init__(self, folder: Path) -> None:
        self.mark = secrets.token_hex(3)
        port, web, self.log, self.other = free_port(), free_port(), folder / "log", folder / "other"
        self._pairs = {
            **{
                name: f"{name}:guide-{self.mark}"
                for name in ("tsr-zmq", "imbroker", "imworker", "imclient", "imlogger")
            },
            **{f"lab-{name}": f"lab-{self.mark}-{name}" for name in ("broker", "worker", "client", "logger")},
            "/tmp/logger.log": str(self.log),
            "/tmp/other.log": str(self.other),
            "localhost 9998": f"localhost {port}",
            "doctor localhost": f"doctor localhost:{port}",
        }
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"cbw-guide-{self.mark}",
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "quiet",
            "BROKER_PUBLISHED": str(port),
            "WORDPRESS_PORT": str(web),
        }
        self.port = port

    def into(self, text: str) -> str:
        """``text`` with the test's names."""
        for shown, real in self._pairs.items():
            text = re.sub(rf"(?<![\w-]){re.escape(shown)}(?![\w:-])", real, text)
        base = " ".join(offline_base())
        label = f"--label {LABEL}=guide"
        text = re.sub(r"docker build ", f"docker build {label} ", text)
        text = re.sub(r"docker run ", f"docker run {label} ", text)
        return re.sub(r"(docker build .*tsr-zmq\S*)", rf"\1 {base}", text)

    def back(self, text: str) -> str:
        """``text`` as the guide has it."""
        for shown, real in self._pairs.items():
            text = text.replace(real, shown)
        return text.replace(f"localhost:{self.port}", "localhost:9998").replace(f"port {self.port}", "port 9998")

    def remove(self) -> None:
        """Everything that was made under these names."""
        project = f"label=com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"
        for kind, words in (("container", ["rm", "--force", "--volumes"]), ("network", ["rm"]), ("volume", ["rm"])):
            every = ["--all"] if kind == "container" else []
            found = docker(kind, "ls", *every, "--quiet", "--filter", project).stdout.split()
            if found:
                docker(kind, *words, *found)
        names = [f"lab-{self.mark}-{name}" for name in ("broker", "worker", "client", "logger")]
        docker("rm", "--force", "--volumes", *names)
        images = [f"{name}:guide-{self.mark}" for name in ("imlogger", "imclient", "imworker", "imbroker", "tsr-zmq")]
        docker("image", "rm", "--force", *images)


@pytest.fixture
def renamed(engine: None, tmp_path: Path) -> Iterator[Renamed]:
    one = Renamed(tmp_path)
    yield one
    one.remove()


@pytest.fixture
def checkout(renamed: Renamed, tmp_path: Path) -> Path:
    """A copy of what the guide uses, in which the images have the test's names."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
        else:
            shutil.copy(source, folder / name)
    for path in [*(folder / "deploy").rglob("Dockerfile"), *(folder / "deploy").rglob("docker-compose.yml")]:
        text = re.sub(
            r"^((?:FROM |    image: )(?:tsr-zmq|im\w+))$", rf"\1:guide-{renamed.mark}", path.read_text(), flags=re.M
        )
        path.write_text(
            text.replace("/tmp/logger.log:", f"{renamed.log}:").replace(":-/tmp/logger.log}", f":-{renamed.log}}}")
        )
    return folder


@pytest.mark.parametrize("session", SESSIONS)
def test_the_guide_works_as_written(
    session: str, renamed: Renamed, checkout: Path, standins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PATIENCE_S", STEP_S)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CBW_", "BROKER_", "LOGGER_"))}
    kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1"}
    kept |= renamed.environment
    if session == "session-3.md":  # the ready images themselves may be out of reach
        kept["COMPOSE_FILE"] = f"docker-compose.yml{os.pathsep}{standins}"
    shell = pages.Shell(checkout, kept)
    try:
        for step in pages.steps_of(TUTORIAL / "lab" / session):
            if step.kind == "console":
                pages.type_in(shell, step, renamed, f"{session}:{step.line}")
    finally:
        shell.close()


@pytest.mark.parametrize("session", SESSIONS)
def test_both_languages_have_the_same_commands(session: str) -> None:
    english, spanish = (
        [step.body for step in pages.steps_of(TUTORIAL / language / session) if step.kind == "console"]
        for language in ("lab", "es")
    )
    assert english and english == spanish

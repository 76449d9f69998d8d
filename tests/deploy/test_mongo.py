"""S9's second system, as far as it goes without its images: its file, its secrets, and what the check says when it cannot start.

MongoDB is in no package of Debian, PyPI or npm, so nothing can stand in for its image where no registry can be reached. Where
the images are on the machine, the whole check runs.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .engine import DEPLOY, LABEL, docker, must

FOLDER = DEPLOY / "mongo"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Secrets that were just made."""
    given = {**os.environ, "MONGO_SECRETS": str(tmp_path / "secrets")}
    subprocess.run([FOLDER / "make-secrets"], env=given, check=True, capture_output=True)
    return given


def check(environment: dict[str, str], project: str = "") -> subprocess.CompletedProcess[str]:
    """``deploy/mongo/check`` to its end; it leaves nothing behind."""
    name = project or f"cbw-test-mongo-{secrets.token_hex(3)}"
    done = subprocess.run([FOLDER / "check", name], env=environment, capture_output=True, text=True, check=False)
    if not project:
        label = f"label=com.docker.compose.project={name}"
        assert not docker("ps", "--all", "--quiet", "--filter", label).stdout.strip()
        assert not docker("volume", "ls", "--quiet", "--filter", label).stdout.strip()
    return done


def test_what_the_file_promises(engine: None, environment: dict[str, str]) -> None:
    """Docker reads it; what is to be kept is in named volumes; the page is for this machine only; no secret is in sight."""
    config = must("compose", "-f", FOLDER / "docker-compose.yml", "config", env=environment)
    services = yaml.safe_load(config)["services"]
    assert {volume["target"]: volume["type"] for volume in services["db"]["volumes"]} == {
        "/data/db": "volume",
        "/data/configdb": "volume",
    }
    assert [port["host_ip"] for port in services["page"]["ports"]] == ["127.0.0.1"] and "ports" not in services["db"]
    assert all("healthcheck" in service for service in services.values())
    for path in Path(environment["MONGO_SECRETS"]).iterdir():
        assert path.read_text() not in config


def test_secrets_are_made_once_and_fit_into_an_address(environment: dict[str, str]) -> None:
    folder = Path(environment["MONGO_SECRETS"])
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert before.keys() == COMPOSE["secrets"].keys() and oct(folder.stat().st_mode)[-3:] == "700"
    assert all(len(text) == 48 and int(text, 16) for text in before.values())
    subprocess.run([FOLDER / "make-secrets"], env=environment, check=True, capture_output=True)
    assert before == {path.name: path.read_text() for path in folder.iterdir()}


def test_the_whole_check(engine: None, environment: dict[str, str]) -> None:
    """With the images, or else what it says without them."""
    has_images = all(docker("image", "inspect", one["image"]).returncode == 0 for one in COMPOSE["services"].values())
    done = check(environment)
    if has_images:
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ok: after down --volumes and up the database is empty" in done.stdout
    elif done.returncode != 0:
        assert done.returncode == 3, done.stdout + done.stderr
        assert "check: the registry cannot be reached" in done.stderr


def test_bad_input_is_told(engine: None, environment: dict[str, str], tmp_path: Path) -> None:
    done = check({**environment, "MONGO_SECRETS": str(tmp_path / "nothing")})
    assert done.returncode == 3 and "make-secrets" in done.stderr
    mine = f"cbw-test-mongo-{secrets.token_hex(3)}"
    volume = f"{mine}_db"
    must("volume", "create", "--label", f"com.docker.compose.project={mine}", "--label", f"{LABEL}=1", volume)
    try:
        done = check(environment, mine)
        assert done.returncode == 3 and "is there already" in done.stderr
        assert docker("volume", "inspect", volume).returncode == 0
    finally:
        docker("volume", "rm", "--force", volume)

"""S9's second system: its file, its secrets, and the check, which must be able to fail.

MongoDB's server is in no package of Debian, PyPI or npm. Where its image is not on the machine, SecantusDB stands in for it,
which speaks its protocol and stores with its engine, with MongoDB's own shell; and for the page's image mongo-express itself.
"""

from __future__ import annotations

import os
import re
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


def has_images() -> bool:
    """Whether MongoDB and mongo-express are on this machine."""
    return all(docker("image", "inspect", one["image"]).returncode == 0 for one in COMPOSE["services"].values())


def check(environment: dict[str, str], project: str = "", *files: Path) -> subprocess.CompletedProcess[str]:
    """``deploy/mongo/check`` to its end, with ``files`` beside its own; it leaves nothing behind."""
    name = project or f"cbw-test-mongo-{secrets.token_hex(3)}"
    given = environment | {"COMPOSE_FILE": os.pathsep.join(map(str, (FOLDER / "docker-compose.yml", *files)))}
    done = subprocess.run([FOLDER / "check", name], env=given, capture_output=True, text=True, check=False)
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


def test_the_whole_check(environment: dict[str, str], mongo_standins: Path) -> None:
    done = check(environment, "", *([] if has_images() else [mongo_standins]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall("ok: (.*)", done.stdout) == [
        "a note can be written",
        "the page shows the note",
        "after down and up the note is still there",
        "after down --volumes and up the database is empty",
    ]


def test_a_database_without_a_volume_is_found_out(
    environment: dict[str, str], mongo_standins: Path, tmp_path: Path
) -> None:
    """Its data last no longer than their container."""
    faulty = tmp_path / "faulty.yml"
    faulty.write_text("services: {db: {volumes: !reset [], tmpfs: [/data/db, /data/configdb]}}")
    done = check(environment, "", *([] if has_images() else [mongo_standins]), faulty)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ok: the page shows the note" in done.stdout
    assert "NOT so: after down and up the note is still there" in done.stderr


def test_images_that_cannot_be_had(environment: dict[str, str], tmp_path: Path) -> None:
    absent = tmp_path / "absent.yml"
    absent.write_text("services: {db: {image: registry.invalid/mongo:8}}")
    done = check(environment, "", absent)
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

"""S9: a deployment of ready images, checked as a person would; and the check itself, which must be able to fail."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port

from .engine import DEPLOY, LABEL, docker, must

FOLDER = DEPLOY / "wordpress"
RUN_S = 400
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The blog's settings: a free port, secrets that were just made."""
    given = {**os.environ, "WORDPRESS_PORT": str(free_port()), "BLOG_SECRETS": str(tmp_path / "secrets")}
    subprocess.run([FOLDER / "make-secrets"], env=given, check=True, capture_output=True)
    return given


def check(standins: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """``deploy/wordpress/check`` on the same Compose file, to its end."""
    project = f"cbw-test-blog-{secrets.token_hex(3)}"
    files = ["-f", str(FOLDER / "docker-compose.yml"), "-f", str(standins)]
    command = [sys.executable, str(FOLDER / "check"), "--project", project, *files, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)
    left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").stdout
    volumes = docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}").stdout
    assert not left.strip() and not volumes.strip(), "it leaves nothing behind"
    return done


def test_a_blog_survives_what_it_should(standins: Path, environment: dict[str, str]) -> None:
    done = check(standins, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "ok: a new blog asks to be installed",
        "ok: after down and up the post is still there",
        "ok: after down --volumes and up it is a new blog again",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(("service", "place"), [("db", "/var/lib/mysql"), ("wp", "/var/www/html")])
def test_a_blog_without_a_volume_is_found_out(
    standins: Path, environment: dict[str, str], tmp_path: Path, service: str, place: str
) -> None:
    """Its data last no longer than their container: the post, or its picture, is missing."""
    text = json.loads(standins.read_text())
    text["services"][service]["tmpfs"] = [place]
    text["services"][service]["volumes"] = "RESET"
    faulty = tmp_path / "faulty.yml"
    faulty.write_text(json.dumps(text).replace('"RESET"', "!reset []"))
    done = check(faulty, environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT so: after down and up the post is still there" in done.stderr


def test_secrets_are_made_once_and_are_not_in_sight(tmp_path: Path, environment: dict[str, str]) -> None:
    secret = Path(environment["BLOG_SECRETS"]) / "db_password"
    before = secret.read_text()
    assert len(before) > 20 and oct(secret.parent.stat().st_mode)[-3:] == "700"
    subprocess.run([FOLDER / "make-secrets"], env=environment, check=True, capture_output=True)
    assert secret.read_text() == before
    config = must("compose", "-f", FOLDER / "docker-compose.yml", "config", env=environment)
    assert before not in config


def test_bad_input_is_told(standins: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = check(standins, {**environment, "BLOG_SECRETS": str(tmp_path / "nothing")})
    assert done.returncode == 3 and "make-secrets" in done.stderr
    bin_without_docker = tmp_path / "bin"
    bin_without_docker.mkdir()
    done = subprocess.run(
        [sys.executable, FOLDER / "check"],
        env={**environment, "PATH": str(bin_without_docker)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and "docker is not installed" in done.stderr


def test_a_port_that_is_taken_is_told(standins: Path, environment: dict[str, str]) -> None:
    with socket.create_server(("", 0)) as taken:
        done = check(standins, environment, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 3 and "-> that port is taken" in done.stderr, done.stdout + done.stderr


def test_a_blog_that_is_there_is_not_removed(standins: Path, environment: dict[str, str]) -> None:
    blog = f"cbw-test-blog-{secrets.token_hex(3)}"
    volume = f"{blog}_db"
    must("volume", "create", "--label", f"com.docker.compose.project={blog}", "--label", f"{LABEL}=1", volume)
    try:
        done = check(standins, environment, "--project", blog)
        assert done.returncode == 3 and "is there already" in done.stderr, done.stdout + done.stderr
        assert docker("volume", "inspect", volume).returncode == 0
    finally:
        docker("volume", "rm", "--force", volume)

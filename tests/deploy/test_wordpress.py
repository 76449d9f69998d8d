"""S9: a deployment of ready images, checked as a person would; and the check itself, which must be able to fail."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import free_port
from .engine import DEPLOY, docker, must

FOLDER = DEPLOY / "wordpress"
RUN_S = 400
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The blog's settings: a free port, secrets that were just made."""
    given = {**os.environ, "WORDPRESS_PORT": str(free_port()), "BLOG_SECRETS": str(tmp_path / "secrets")}
    subprocess.run([FOLDER / "make-secrets"], env=given, check=True, capture_output=True)
    return given


def check(
    standins: Path, environment: dict[str, str], script: Path = FOLDER / "check"
) -> subprocess.CompletedProcess[str]:
    """``deploy/wordpress/check`` on the same Compose file, to its end."""
    project = f"cbw-test-blog-{secrets.token_hex(3)}"
    command = [
        sys.executable,
        str(script),
        "--project",
        project,
        "-f",
        str(FOLDER / "docker-compose.yml"),
        "-f",
        str(standins),
    ]
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


def test_a_blog_without_its_volumes_is_found_out(standins: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The same with volumes that last no longer than their containers."""
    text = json.loads(standins.read_text())
    text["services"]["db"]["tmpfs"] = ["/var/lib/mysql"]
    text["services"]["db"]["volumes"] = "RESET"
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

"""S9: a deployment of ready images, checked as a person would; and the check itself, which must be able to fail."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import free_port
from .engine import DEPLOY, LABEL, docker, must

FOLDER = DEPLOY / "wordpress"
STANDINS = Path(__file__).parent / "standins"
RUN_S = 400
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def override(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Compose file that changes the images' names and nothing else; the images are kept for the next run on this machine."""
    images = {}
    for service, name in (("db", "mariadb"), ("wp", "wordpress")):
        images[service] = f"cbw-standin-{name}:bookworm"
        must("build", "--quiet", "--label", f"{LABEL}=standin", "-t", images[service], STANDINS / name, within_s=500)
    path = tmp_path_factory.mktemp("blog") / "standins.yml"
    path.write_text(json.dumps({"services": {name: {"image": image} for name, image in images.items()}}))
    yield path
    if os.environ.get("CI"):
        for image in images.values():
            docker("image", "rm", "--force", image)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The blog's settings: a free port, secrets that were just made."""
    given = {**os.environ, "WORDPRESS_PORT": str(free_port()), "BLOG_SECRETS": str(tmp_path / "secrets")}
    subprocess.run([FOLDER / "make-secrets"], env=given, check=True, capture_output=True)
    return given


def check(
    override: Path, environment: dict[str, str], script: Path = FOLDER / "check"
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
        str(override),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)
    left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").stdout
    volumes = docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}").stdout
    assert not left.strip() and not volumes.strip(), "it leaves nothing behind"
    return done


def test_a_blog_survives_what_it_should(override: Path, environment: dict[str, str]) -> None:
    done = check(override, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "ok: a new blog asks to be installed",
        "ok: after down and up the post is still there",
        "ok: after down --volumes and up it is a new blog again",
    ):
        assert words in done.stdout


def test_a_blog_without_its_volumes_is_found_out(override: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The same with volumes that last no longer than their containers."""
    text = json.loads(override.read_text())
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


def test_bad_input_is_told(override: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = check(override, {**environment, "BLOG_SECRETS": str(tmp_path / "nothing")})
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

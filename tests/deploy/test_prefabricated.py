"""The commands of ``docs/explanation/prefabricated.md`` do what the page says: two computers by hand, backup and restore."""

from __future__ import annotations

import os
import re
import runpy
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.program import wait_until
from tests.ports import free_port

from .engine import DEPLOY, LABEL, OFFLINE_BASE, ROOT, docker, must

FOLDER = DEPLOY / "wordpress"
PAGE = (ROOT / "docs" / "explanation" / "prefabricated.md").read_text()
CHECK = runpy.run_path(str(FOLDER / "check"))
POST = "A post that is moved"
UP_S = 120.0
pytestmark = pytest.mark.timeout(600)


class Shell:
    """Runs commands of the page under names, images and addresses of this test's own."""

    def __init__(self, folder: Path, standins: Path) -> None:
        self.folder, self.mark = folder, f"cbw-test-blog-{secrets.token_hex(3)}"
        self.port, database = free_port(), free_port()
        given = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]
        ours = yaml.safe_load(standins.read_text())["services"]
        gateway = must("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}")
        self._pairs = {
            **{given[name]["image"]: ours[name]["image"] for name in ours},
            "debian:bookworm-slim": OFFLINE_BASE,
            "192.0.2.10:3306:3306": f"{gateway}:{database}:3306",
            "192.0.2.10:3306": f"{gateway}:{database}",
            "8080:80": f"{self.port}:80",
            "docker run": f"docker run --label {LABEL}=1",
            **{name: f"{self.mark}{name[4:]}" for name in ("blog-db", "blog-wp:", "blog-wp ", "blog_wp")},
        }
        self._environment = {
            **os.environ,
            "WORDPRESS_PORT": str(self.port),
            "BLOG_SECRETS": str(folder / "secrets"),
            "COMPOSE_FILE": f"{FOLDER / 'docker-compose.yml'}{os.pathsep}{standins}",
            "COMPOSE_PROJECT_NAME": self.mark,
        }

    def run(self, text: str) -> None:
        """The commands, which must all succeed."""
        for shown, real in self._pairs.items():
            text = text.replace(shown, real)
        done = subprocess.run(
            ["sh", "-eux", "-c", text],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=UP_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def blog(self) -> Any:
        """The blog as a visitor without cookies sees it."""
        return CHECK["Blog"](f"http://localhost:{self.port}")

    def remove(self) -> None:
        """Everything of that name."""
        self.run("docker compose down --volumes")
        for name in ("-db", "-wp"):
            docker("rm", "--force", self.mark + name)
            docker("volume", "rm", "--force", self.mark + name)


def commands(after: str) -> str:
    """The first block of commands after these words of the page."""
    found = re.search(r"```sh\n(.*?)```", PAGE[PAGE.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def shell(standins: Path, tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path, standins)
    try:
        one.run(str(FOLDER / "make-secrets"))
        yield one
    finally:
        one.remove()


def is_true(question: Callable[[], bool]) -> bool:
    """What the blog says, or no while it cannot be asked."""
    try:
        return question()
    except CHECK["Failed"]:
        return False


def written(shell: Shell) -> str:
    """Install the blog and write a post; its picture."""
    author = shell.blog()
    author.install()
    author.log_in()
    return str(author.write(POST))


def test_two_computers(shell: Shell) -> None:
    """Two containers that know nothing of each other but the computer's address stand for the two."""
    shell.run(commands("on two computers"))
    wait_until(lambda: is_true(lambda: shell.blog().is_new), "the blog asks to be installed", within_s=UP_S)
    assert shell.blog().shows(POST, written(shell))


def test_a_backup_is_restored(shell: Shell) -> None:
    shell.run("docker compose up -d --wait")
    picture = written(shell)
    shell.run(commands("is copied while it runs"))
    shell.run("docker compose down --volumes")
    shell.run(commands("To restore both into a new deployment"))
    assert shell.blog().shows(POST, picture)


def test_the_page_has_the_images_of_the_deployment() -> None:
    services = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        name, _, tag = service["image"].partition(":")
        shown = set(re.findall(rf"\b{name}:([\w.-]+\w)", PAGE)) - {"latest"}
        assert shown == {tag}, f"{name} in docs/explanation/prefabricated.md"

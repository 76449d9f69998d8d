"""The system with keys, by Compose: two commands, secrets for each role alone, a key that is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.live.program import wait_until

from .conftest import NewProject
from .engine import DEPLOY, answers_in, must
from .test_compose import UP_S, have_ended, records

pytestmark = pytest.mark.timeout(400)


def test_two_commands(new_project: NewProject, images: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    in_folder = ["run", "--rm", "--user", 0, "-v", f"{folder}:/keys", images["tsr-zmq"], "cbw", "keys"]
    must(*in_folder, "new", "/keys/made", "--owner", "cbw")
    project = new_project("cbwl", LOG_DIR=str(tmp_path / "log"), KEYS_DIR=str(folder / "made"))
    project.add_file(DEPLOY / "cbwl" / "keys.yml")
    project.must("up", "--detach", "--scale", "cli=2", "--scale", "wor=2", within_s=UP_S)
    have_ended(project, 2)
    assert len(answers_in(project.logs("cli"))) == 20

    logged = records(tmp_path / "log" / "logs")
    assert {"client", "broker", "worker"} <= {record.get("role") for record in logged}
    assert {record["fields"]["key"] for record in logged if record["event"] == "accepted"} == {"client"}

    (worker,) = project.containers("wor")[:1]
    seen = must("exec", worker["Id"], "ls", "/run/secrets").split()
    assert seen == ["broker.key", "logger.key", "worker.key_secret"], "no more than it needs"
    secret = (folder / "made" / "worker.key_secret").read_text().split('secret-key = "')[1].split('"')[0]
    for container in project.containers():
        assert secret not in json.dumps(container), "neither in its environment nor in its command"
    for service in ("bro", "log", "wor", "cli"):
        said = "\n".join(project.logs(service))
        assert secret not in said and "without keys" not in said

    must(*in_folder, "revoke", "worker", "--keys", "/keys/made")
    wait_until(lambda: "does not let this key in" in "\n".join(project.logs("wor")), "its workers end", within_s=UP_S)

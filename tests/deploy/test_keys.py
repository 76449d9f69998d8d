"""The system with keys, by Compose: two commands, secrets for each role alone, a key that is taken back."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.live.logged import records
from tests.live.program import wait_until

from .conftest import NewProject
from .engine import DEPLOY, address_of, answers_in, must
from .test_compose import UP_S, have_ended

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
    assert seen == ["broker.key", "logger.key", "status.token", "worker.key_secret"], "no more than it needs"
    secret = (folder / "made" / "worker.key_secret").read_text().split('secret-key = "')[1].split('"')[0]
    token = (folder / "made" / "status.token").read_text().strip()
    for container in project.containers():
        assert secret not in json.dumps(container), "neither in its environment nor in its command"
        assert token not in json.dumps(container)
    for service in ("bro", "log", "wor", "cli"):
        said = "\n".join(project.logs(service))
        assert secret not in said and token not in said
        assert "without keys" not in said and "without a token" not in said

    (broker,) = project.containers("bro")
    page = f"http://{address_of(broker)}:9997/status.json"
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(page, timeout=UP_S)
    refused.value.close()
    asked = urllib.request.Request(page, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=UP_S) as answer:
        assert json.load(answer)["counts"]["answered"] == 20

    must(*in_folder, "revoke", "worker", "--keys", "/keys/made")
    workers = project.containers("wor")
    assert all(worker["HostConfig"]["RestartPolicy"]["Name"] == "on-failure" for worker in workers)
    wait_until(
        lambda: "\n".join(project.logs("wor")).count("does not let this key in") >= len(workers),
        "its workers end; they cannot be started again, as their key is gone",
        within_s=UP_S,
    )

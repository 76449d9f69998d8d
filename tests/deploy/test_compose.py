"""S3, S5, S7: the system by Compose, with and without the logger, at the lab's scales and at odd ones."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cbw.core.messages import OWN_PREFIXES
from tests.live.logged import records
from tests.live.program import wait_until
from tests.ports import free_port

from .conftest import NewProject
from .engine import ROOT, Project, address_of, answers_in, docker

pytestmark = pytest.mark.timeout(400)
UP_S = 120.0
"""Patience for containers that start side by side on a busy machine."""


def have_ended(project: Project, count: int) -> None:
    """Wait until all ``count`` clients have ended, with 0."""

    def ended() -> bool:
        clients = project.containers("cli")
        return len(clients) == count and all(client["State"]["Status"] == "exited" for client in clients)

    wait_until(ended, f"{count} clients have ended", within_s=UP_S)
    assert [client["State"]["ExitCode"] for client in project.containers("cli")] == [0] * count


def down(project: Project) -> float:
    """``docker compose stop``, which all roles must end well; the seconds it took."""
    began_at = time.monotonic()
    project.must("stop")
    took_s = time.monotonic() - began_at
    codes = {one["Name"]: one["State"]["ExitCode"] for one in project.containers()}
    assert set(codes.values()) == {0}, codes
    project.must("down")
    return took_s


def is_of_the_broker(line: dict[str, Any]) -> bool:
    """Whether a record is about a service of the broker's own: a client that waits on a busy machine asks for a worker there."""
    return bool(line.get("service", "").startswith(OWN_PREFIXES))


def answered_by_workers(log: list[dict[str, Any]]) -> int:
    """How many requests the workers have answered, by the broker's records."""
    return sum(line["event"] == "answered" and not is_of_the_broker(line) for line in log)


def test_two_clients_and_four_workers(new_project: NewProject) -> None:
    project = new_project("cbw")
    project.must("up", "--detach", "--scale", "cli=2", "--scale", "wor=4", within_s=UP_S)
    addresses = [address_of(container) for container in project.containers()]
    assert len(set(addresses)) == 7, addresses
    have_ended(project, 2)
    answers = answers_in(project.logs("cli"))
    assert len(answers) == 20 and all(request == answer for request, answer, _ in answers)
    if len({worker for _, _, worker in answers}) < 4:  # a container started when nearly all was answered: ask again
        project.must("restart", "cli")
        have_ended(project, 2)
    assert len({worker for _, _, worker in answers_in(project.logs("cli"))}) == 4, "every worker has worked"
    for container in project.containers():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["Memory"] > 0
        assert container["Config"]["User"] == "cbw"
    assert down(project) < 20


@pytest.fixture
def log_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host for the log, made by Docker as root if nobody else makes it."""
    yield tmp_path / "logger.log"


def test_the_logger_keeps_what_happened(new_project: NewProject, log_dir: Path) -> None:
    project = new_project("cbwl", LOG_DIR=str(log_dir))
    scale = ["--scale", "cli=4", "--scale", "wor=2", "--scale", "bro=1", "--scale", "log=1"]
    project.must("up", "--detach", *scale, within_s=UP_S)
    have_ended(project, 4)
    down(project)
    lines = [line for line in records(log_dir / "logs") if not is_of_the_broker(line)]
    events = Counter((line["role"], line["event"]) for line in lines)
    for event in (
        ("client", "sent"),
        ("broker", "accepted"),
        ("worker", "done"),
        ("broker", "answered"),
        ("client", "got"),
    ):
        assert events[event] == 40, events
    assert not events["logger", "gap"]
    before = (log_dir / "logs").stat().st_size
    project.must("up", "--detach", "--scale", "cli=0", within_s=UP_S)
    down(project)
    assert (log_dir / "logs").stat().st_size > before, "the log outlives its containers"


@pytest.mark.parametrize(("owner", "user"), [(4321, 4321), (0, 10001)])
def test_a_folder_of_somebody_else(new_project: NewProject, log_dir: Path, owner: int, user: int) -> None:
    """Who made the folder may delete the log; if Docker did, as root, the logger is no less unprivileged."""
    log_dir.mkdir(mode=0o700)
    os.chown(log_dir, owner, owner)
    project = new_project("cbwl", LOG_DIR=str(log_dir))
    project.must("up", "--detach", "--wait", "log", within_s=UP_S)
    assert records(log_dir / "logs")[0]["event"] == "started"
    logger = project.containers("log")[0]
    processes = docker("top", logger["Id"], "-eo", "pid,uid,cmd").stdout
    assert re.search(rf" {user} .*cbw logger", processes), "the logger itself runs unprivileged"
    assert ((log_dir / "logs").stat().st_uid, log_dir.stat().st_uid) == (user, user)


STUDENT = 4321
"""Somebody who may use Docker and nothing else."""


@pytest.mark.parametrize("made_by", ["the student", "Docker"])
def test_a_student_deletes_the_log_with_the_commands_of_the_page(
    new_project: NewProject, images: dict[str, str], made_by: str
) -> None:
    """In a folder like ``/tmp``, where nobody deletes what is another's. What Docker has made takes Docker to delete."""
    page = (ROOT / "docs" / "howto" / "deploy.md").read_text()
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o1777)
        place = f"{shared}/logger.log"

        def typed(pattern: str, by: int) -> int:
            """Type the command of the page; its exit code."""
            (command,) = set(re.findall(pattern, page))
            words = re.sub("/tmp(?=[/:])", shared, command).replace("tsr-zmq", images["tsr-zmq"]).split()
            return subprocess.run(words, user=by, group=by, stderr=subprocess.DEVNULL, check=False).returncode

        if made_by == "the student":
            assert typed(r"mkdir -p /tmp/logger\.log\b", STUDENT) == 0
        project = new_project("cbwl", LOG_DIR=place)
        project.must("up", "--detach", "--wait", "log", within_s=UP_S)
        assert Path(place, "logs").stat().st_size > 0
        has_advice = "make the folder yourself" in "\n".join(project.logs("log"))
        project.must("down")
        is_deleted = typed(r"rm -r /tmp/logger\.log\b", STUDENT) == 0
        assert (is_deleted, has_advice) == ((True, False) if made_by == "the student" else (False, True))
        if not is_deleted:
            assert typed(r"docker run --rm --user 0 -v /tmp:.*", os.getuid()) == 0
        assert not Path(place).exists()


def test_the_place_of_the_log_is_a_file(new_project: NewProject, log_dir: Path) -> None:
    log_dir.touch()
    project = new_project("cbwl", LOG_DIR=str(log_dir))
    done = project.compose("up", "--detach", "log", within_s=UP_S)
    if done.returncode == 0:
        wait_until(lambda: "no folder" in "\n".join(project.logs("log")), "the logger says so")
    else:
        assert "not a directory" in done.stdout.lower(), done.stdout


def test_a_full_disk_under_the_log(new_project: NewProject, log_dir: Path) -> None:
    log_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(log_dir)], check=True)
    try:
        (log_dir / "ballast").write_bytes(b"x" * 253_000)
        project = new_project("cbwl", LOG_DIR=str(log_dir))
        project.must("up", "--detach", "--scale", "cli=1", "--scale", "wor=1", within_s=UP_S)
        have_ended(project, 1)
        wait_until(lambda: any("cannot write the log" in line for line in project.logs("log")), "it says so")
        (log_dir / "ballast").unlink()
        wait_until(lambda: any("can be written again" in line for line in project.logs("log")), "and goes on")

        def got() -> int:
            return answered_by_workers(records(log_dir / "logs"))

        wait_until(lambda: got() == 10, "the broker kept its records meanwhile")
        project.down()
    finally:
        subprocess.run(["umount", "-l", str(log_dir)], check=True)


def test_two_loggers_write_one_file(new_project: NewProject, log_dir: Path) -> None:
    project = new_project("cbwl", LOG_DIR=str(log_dir))
    scale = ["--scale", "cli=2", "--scale", "wor=1", "--scale", "log=2"]
    project.must("up", "--detach", *scale, within_s=UP_S)
    have_ended(project, 2)
    down(project)
    log = records(log_dir / "logs")
    events = Counter((line["role"], line["event"]) for line in log)
    assert events["logger", "started"] == 2 and events["client", "got"] == 20 and answered_by_workers(log) == 20
    assert not events["logger", "gap"] and not events["logger", "bad_message"]


def test_three_brokers_of_which_two_are_killed(new_project: NewProject, log_dir: Path) -> None:
    """The workers serve all three, the log says so, and clients move to another one with what they had in flight."""
    project = new_project("cbwl", LOG_DIR=str(log_dir), BROKER_PUBLISHED="0")
    scale = ["--scale", "wor=2", "--scale", "bro=3", "--scale", "log=1"]
    project.must("up", "--detach", *scale, "--scale", "cli=0", within_s=UP_S)
    brokers = project.containers("bro")
    assert len(brokers) == 3
    addresses = {f"{address_of(broker)}:9999" for broker in brokers}

    def have_met() -> list[bool]:
        """For each worker, whether the log says that it has been connected to all brokers."""
        places: dict[str, set[str]] = defaultdict(set)
        for line in records(log_dir / "logs"):
            if (line["role"], line["event"]) == ("worker", "connected"):
                places[line["sender"]].add(line["text"])
        return [addresses <= each for each in places.values()]

    wait_until(lambda: have_met() == [True, True], "both workers serve all brokers")
    project.must("up", "--detach", "--no-recreate", *scale, "--scale", "cli=3", within_s=UP_S)
    for count, broker in enumerate(brokers[:2], 1):
        wait_until(lambda count=count: len(answers_in(project.logs("cli"))) > 3 * count, "answers")  # type: ignore[misc]
        docker("kill", broker["Id"])
    have_ended(project, 3)
    assert len(set(answers_in(project.logs("cli")))) == 30


def test_a_port_that_is_published_is_that_of_one_broker(new_project: NewProject) -> None:
    """Docker refuses a second one, and says why; the first serves on."""
    project = new_project("cbw")
    project.must("up", "--detach", "--scale", "cli=2", "--scale", "wor=1", within_s=UP_S)
    done = project.compose(
        "up", "--detach", "--no-recreate", "--scale", "bro=2", "--scale", "wor=1", "--scale", "cli=2"
    )
    assert done.returncode != 0 and "port is already allocated" in done.stdout, done.stdout
    have_ended(project, 2)
    assert len(answers_in(project.logs("cli"))) == 20


def test_a_taken_port_is_told(new_project: NewProject) -> None:
    with socket.create_server(("", free_port())) as taken:
        project = new_project("cbw", BROKER_PUBLISHED=str(taken.getsockname()[1]))
        done = project.compose("up", "--detach", "bro", within_s=UP_S)
        assert done.returncode != 0 and "address already in use" in done.stdout

"""S7 on a Swarm of one node: the stack of ``deploy/swarm`` with keys, while its images are updated and a broker is killed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cbw.cli.main import cli
from tests.live.program import wait_until

from .engine import DEPLOY, LABEL, ROOT, docker, must

pytestmark = pytest.mark.timeout(400)
UP_S = 120.0
STACK = DEPLOY / "swarm" / "stack.yml"
KEYS = DEPLOY / "swarm" / "keys.yml"
PAGE = ROOT / "docs" / "howto" / "swarm.md"
NATS = ("nats1", "nats2", "nats3")
SERVICES = ("bro", "wor", "log", *NATS)
CALLS = """
import json, sys, threading, time, cbw
asked, failed, longest = 0, [], 0.0
with cbw.Client("bro:9998") as client:
    def call(caller):
        global asked, longest
        number = 0
        while not stop.is_set():
            body, began = f"{caller}-{number}", time.monotonic()
            try:
                answer = client.call(body, timeout=60).decode()
                if answer.split()[0] != body:
                    failed.append(f"{body}: {answer}")
            except Exception as error:
                failed.append(f"{body}: {error!r}")
            asked, number, longest = asked + 1, number + 1, max(longest, time.monotonic() - began)
            if number == 1:
                print("answered", flush=True)
    stop = threading.Event()
    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(4)]
    for caller in callers: caller.start()
    sys.stdin.readline()
    stop.set()
    for caller in callers: caller.join()
print(json.dumps({"asked": asked, "failed": failed, "longest_s": longest}))
"""
"""Calls one after the other in four threads, until there is a line on its standard input."""


class Stack:
    """The stack under a name of its own. Its services, and the containers of their tasks."""

    def __init__(self, override: Path, environment: Mapping[str, str]) -> None:
        self.name = f"cbw-test-{secrets.token_hex(3)}"
        self._files = [word for file in (STACK, KEYS, override) for word in ("-c", str(file))]
        self._environment = {**os.environ, **environment}

    def deploy(self, tag: str) -> None:
        """Bring the services to what the files say, with images of this tag."""
        environment = {**self._environment, "TAG": tag}
        must("stack", "deploy", "--detach", "--resolve-image", "never", *self._files, self.name, env=environment)

    def replicas(self) -> dict[str, str]:
        """Of each service: how many tasks run, and how many should."""
        lines = must("stack", "services", self.name, "--format", "{{.Name}} {{.Replicas}}").splitlines()
        return {name.removeprefix(f"{self.name}_"): count for name, count in map(str.split, lines)}

    def is_up(self) -> bool:
        """Whether all tasks run and are healthy."""
        found = self.replicas()
        return found.keys() == set(SERVICES) and all(len(set(count.split("/"))) == 1 for count in found.values())

    def is_updated(self, service: str) -> bool:
        """Whether its update is over."""
        status = self.inspect(service).get("UpdateStatus", {})
        assert status.get("State") not in ("paused", "rollback_started", "rollback_completed"), status
        return bool(status.get("State") == "completed")

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(must("service", "inspect", f"{self.name}_{service}"))[0]
        return found

    def containers(self, service: str) -> list[str]:
        """Those that run."""
        return must("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={self.name}_{service}").split()

    def remove(self) -> None:
        """All of it, with its volumes and secrets."""
        docker("stack", "rm", "--detach=false", self.name)
        ours = ["--filter", f"label=com.docker.stack.namespace={self.name}", "--quiet"]
        wait_until(lambda: not must("ps", "--all", *ours), "its containers are gone", within_s=UP_S)
        for volume in must("volume", "ls", *ours).split():
            docker("volume", "rm", "--force", volume)


@pytest.fixture(scope="module")
def swarm(engine: None) -> Iterator[None]:
    """A Swarm of this engine, for one run of these tests at a time. It is left if it was begun here."""
    with (Path(tempfile.gettempdir()) / "cbw-test-swarm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_begun = must("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive"
        if is_begun:
            must("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
        node = must("node", "ls", "--format", "{{.ID}}", "--filter", "role=manager").split()[0]
        labels = [word for name in NATS for word in ("--label-add", f"cbw.{name}=true")]
        must("node", "update", *labels, node)
        try:
            yield
        finally:
            if is_begun:
                docker("swarm", "leave", "--force")
                docker("network", "rm", "docker_gwbridge")  # Docker leaves it there
            else:
                must("node", "update", *(word for name in NATS for word in ("--label-rm", f"cbw.{name}")), node)


@pytest.fixture
def stack(swarm: None, nats_image: str, tmp_path: Path) -> Iterator[Stack]:
    """The stack, not yet deployed: its servers' image is one that is here, workers have less to do, an update waits for less."""
    assert CliRunner().invoke(cli, ["keys", "new", str(tmp_path / "keys")]).exit_code == 0
    services: dict[str, Any] = {name: {"image": nats_image} for name in NATS}
    update = {"deploy": {"update_config": {"delay": "1s", "monitor": "1s"}}}
    services |= {"bro": update, "wor": {"environment": {"CBW_WORKER_WORK_TIME_S": "0.02"}, **update}, "log": update}
    override = tmp_path / "override.yml"
    override.write_text(json.dumps({"services": services}))
    one = Stack(override, {"KEYS_DIR": str(tmp_path / "keys"), "KEYS_VERSION": secrets.token_hex(3)})
    yield one
    one.remove()


@pytest.fixture
def second_tag(images: dict[str, str], tag: str) -> Iterator[str]:
    """The tag of another image, with the same in it."""
    other = f"{tag}-2"
    must(
        "build", "--quiet", "--label", f"{LABEL}=2", "-t", f"tsr-zmq:{other}", "-", input=f"FROM {images['tsr-zmq']}\n"
    )
    yield other
    docker("image", "rm", "--force", f"tsr-zmq:{other}")


@contextlib.contextmanager
def calls(stack: Stack, image: str, keys: Path) -> Iterator[dict[str, Any]]:
    """Clients in the stack's network that call all the time; what they tell is there at the end."""
    name = f"{stack.name}-calls"
    told: dict[str, Any] = {}
    options = ["--name", name, "--network", f"{stack.name}_cbw", "--interactive", "--env", "CBW_KEYS=/keys"]
    files = [word for file in ("client.key_secret", "broker.key") for word in ("-v", f"{keys / file}:/keys/{file}:ro")]
    must("create", *options, *files, "--user", 0, image, "python", "-c", CALLS)
    try:
        must("start", name)
        wait_until(lambda: "answered" in must("logs", name), "they get answers", within_s=UP_S)
        yield told
        must("attach", name, input="\n")
        told |= json.loads(must("logs", name).splitlines()[-1])
    finally:
        docker("rm", "--force", name)


def test_an_update_of_all_roles_and_the_kill_of_the_owner_fail_no_call(
    stack: Stack, images: dict[str, str], tag: str, second_tag: str, tmp_path: Path
) -> None:
    stack.deploy(tag)
    wait_until(stack.is_up, "all services are up", within_s=UP_S)
    with calls(stack, images["tsr-zmq"], tmp_path / "keys") as told:
        before = {service: set(stack.containers(service)) for service in ("bro", "wor", "log")}
        stack.deploy(second_tag)
        for service, old in before.items():
            wait_until(functools.partial(stack.is_updated, service), f"{service} is updated", within_s=UP_S)
            assert not old & set(stack.containers(service)), "every container is another one"
        said = {
            docker("exec", one, "cbw-ready").stdout.partition(":")[0].strip(): one for one in stack.containers("bro")
        }
        assert said.keys() == {"ok", "stands by"}, said
        must("kill", said["ok"])
        wait_until(
            lambda: docker("exec", said["stands by"], "cbw-ready").stdout.strip() == "ok", "the other one serves"
        )
        wait_until(stack.is_up, "Swarm has started another broker", within_s=UP_S)
    assert told["failed"] == []
    assert told["asked"] > 100, told
    (logger,) = stack.containers("log")
    assert "BRO_" in must("exec", logger, "cbw", "logs", "/var/lib/cbw/logs", "--event", "started")


def test_a_port_for_clients_outside_as_the_page_has_it(engine: None, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    more = tmp_path / "port.yml"
    more.write_text(block)
    made = yaml.safe_load(must("stack", "config", "-c", STACK, "-c", more, env={**os.environ, "TAG": "1"}))["services"][
        "bro"
    ]
    assert [(port["published"], port["mode"]) for port in made["ports"]] == [(9998, "host")]
    assert made["deploy"]["placement"]["max_replicas_per_node"] == 1
    assert made["deploy"]["endpoint_mode"] == "dnsrr", "which goes with ports of a machine, and not with those of all"

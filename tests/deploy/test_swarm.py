"""S7 on a Swarm of one node: the stack of ``deploy/swarm`` with keys, while its images are updated and brokers are killed.

One broker of two serves, and then two of three.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cbw.cli.main import cli
from tests.live.program import wait_until

from .engine import DEPLOY, ROOT, SELDOM, docker, must

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("swarm")]
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
TWO_SERVE = {"JOURNALS": "cbw,cbw-2", "BROKERS": "3"}
"""Variables of the stack: two brokers serve at once, and the third stands by for both."""


class Stack:
    """The stack under a name of its own. Its services, and the containers of their tasks."""

    def __init__(self, override: Path, environment: Mapping[str, str]) -> None:
        self.name = f"cbw-test-{secrets.token_hex(3)}"
        self._files = [word for file in (STACK, KEYS, override) for word in ("-c", str(file))]
        self._environment = {**os.environ, **environment}

    def deploy(self, tag: str, *, work_s: float = 0.02, two_serve: bool = False) -> None:
        """Bring the services to what the files say, with images of this tag, and workers that take so long for a request."""
        environment = {**self._environment, "STACK": self.name, "TAG": tag, "WORK_S": f"{work_s}"}
        environment |= TWO_SERVE if two_serve else {}
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

    def has_none_of(self, service: str, containers: set[str]) -> bool:
        """Whether none of ``containers`` runs."""
        return not containers & set(self.containers(service))

    def brokers(self) -> dict[str, str]:
        """The containers of brokers, and the first words of what each says of itself."""
        return {
            one: docker("exec", one, "cbw-ready").stdout.partition(":")[0].strip() for one in self.containers("bro")
        }

    def owners(self) -> set[str]:
        """The containers of the brokers that serve."""
        return {one for one, says in self.brokers().items() if says == "ok"}

    def says(self, *words: str) -> bool:
        """Whether its brokers say this of themselves, each one of these."""
        return sorted(self.brokers().values()) == sorted(words)

    def containers(self, service: str) -> list[str]:
        """Those that run."""
        return must("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={self.name}_{service}").split()


@pytest.fixture(scope="module")
def swarm(images: dict[str, str], nats_image: str) -> Iterator[int]:
    """A Swarm of an engine of its own, in a network of its own: one that leaves a Swarm forgets the names in all its networks,
    and so would that of the other tests. The process whose network that is.
    """
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("only root can start another dockerd")
    folder = Path(tempfile.mkdtemp(prefix="cbw-swarm-"))
    (folder / "data").mkdir()
    options = [
        "--data-root",
        folder / "data",
        "--exec-root",
        folder / "exec",
        "--pidfile",
        folder / "pid",
        "--bridge",
        "none",
    ]
    options += [
        "--host",
        f"unix://{folder}/sock",
        "--containerd-namespace",
        "swarm",
        "--cgroup-parent",
        f"/{folder.name}",
    ]
    start = f"ip link set lo up && mount -t tmpfs cbw {folder}/data && exec dockerd {shlex.join(map(str, options))}"
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*alone, "sh", "-c", start], stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as patch:
        try:
            must("save", "--output", folder / "images.tar", images["tsr-zmq"], nats_image)
            patch.setenv("DOCKER_HOST", f"unix://{folder}/sock")
            wait_until(lambda: docker("info").returncode == 0, "the engine is up", within_s=UP_S)
            must("load", "--input", folder / "images.tar")
            must("swarm", "init", "--advertise-addr", "127.0.0.1")
            labels = [word for name in NATS for word in ("--label-add", f"cbw.{name}=true")]
            must("node", "update", *labels, must("node", "ls", "--quiet"))
            yield process.pid
        finally:
            process.kill()  # and with it all that it has started
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            for left in sorted(Path("/sys/fs/cgroup").glob(f"**/{folder.name}/**/"), reverse=True):
                with contextlib.suppress(OSError):
                    left.rmdir()


@pytest.fixture
def stack(swarm: int, nats_image: str, tmp_path: Path) -> Iterator[Stack]:
    """The stack, not yet deployed: its servers' image is one that is here, workers have less to do, an update waits for less.
    Its keys are its own.
    """
    assert CliRunner().invoke(cli, ["keys", "new", str(tmp_path / "keys")]).exit_code == 0
    services: dict[str, Any] = {name: {"image": nats_image} for name in NATS}
    update = {"deploy": {"update_config": {"delay": "1s", "monitor": "1s"}}, "healthcheck": SELDOM}
    services |= {
        "bro": update,
        "wor": {"environment": {"CBW_WORKER_WORK_TIME_S": "${WORK_S}"}, **update},
        "log": update,
    }
    override = tmp_path / "override.yml"
    override.write_text(json.dumps({"services": services}))
    stack = Stack(override, {"KEYS_DIR": str(tmp_path / "keys")})
    yield stack
    docker("stack", "rm", stack.name)
    gone = ["ps", "--quiet", "--filter", f"label=com.docker.stack.namespace={stack.name}"]
    wait_until(lambda: not must(*gone).split(), "its containers have ended", within_s=UP_S)


@pytest.fixture
def second_tag(swarm: int, images: dict[str, str], tag: str) -> str:
    """Another tag of the same image."""
    must("tag", images["tsr-zmq"], f"tsr-zmq:{tag}-2")
    return f"{tag}-2"


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


def test_an_update_of_all_roles_and_the_loss_of_a_broker_and_a_server_fail_no_call(
    stack: Stack, images: dict[str, str], tag: str, second_tag: str, tmp_path: Path
) -> None:
    stack.deploy(tag)
    wait_until(stack.is_up, "all services are up", within_s=UP_S)
    with calls(stack, images["tsr-zmq"], tmp_path / "keys") as told:
        before = {service: set(stack.containers(service)) for service in ("bro", "wor", "log")}
        stack.deploy(second_tag)
        for service, old in before.items():
            wait_until(functools.partial(stack.is_updated, service), f"{service} is updated", within_s=UP_S)
            wait_until(
                functools.partial(stack.has_none_of, service, old), "the old containers have ended", within_s=UP_S
            )
        wait_until(lambda: stack.says("ok", "stands by"), "one serves, one stands by", within_s=UP_S)
        (owner,) = stack.owners()
        must("kill", owner, *stack.containers("nats1"))  # as if they were on one machine
        wait_until(lambda: stack.owners() - {owner}, "another one serves", within_s=UP_S)
        wait_until(stack.is_up, "Swarm has started others", within_s=UP_S)
        before["bro"] = set(stack.containers("bro"))
        stack.deploy(second_tag, two_serve=True)
        wait_until(functools.partial(stack.has_none_of, "bro", before["bro"]), "the brokers are updated", within_s=UP_S)
        wait_until(lambda: stack.says("ok", "ok", "stands by"), "two serve, one stands by", within_s=UP_S)
        for lost in stack.owners():  # one of them has the requests of the clients
            must("kill", lost)
            wait_until(functools.partial(stack.has_none_of, "bro", {lost}), "it has ended", within_s=UP_S)
            wait_until(lambda: stack.says("ok", "ok", "stands by"), "so it is again", within_s=UP_S)
    assert told["failed"] == []
    assert told["asked"] > 100, told
    (logger,) = stack.containers("log")
    assert "BRO_" in must("exec", logger, "cbw", "logs", "/var/lib/cbw/logs", "--event", "started")


def _config(**environment: str) -> dict[str, Any]:
    """What Docker makes of the files of the stack with keys."""
    made = must("stack", "config", "-c", STACK, "-c", KEYS, env={**os.environ, "TAG": "1", **environment})
    found: dict[str, Any] = yaml.safe_load(made)
    return found


def test_two_stacks_of_one_swarm_have_secrets_of_their_own(engine: None) -> None:
    """Docker puts the name of the stack before what has no name of its own, and only there."""
    names = {stack: [one["name"] for one in _config(STACK=stack)["secrets"].values()] for stack in ("here", "there")}
    for stack, own in names.items():
        assert own and all(name.endswith(f"_{stack}") for name in own), own
    assert all("name" not in one for one in _config(STACK="here")["configs"].values())


def test_another_version_of_the_keys_is_another_secret_at_the_same_place(engine: None) -> None:
    first, second = _config(STACK="cbw", KEYS_VERSION="1"), _config(STACK="cbw", KEYS_VERSION="2")
    assert first["secrets"].keys() == second["secrets"].keys()
    assert not {one["name"] for one in first["secrets"].values()} & {one["name"] for one in second["secrets"].values()}
    assert first["services"]["bro"]["secrets"] == second["services"]["bro"]["secrets"], "the containers see no other"


def test_keys_without_the_name_of_the_stack_are_not_deployed(engine: None) -> None:
    environment = {**os.environ, "TAG": "1"}
    environment.pop("STACK", None)
    done = docker("stack", "config", "-c", STACK, "-c", KEYS, env=environment)
    assert done.returncode != 0 and "the name of the stack" in done.stdout


def test_a_verification_of_the_stack(swarm: int, stack: Stack, tag: str, tmp_path: Path) -> None:
    stack.deploy(tag, work_s=1.0, two_serve=True)
    wait_until(stack.is_up, "all services are up", within_s=UP_S)
    inside = ["nsenter", "--target", swarm, "--net", sys.executable, "-m", "cbw"]
    command = [*inside, "verify", "--swarm", stack.name, "--json", "--keys", tmp_path / "keys"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker", "standby-takes-over"):
        assert checks[name]["figures"]["judged"], checks[name]
    assert checks["fenced-zombie"]["figures"]["ended"] == 1
    assert checks["work-shared"]["figures"]["judged"] == 2, "each of those that serve was asked alone"
    assert checks["complete-log"]["passed"]
    assert "cut off" in done.stderr, "it says what it has left out"
    assert stack.is_up()


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

"""The pods of the chart, run as containers with what Kubernetes would give them: they work, outlive a kill, and stop in time."""

from __future__ import annotations

import functools
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cbw
from cbw.cli.main import cli
from tests.live.program import wait_until
from tests.nats_accounts import Accounts
from tests.ports import free_port

from .chart import rendered
from .kubelet import Files, Node, Pod, secrets_of

pytestmark = pytest.mark.timeout(300)
READY_S = 60.0
PORT = "9998"
NewNode = Callable[..., Node]
QUICK = {"workers": [{"name": "demo", "replicas": 2, "env": {"CBW_WORKER_WORK_TIME_S": 0.2}}]}


@pytest.fixture
def new_node(images: dict[str, str]) -> Iterator[NewNode]:
    """``new_node(values, secrets)``: where the pods of a release with these values run."""
    nodes: list[Node] = []

    def new(values: dict[str, Any], files: dict[str, Files]) -> Node:
        nodes.append(Node(rendered(values), files, images["tsr-zmq"]))
        return nodes[-1]

    yield new
    for node in nodes:
        node.close()


def ready(*pods: Pod) -> None:
    """Wait until the kubelet would let others know of them. None of them would have been restarted."""
    for pod in pods:
        wait_until(functools.partial(pod.passes, "readinessProbe"), f"{pod.name} is ready", within_s=READY_S)
        assert pod.passes("livenessProbe"), pod.logs()


def made_keys(folder: Path) -> dict[str, Files]:
    """New keys in ``folder``, and the Secrets that are made of them."""
    assert CliRunner().invoke(cli, ["keys", "new", str(folder)]).exit_code == 0
    return secrets_in(folder)


def secrets_in(folder: Path) -> dict[str, Files]:
    """The Secrets that are made of the keys in ``folder``."""
    return secrets_of(CliRunner().invoke(cli, ["keys", "secret", "--keys", str(folder)]).output)


def status(pod: Pod, token: str) -> dict[str, Any]:
    asked = urllib.request.Request(
        f"http://{pod.address}:9997/status.json", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=READY_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_a_broker_on_a_volume_with_keys_and_a_logger(new_node: NewNode, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    node = new_node({"keys": {"existingSecret": "cbw-keys"}, **QUICK}, made_keys(keys))
    port = free_port()
    logger = node.start("StatefulSet", "cbw-logger")
    broker = node.start("StatefulSet", "cbw-broker", 0, "--publish", f"127.0.0.1:{port}:{PORT}")
    ready(logger, broker)
    token = (keys / "status.token").read_text().strip()
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        status(broker, "guessed")
    refused.value.close()

    with cbw.Client(f"127.0.0.1:{port}", keys=str(keys), timeout=READY_S) as client:
        futures = [client.submit(f"{number}") for number in range(30)]
        wait_until(lambda: status(broker, token)["waiting"] == 30, "they wait")
        assert status(broker, token)["workers_wanted"] == [{"service": "", "wanted": 30}], "KEDA starts some"
        workers = [node.start("Deployment", "cbw-worker-demo", number) for number in range(2)]
        ready(*workers)
        wait_until(lambda: any(future.done() for future in futures), "the first answer")
        workers[0].kill()
        broker.kill()
        broker.restart()
        answers = [future.result().decode().split() for future in futures]
        assert [request for request, _ in answers] == [f"{number}" for number in range(30)]
        wait_until(lambda: "goes on with its journal" in broker.logs(), "the broker has read it")

        verify = node.start("Pod", "cbw-verify")
        assert verify.wait() == 0, verify.logs()
        assert "kept" in verify.logs() and "broken" not in verify.logs()

        failed = status(broker, token)["counts"]["attempts_failed"]
        futures = [client.submit(f"{number}") for number in range(20)]
        wait_until(lambda: status(broker, token)["in_flight"], "one is begun")
        assert_stopped(workers[1])
        told = status(broker, token)
        assert told["counts"]["attempts_failed"] == failed, "what was begun was finished"
        done = 20 - int(told["waiting"])
        wait_until(lambda: sum(future.done() for future in futures) == done, "the rest was given back, and waits")
        for future in futures:
            future.cancel()

    taken = shutil.copytree(keys, tmp_path / "taken")
    assert CliRunner().invoke(cli, ["keys", "revoke", "client", "--keys", str(keys)]).exit_code == 0
    node.exchange(broker, "keys", secrets_in(keys)["cbw-keys-broker"])
    wait_until(lambda: is_refused(f"127.0.0.1:{port}", taken), "the key that was taken back is refused")
    for pod in (broker, logger):
        assert_stopped(pod)


def is_refused(address: str, keys: Path) -> bool:
    try:
        with cbw.Client(address, keys=str(keys), timeout=1) as client:
            client.call("hello")
    except cbw.KeyRefused:
        return True
    except cbw.CbwError:
        return False
    return False


def assert_stopped(pod: Pod) -> None:
    code, took_s = pod.stop()
    assert code == 0, pod.logs()
    assert took_s < 10, "well within its grace time, which is 15 s"


def test_a_broker_stands_by_with_a_journal_on_nats(new_node: NewNode, nats_image: str, tmp_path: Path) -> None:
    accounts = Accounts()
    nats = {"servers": ["nats:4222"], "name": "shop", "existingSecret": "nats-user", "credentials": "nats.creds"}
    broker = {"replicas": 2, "journal": {"type": "nats", "nats": nats}}
    values = {"broker": broker, "logger": {"enabled": False}, **QUICK}
    node = new_node(values, {"nats-user": {"nats.creds": accounts.credentials.encode()}})
    node.start_server("nats", nats_image, f'jetstream {{ store_dir: "/data" }}\n{accounts.configuration}', tmp_path)
    brokers = [node.start("StatefulSet", "cbw-broker", number) for number in range(2)]
    worker = node.start("Deployment", "cbw-worker-demo")
    ready(*brokers, worker)
    said = {pod.says().partition(":")[0]: pod for pod in brokers}
    assert said.keys() == {"ok", "stands by"}, "and both are ready, or an update would wait for ever"
    owner, heir = said["ok"], said["stands by"]
    with cbw.Client(f"{owner.address}:{PORT}", timeout=READY_S) as client:
        assert client.call("one").startswith(b"one ")
    owner.kill()
    wait_until(lambda: heir.says() == "ok", "the other broker serves", within_s=READY_S)
    owner.restart()
    ready(owner, worker)
    assert owner.says().startswith("stands by")
    with cbw.Client(f"{heir.address}:{PORT}", timeout=READY_S) as client:
        assert client.call("two").startswith(b"two ")
    for pod in (heir, owner, worker):
        assert_stopped(pod)

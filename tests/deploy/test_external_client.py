"""S8: a client outside of the deployment's network: on this host, and on another one (a network namespace of its own)."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.program import environment
from tests.ports import free_port

from .conftest import NewProject
from .engine import LABEL, answers_in, docker, must

pytestmark = pytest.mark.timeout(300)
OUR_SIDE, THEIR_SIDE = "198.18.77.1", "198.18.77.2"
"""Of the range for tests between networks (RFC 2544)."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def other_host() -> Iterator[list[str]]:
    """What to put in front of a command that runs on a host of its own, which reaches this one at ``OUR_SIDE``."""
    name = f"cbw{secrets.token_hex(3)}"
    near, far = f"{name}n", f"{name}f"
    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("address", "add", f"{OUR_SIDE}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "address", "add", f"{THEIR_SIDE}/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield ["ip", "netns", "exec", name]
    finally:
        ip("netns", "delete", name)  # takes the pair of interfaces along


def cbw(*words: object, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """``cbw WORDS``, here or elsewhere."""
    command = [*(before or []), str(Path(sys.executable)), "-m", "cbw", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)


def test_a_client_on_another_host(new_project: NewProject, other_host: list[str]) -> None:
    port = free_port()
    project = new_project("cbw", BROKER_PUBLISHED=str(port))
    project.must("up", "--detach", "--wait", "--scale", "cli=0", "--scale", "wor=1")
    for before, host in ((None, "127.0.0.1"), (other_host, OUR_SIDE)):
        done = cbw("client", "EXT", 2, host, port, before=before)
        assert done.returncode == 0, done.stderr
        assert [request for request, _, _ in answers_in(done.stdout.splitlines())] == ["EXT-1", "EXT-2"]
    found = cbw("doctor", f"{OUR_SIDE}:{port}", before=other_host)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "speaks CBW/1" in found.stdout
    project.must("stop", "bro")
    found = cbw("doctor", f"{OUR_SIDE}:{port}", before=other_host)
    assert found.returncode == 1 and "refuses" in found.stdout, found.stdout


def test_the_image_is_a_client_where_python_is_too_old(
    new_project: NewProject, images: dict[str, str], other_host: list[str], tmp_path: Path
) -> None:
    """As the README of external-client says: the image is carried there, and run."""
    port, carried = free_port(), f"{images['tsr-zmq']}-carried"
    project = new_project("cbw", BROKER_PUBLISHED=str(port))
    project.must("up", "--detach", "--wait", "--scale", "cli=0", "--scale", "wor=1")
    must("tag", images["tsr-zmq"], carried)
    try:
        must("save", "--output", tmp_path / "image.tar", carried)
        must("rmi", carried)
        must("load", "--input", tmp_path / "image.tar")
        words = [carried, "cbw", "client", "EXT", 2, OUR_SIDE, port]
        answers = answers_in(must("run", "--rm", "--label", f"{LABEL}=1", *words).splitlines())
    finally:
        docker("rmi", carried)
    assert [request for request, _, _ in answers] == ["EXT-1", "EXT-2"]


def test_without_keys_only_the_brokers_own_machine_steers_it(other_host: list[str]) -> None:
    """A broker that listens everywhere: whoever reaches it may look, and acts come from here, unless it allows others to."""
    port, worker_port = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "cbw",
        "broker",
        str(port),
        str(worker_port),
        "--listen",
        "*",
        "--status-port",
        "0",
    ]
    for options, code in (([], 7), (["--allow-control"], 0)):
        broker = subprocess.Popen([*command, *options], env=environment(), stdout=subprocess.DEVNULL)
        try:
            for host in ("127.0.0.1", OUR_SIDE):  # both are this machine
                here = cbw("pause", "s", "--broker", f"{host}:{port}")
                assert (here.returncode, here.stdout) == (0, "paused: s\n"), here.stderr
            there = cbw("resume", "s", "--broker", f"{OUR_SIDE}:{port}", before=other_host)
            assert there.returncode == code, there.stderr
            assert ("--allow-control" in there.stderr) is (code == 7)
            looked = cbw("ps", "--broker", f"{OUR_SIDE}:{port}", before=other_host)
            assert looked.returncode == 0, looked.stderr
        finally:
            broker.terminate()
            broker.wait(30)

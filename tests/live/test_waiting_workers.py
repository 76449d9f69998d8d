"""Workers that the broker does not let in, or that find none, say so; as do roles in an environment that others have filled."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Start
from .program import environment

LINK = "tcp://10.96.0.12:9998"


def test_a_worker_says_whom_it_waits_for(start: Start) -> None:
    port = free_port()
    start("worker", "W1", HOST, port).wait_for(f"waiting for a broker at {HOST}:{port}")


def test_a_worker_whose_id_is_taken_says_so_at_once(start: Start, broker: Broker) -> None:
    start("worker", "W1", HOST, broker.worker_port)
    broker.program.wait_for("worker ready worker W1")
    second = start("worker", "W1", HOST, broker.worker_port)
    second.wait_for("W1 not let in (a worker called 'W1' lives)")
    assert second.is_running, "the other may be lost, and it asks again for a while"
    assert second.exit_code() == 3
    assert second.count("not let in") == 1 and second.count("cbw: a worker called 'W1' lives"), second


def test_service_links_of_kubernetes_stop_no_role(start: Start) -> None:
    links = {"BROKER_PORT": LINK, "LOGGER_PORT": LINK, "CBW_STATUS_PORT": LINK}
    broker = start("broker", 0, 0, "--status-port", 0, **links)
    ports = broker.wait_for("serves clients on port")
    worker_port = int(ports.rpartition(" ")[2])
    start("worker", "W1", HOST, worker_port, "--status-port", 0, **links).wait_for("connected")
    start("worker", "W1", HOST, "--status-port", 0, **links).wait_for(f"W1 works for {HOST}:9999")


def test_a_program_without_the_metadata_of_its_installation(tmp_path: Path) -> None:
    """As in a zipapp, or with PyInstaller."""
    archive, package = tmp_path / "app.zip", Path(cbw.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package.parent))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.metadata as metadata\n"
        "def version(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = metadata.distribution = version\n"
        "import cbw, cbw.cli.main\n"
        "assert cbw.__file__.startswith(sys.argv[1]), cbw.__file__\n"
        "cbw.Client('127.0.0.1:1').close()\n"
        "cbw.cli.main.main(['--version'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, archive], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, f"cbw {cbw.__version__}\n"), ended.stderr

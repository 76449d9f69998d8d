"""A role that is told to stop while it starts stops, though it is the first process of its container."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.program import wait_until

from .engine import LABEL, docker, must

pytestmark = pytest.mark.timeout(300)


def is_signal_kept(name: str, number: int) -> bool:
    """Whether the first process of the container keeps the signal, or has ended. The kernel drops one that comes before that."""
    state = json.loads(must("inspect", name))[0]["State"]
    if not state["Running"]:
        return True
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{state['Pid']}/status").read_text().splitlines())
    return bool((int(fields["SigBlk"], 16) | int(fields["SigCgt"], 16)) >> (number - 1) & 1)


@pytest.mark.parametrize("role", ["imbroker", "imworker", "imclient", "imlogger"])
@pytest.mark.parametrize("after_s", [0.0, 0.2])
def test_a_stop_while_it_starts(images: dict[str, str], run: Callable[..., str], role: str, after_s: float) -> None:
    name = run("--detach", "-e", "BROKER_HOST=172.17.0.250", images[role])
    wait_until(lambda: is_signal_kept(name, signal.SIGTERM), "its first process has blocked the signal")
    time.sleep(after_s)
    must("stop", "--time", 30, name)
    state = json.loads(must("inspect", name))[0]["State"]
    assert state["ExitCode"] == 0, must("logs", name)


@pytest.mark.parametrize("words", ["client C1 3 172.17.0.250", "bench", "verify", "logs --follow /dev/null"])
@pytest.mark.parametrize(("signal", "code"), [("INT", 130), ("TERM", 143)])
def test_a_signal_ends_every_command(
    images: dict[str, str], run: Callable[..., str], words: str, signal: str, code: int
) -> None:
    """As Ctrl-C in ``docker run -it``, and ``docker stop``."""
    name = run("--detach", images["tsr-zmq"], "cbw", *words.split())
    time.sleep(1)
    must("kill", "--signal", signal, name)
    ended = int(must("wait", name))
    assert ended == (0 if signal == "TERM" and words.startswith("client") else code), must("logs", name)


def test_the_shell_form_of_the_lab(images: dict[str, str], run: Callable[..., str], tmp_path: Path) -> None:
    """``CMD cbw worker HN 172.17.0.2 9999``, as a student writes it."""
    (tmp_path / "Dockerfile").write_text(f"FROM {images['tsr-zmq']}\nCMD cbw worker HN $BROKER_HOST 9999\n")
    image = must("build", "--quiet", "--label", f"{LABEL}=1", tmp_path)
    name = run("--detach", "-e", "BROKER_HOST=172.17.0.250", image)
    try:
        wait_until(lambda: " works for " in must("logs", name), "it runs")
        must("stop", "--time", 30, name)
        assert json.loads(must("inspect", name))[0]["State"]["ExitCode"] == 0, must("logs", name)
    finally:
        docker("rm", "--force", name)
        docker("image", "rm", "--force", image)

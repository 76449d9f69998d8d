"""``cbw worker --reload``: what is saved is served, and what runs is finished."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Log, Start
from .program import PATIENCE_S, Program, environment, wait_until

APP = """
import os, pathlib, time, cbw

shop = cbw.Service("shop")

@shop.task()
def wait() -> str:
    pathlib.Path(os.environ["CBW_TEST_LOG"]).open("a").write(f"began {os.getpid()}\\n")
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return "waited"

@shop.task()
def nap() -> str:
    pathlib.Path(os.environ["CBW_TEST_LOG"]).open("a").write("napping\\n")
    time.sleep(1)
    return "rested"

@shop.task()
def price() -> int:
    return %s
"""
Develop = Callable[..., Program]


def save(folder: Path, text: str) -> None:
    """As editors do: at once."""
    (folder / "app.new").write_text(text)
    (folder / "app.new").rename(folder / "app.py")


def has_ended(pid: str) -> bool:
    """Whether it has ended, also if nobody has asked yet how."""
    stat = Path("/proc", pid, "stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


@pytest.fixture
def develop(start: Start, broker: Broker, folder: Path, log: Log) -> Develop:
    """``develop()``: a worker that is started anew when a file of ``folder`` changes."""

    def start_one(**variables: str) -> Program:
        variables |= {"CBW_TEST_LOG": str(log.path)}
        words = ("worker", "W1", HOST, broker.worker_port, "--app", "app", "--reload")
        return start(*words, folder=folder, **variables)

    return start_one


def test_a_change_is_served_and_what_runs_is_finished(
    develop: Develop, broker: Broker, folder: Path, log: Log, connect: Connect
) -> None:
    save(folder, APP % 490)
    program, client = develop(), connect(broker)
    assert client.call({}, "shop.price", returns=int) == 490
    running = client.submit({}, "shop.wait", returns=str)
    began = log.wait_for("began")
    (folder / "notes.txt").write_text("no program")
    save(folder, APP % 1470)
    program.wait_for("app.py changed: the worker ends, and is started anew")
    assert not running.done()
    (folder / "go").touch()
    assert running.result(PATIENCE_S) == "waited"
    assert program.wait_for("W1 works for", count=2)
    assert client.call({}, "shop.price", returns=int) == 1470
    assert log.count("began") == 1, "it was finished, and not begun again by the new worker"
    assert program.count("changed") == 1 and program.count("notes") == 0
    assert has_ended(began.split()[1])


def test_sigterm_lets_what_runs_finish(
    develop: Develop, broker: Broker, folder: Path, log: Log, connect: Connect
) -> None:
    save(folder, APP % 490)
    program, client = develop(), connect(broker)
    running = client.submit({}, "shop.nap", returns=str)
    log.wait_for("napping")
    program.signal(signal.SIGTERM)
    assert running.result(PATIENCE_S) == "rested"
    assert program.exit_code() == 0


def test_half_of_a_change_does_not_end_it(develop: Develop, broker: Broker, folder: Path, connect: Connect) -> None:
    save(folder, "def half(")
    program, client = develop(), connect(broker)
    program.wait_for("app does not import: SyntaxError")
    program.wait_for("the worker exited with 2; it is started again at the next change")
    save(folder, APP % 750)
    assert client.call({}, "shop.price", returns=int) == 750
    program.wait_for("started again at")
    assert program.count("started again at") == 1


def test_killed_it_takes_the_worker_with_it(
    develop: Develop, broker: Broker, folder: Path, log: Log, connect: Connect
) -> None:
    save(folder, APP % 490)
    program, client = develop(), connect(broker)
    client.submit({}, "shop.wait")
    pid = log.wait_for("began").split()[1]
    program.signal(signal.SIGKILL)
    wait_until(lambda: has_ended(pid), "the end of the worker")


def test_without_watchfiles(develop: Develop, folder: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "watchfiles.py").write_text("raise ImportError('as if it were not installed')")
    program = develop(PYTHONPATH=str(hidden))
    assert program.exit_code() == 2
    program.wait_for("cbw: --reload needs watchfiles")
    program.wait_for("pip install 'cbw[reload]'")


def test_what_is_saved_before_the_folders_are_watched_is_not_missed(
    develop: Develop, broker: Broker, folder: Path, connect: Connect, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(  # of watchfiles, until the test lets it go on
        "import pathlib, time, watchfiles\nreal = watchfiles.watch\n"
        "def watch(*paths, **options):\n"
        f"    while not pathlib.Path({str(tmp_path / 'watch')!r}).exists(): time.sleep(0.01)\n"
        "    yield from real(*paths, **options)\n"
        "watchfiles.watch = watch\n"
    )
    save(folder, APP % 490)
    words = ("worker", "W1", HOST, str(broker.worker_port), "--app", "app", "--reload")
    path = os.pathsep.join([str(slow), *filter(None, sys.path)])
    program = subprocess.Popen(
        [sys.executable, "-m", "cbw", *words], cwd=folder, env=environment(PYTHONPATH=path), stderr=subprocess.DEVNULL
    )
    try:
        client = connect(broker)
        assert client.call({}, "shop.price", returns=int) == 490, "the worker does not wait for the watching"
        save(folder, APP % 750)
        (tmp_path / "watch").touch()
        wait_until(lambda: client.call({}, "shop.price", returns=int) == 750, "the new price")
    finally:
        program.terminate()
        assert program.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("limit", ["watches", "instances"])
def test_a_system_that_watches_no_more_is_told_of(folder: Path, limit: str) -> None:
    """The limits of a user namespace of its own: those of this machine are left alone."""
    for name in "abcd":
        (folder / name).mkdir()
    save(folder, APP % 490)
    count = 2 if limit == "watches" else 0
    lowered = f"echo {count} > /proc/sys/user/max_inotify_{limit} && exec "
    words = shlex.join(
        [sys.executable, "-m", "cbw", "worker", "W1", HOST, str(free_port()), "--app", "app", "--reload"]
    )
    isolated = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        [*isolated, lowered + words], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 3
    assert "cbw: --reload watches each folder below" in done.stderr and "Traceback" not in done.stderr
    assert "fs.inotify.max_user_watches=524288" in done.stderr

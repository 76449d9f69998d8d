"""Tab in real shells: names of what a broker has now, and of nothing that could harm who completes it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import Broker, Connect, Start, StartWorker, completed
from .program import PATIENCE_S, environment, wait_until

HOSTILE = "W1$(touch${IFS}harmed)"
PROGRAMS = Path(sys.executable).parent
SHELLS = {
    "bash": (["bash", "--norc", "-i"], 'eval "$(_CBW_COMPLETE=bash_source cbw)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -D; eval "$(_CBW_COMPLETE=zsh_source cbw)"'),
}
"""How each is started without anybody's own settings, and what is typed first."""
FISH = "_CBW_COMPLETE=fish_source cbw > ~/.config/fish/completions/cbw.fish"

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(broker: Broker, start: Start) -> Complete:
    """``complete("drain", "W")``: what is offered for the last word, which may be empty."""

    def offered(*words: str, at: str = broker.address) -> list[str]:
        host, _, port = at.partition(":")
        return completed(start, *words, BROKER_HOST=host, BROKER_PORT=port)

    return offered


def test_what_is_there_is_offered(
    complete: Complete, broker: Broker, start: Start, start_worker: StartWorker, connect: Connect
) -> None:
    for name in ("W1", "W2"):
        start_worker(name, "render=hang")
    client = connect(broker, id="C1")
    for _ in range(3):
        client.submit("30", "render")

    def offers(names: list[str], *words: str, **more: str) -> None:
        """As often as it takes: a broker that does not answer at once, on a busy machine, has nothing offered."""
        wait_until(lambda: complete(*words, **more) == names, f"{names} for {words}")

    offers(["C1/1", "C1/2", "C1/3"], "why", "")
    offers(["W1", "W2"], "drain", "")
    offers(["W2"], "drain", "W1", "")
    assert complete("undrain", "") == []
    assert start("drain", "W1", "--broker", broker.address).exit_code() == 0
    offers(["W2"], "drain", "")
    offers(["W1"], "undrain", "")
    for words in (("pause", "re"), ("requests", "--service", ""), ("call", "")):
        offers(["render"], *words)
    assert complete("resume", "") == []
    assert start("pause", "render", "--broker", broker.address).exit_code() == 0
    offers(["render"], "resume", "")
    offers(["C1/2"], "cancel", "C1/2")
    offers(["W2"], "drain", "--broker", broker.address, "", at="127.0.0.1:1")
    client.close()


def test_the_documentation_says_what_is_tested_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "complete-names.md").read_text()
    for _, line in SHELLS.values():
        assert f"`{line.rpartition('; ')[2]}`" in page
    assert f"`{FISH}`" in page


def test_without_a_broker_nothing_is_offered_and_nothing_is_said(complete: Complete) -> None:
    assert complete("drain", "", at=f"127.0.0.1:{free_port()}") == []
    assert complete("dead", "show", "", at=f"127.0.0.1:{free_port()}") == []


def test_commands_are_offered_without_a_broker(complete: Complete) -> None:
    assert complete("dr") == ["drain"]
    assert {"story", "stats"} <= set(complete("logs", ""))
    assert complete("logs", "st") == ["story", "stats"]
    assert complete("logs", "story", "") == []
    assert complete("logs", "--level", "w") == ["warning"]
    assert complete("drain", "--js") == ["--json"]


def test_a_dead_letter_is_offered(
    complete: Complete, broker: Broker, start: Start, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W1", "doom=die", options=["--processes", 1])
    client = connect(broker, id="C1")
    client.submit(b"1", "doom")
    wait_until(lambda: len(complete("dead", "requeue", "")) == 1, "it was given up")
    wait_until(lambda: len(complete("dead", "show", "")) == 1, "it can be shown")


class Shell:
    """A shell in a terminal of its own."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=variables, start_new_session=True
        )
        os.close(slave)
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until that was shown, and forget what was shown before."""

        def is_shown() -> bool:
            while select.select([self._master], [], [], 0.05)[0]:
                self._shown += os.read(self._master, 65536).decode()
            return text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown)

        try:
            wait_until(is_shown, text)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {self._shown!r}") from None
        self._shown = ""

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._master)


@contextmanager
def shell_of(name: str, folder: Path, broker: Broker) -> Iterator[Shell]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (apt-get install {name})")
    command, first = SHELLS[name]
    host, _, port = broker.address.partition(":")
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    variables = environment(PATH=path, TERM="dumb", PS1="$ ", HOME=str(folder), BROKER_HOST=host, BROKER_PORT=port)
    shell = Shell(command, folder, variables)
    try:
        shell.type(f"{first}; echo rea''dy\n")
        shell.wait_for("ready")
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize("name", SHELLS)
def test_tab_in_a_shell(name: str, broker: Broker, start_worker: StartWorker, tmp_path: Path) -> None:
    start_worker("render-worker", "s=echo")
    with shell_of(name, tmp_path, broker) as shell:
        shell.type("cbw drain ren\t")
        shell.wait_for("render-worker")
        shell.type("\n")
        shell.wait_for("1 worker drained")
        shell.type("cbw undr\t")
        shell.wait_for("undrain")
        shell.type("r\t")
        shell.wait_for("render-worker")
        shell.type("\n")
        shell.wait_for("1 worker undrained")


def test_tab_in_fish(broker: Broker, start_worker: StartWorker, tmp_path: Path) -> None:
    """Fish says itself what it would offer. It finds the file as it is called in the documentation."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed (apt-get install fish)")
    start_worker("render-worker", "s=echo")
    host, _, port = broker.address.partition(":")
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    variables = environment(PATH=path, HOME=str(tmp_path), BROKER_HOST=host, BROKER_PORT=port)
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    for script in (FISH, "complete -C 'cbw drain ren'; complete -C 'cbw dr'"):
        done = subprocess.run(
            ["fish", "-c", script], env=variables, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
    assert done.stdout.splitlines() == ["render-worker\tfree", "drain\tGive workers nothing more."]


def test_a_name_that_a_shell_would_run_is_not_offered(
    complete: Complete, start_worker: StartWorker, broker: Broker, tmp_path: Path
) -> None:
    """What is offered is put into the command line as it is: Enter would run what a stranger has called a worker."""
    for name in (HOSTILE, "W1;reboot", "W1`reboot`", "W1 W2", "W1|cat"):
        start_worker(name, "s=echo")
    start_worker("W1", "s=echo")
    assert complete("drain", "") == ["W1"]
    with shell_of("bash", tmp_path, broker) as shell:
        shell.type("cbw drain W\t\n")
        shell.wait_for("1 worker drained")
    assert not (tmp_path / "harmed").exists()

"""The lab guide is carried out as it is written, in both languages, each in a copy of the checkout.

Of 26 blocks of commands in sessions 1 and 2 only four differ: the first of each, which asks for the language, and two that show
what cbw says. But all that comes after the first one runs in another language, and whether it prints the same there is the
question; so both are carried out. As a session mostly waits for requests of a second each, both languages are carried out at the
same time: that takes 1.5 times as long as one of them. In session 3 no program of ours speaks, so it cannot print anything else
in another language. Its commands, and what they should print, are the same in both, letter by letter, as a test shows: so it is
carried out once, for both. Ready images may be out of reach, so others always stand in for them here.

``GUIDE_RECORDED=1`` makes the recordings that ``tests/docs/test_guide_checks.py`` replays, where everything runs in seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs import played_program
from tests.docs import test_examples as pages
from tests.docs.test_guide_checks import RECORDED, same_in_english
from tests.live import faulty_broker
from tests.ports import free_port

from .engine import LABEL, ROOT, docker, offline_base

TUTORIAL = ROOT / "docs" / "tutorial"
SESSIONS = sorted(path.name for path in (TUTORIAL / "lab").glob("*.md"))
ONCE = {"session-3.md"}
"""Sessions in which no program of ours speaks."""
STANDINS = "standins.yml"
"""Beside a Compose file: what stands in for the images that it names."""
LANGUAGES = {"lab": "es_ES.UTF-8", "es": "en_US.UTF-8"}
"""Folder of a guide, and a language of the system that is not its own: it says itself which one it needs."""
COPIED = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "src", "deploy")
STEP_S = 240.0
"""A step may build an image, or wait for ten requests of a second each."""
pytestmark = pytest.mark.timeout(900)


class Renamed:
    """What the guide names, under names of this test's own, so that nobody's images, containers or ports are touched."""

    def __init__(self, folder: Path) -> None:
        self.mark = secrets.token_hex(3)
        port, web, page = free_port(), free_port(), free_port()
        self.log, self.other = folder / "log", folder / "other"
        self._pairs = {
            **{
                name: f"{name}:guide-{self.mark}"
                for name in ("tsr-zmq", "imbroker", "imworker", "imclient", "imlogger")
            },
            **{f"lab-{name}": f"lab-{self.mark}-{name}" for name in ("broker", "worker", "client", "logger")},
            "/tmp/logger.log": str(self.log),
            "/tmp/other.log": str(self.other),
            "localhost 9998": f"localhost {port}",
            "doctor localhost": f"doctor localhost:{port}",
        }
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"cbw-guide-{self.mark}",
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "quiet",
            "BROKER_PUBLISHED": str(port),
            "WORDPRESS_PORT": str(web),
            "MONGO_EXPRESS_PORT": str(page),
        }
        self.port = port

    def into(self, text: str) -> str:
        """``text`` with the test's names."""
        for shown, real in self._pairs.items():
            text = re.sub(rf"(?<![\w-]){re.escape(shown)}(?![\w:-])", real, text)
        base = " ".join(offline_base())
        label = f"--label {LABEL}=guide"
        text = re.sub(r"docker build ", f"docker build {label} ", text)
        text = re.sub(r"docker run ", f"docker run {label} ", text)
        return re.sub(r"(docker build .*tsr-zmq\S*)", rf"\1 {base}", text)

    def back(self, text: str) -> str:
        """``text`` as the guide has it."""
        for shown, real in self._pairs.items():
            text = text.replace(real, shown)
        return text.replace(f"localhost:{self.port}", "localhost:9998").replace(f"port {self.port}", "port 9998")

    def word_back(self, word: str) -> str:
        """A word of a command as the guide has it."""
        return {f"localhost:{self.port}": "localhost", str(self.port): "9998"}.get(word) or self.back(word)

    def remove(self) -> None:
        """Everything that was made under these names."""
        project = f"label=com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"
        for kind, words in (("container", ["rm", "--force", "--volumes"]), ("network", ["rm"]), ("volume", ["rm"])):
            every = ["--all"] if kind == "container" else []
            found = docker(kind, "ls", *every, "--quiet", "--filter", project).stdout.split()
            if found:
                docker(kind, *words, *found)
        names = [f"lab-{self.mark}-{name}" for name in ("broker", "worker", "client", "logger")]
        docker("rm", "--force", "--volumes", *names)
        images = [f"{name}:guide-{self.mark}" for name in ("imlogger", "imclient", "imworker", "imbroker", "tsr-zmq")]
        docker("image", "rm", "--force", *images)


@contextlib.contextmanager
def renamed_in(folder: Path) -> Iterator[Renamed]:
    folder.mkdir()
    one = Renamed(folder)
    try:
        yield one
    finally:
        one.remove()


def checkout_of(renamed: Renamed, folder: Path) -> Path:
    """A copy of what the guide uses, in which the images have the test's names."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
        else:
            shutil.copy(source, folder / name)
    for path in [*(folder / "deploy").rglob("Dockerfile"), *(folder / "deploy").rglob("docker-compose.yml")]:
        text = re.sub(
            r"^((?:FROM |    image: )(?:tsr-zmq|im\w+))$", rf"\1:guide-{renamed.mark}", path.read_text(), flags=re.M
        )
        path.write_text(
            text.replace("/tmp/logger.log:", f"{renamed.log}:").replace(":-/tmp/logger.log}", f":-{renamed.log}}}")
        )
    return folder


def environment_for(renamed: Renamed, lang: str) -> dict[str, str]:
    """Of the shell into which the guide is typed, on a system that speaks ``lang``."""
    apart = ("CBW_", "BROKER_", "LOGGER_", "LANG", "LC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1", "LANG": lang}
    return kept | renamed.environment


def carry_out(language: str, session: str, folder: Path, standins: Mapping[str, Path]) -> None:
    """Type all commands of a session, and compare what they print. ``standins``: what stands in for others' images, by folder."""
    steps = console_steps(TUTORIAL / language / session)
    with renamed_in(folder) as renamed:
        environment = environment_for(renamed, LANGUAGES[language])
        calls = folder / "calls.jsonl"
        if is_recorded := "GUIDE_RECORDED" in os.environ and session not in ONCE:
            recorder = played_program.recorder(folder / "programs", calls)
            environment["PATH"] = f"{recorder}{os.pathsep}{environment['PATH']}"
        checkout = checkout_of(renamed, folder / "checkout")
        for system, file in standins.items():
            shutil.copy(file, checkout / "deploy" / system / STANDINS)
            environment["COMPOSE_FILE"] = f"docker-compose.yml{os.pathsep}{STANDINS}"
        shell = pages.Shell(checkout, environment)
        try:
            for step in steps:
                pages.type_in(shell, step, renamed, f"{language}/{session}:{step.line}")
                if is_recorded and "ls /tmp/logger.log" in step.body:
                    keep_log(renamed, RECORDED / f"{language}-{session}.log")
        finally:
            shell.close()
        if is_recorded:
            keep_calls(renamed, calls, RECORDED / f"{language}-{session}.jsonl")


def console_steps(page: Path) -> Sequence[pages.Step]:
    return [step for step in pages.steps_of(page) if step.kind == "console"]


def keep_log(renamed: Renamed, file: Path) -> None:
    file.write_text((renamed.log / "logs").read_text())


def keep_calls(renamed: Renamed, calls: Path, file: Path) -> None:
    """With the guide's own names, and without what this test adds to its commands."""
    added = {"--label", f"{LABEL}=guide", *offline_base()}
    kept = []
    for words, *printed, code in played_program.read_calls(calls):
        out, err = (renamed.back(str(text)) for text in printed)
        words = [renamed.word_back(word) for word in words if word not in added]
        kept.append(played_program.Call(words, out, err, code))
    played_program.write_calls(file, kept)


@pytest.mark.parametrize("session", SESSIONS)
def test_the_guide_works_as_written(
    session: str, engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(pages, "PATIENCE_S", STEP_S)
    fixtures = {"wordpress": "standins", "mongo": "mongo_standins"} if session in ONCE else {}
    ready = {system: request.getfixturevalue(fixture) for system, fixture in fixtures.items()}
    languages = ["lab"] if session in ONCE else [*LANGUAGES]
    with ThreadPoolExecutor(len(languages)) as pool:
        runs = [pool.submit(carry_out, language, session, tmp_path / language, ready) for language in languages]
    for run in runs:
        run.result()


def test_the_guide_notices_a_broker_that_swaps_replies(
    engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one. Other wrong systems are recordings, in ``tests/docs/test_guide_checks.py``."""
    monkeypatch.setattr(pages, "PATIENCE_S", STEP_S)
    steps = console_steps(TUTORIAL / "lab" / "session-1.md")
    up = next(number for number, step in enumerate(steps) if "docker compose up --build" in step.body)
    steps = [*steps[:2], pages.Step("console", "$ cd deploy/cbw\n", 0), *steps[up:]]
    with renamed_in(tmp_path / "names") as renamed:
        checkout = checkout_of(renamed, tmp_path / "checkout")
        folder = checkout / "deploy" / "cbw" / "broker"
        shutil.copy(faulty_broker.__file__, folder)
        with (folder / "Dockerfile").open("a") as file:
            file.write(
                'COPY faulty_broker.py /\nCMD ["python3", "/faulty_broker.py", "swaps_replies", "9998", "9999"]\n'
            )
        shell = pages.Shell(checkout, environment_for(renamed, "C.UTF-8"))
        try:
            with pytest.raises(
                pytest.fail.Exception, match=r"\A[^\n]*: answers\nwanted:\n20 answers, 0 wrong"
            ) as failed:
                for step in steps:
                    pages.type_in(shell, step, renamed, f"session-1.md:{step.line}")
        finally:
            shell.close()
    assert re.search(r"got:\n20 answers, [1-9]\d* wrong, 0 twice", str(failed.value))


@pytest.mark.parametrize("session", SESSIONS)
def test_both_languages_have_the_same_commands(session: str) -> None:
    english, spanish = (console_steps(TUTORIAL / language / session) for language in LANGUAGES)
    if session in ONCE:
        assert [step.body for step in english] == [step.body for step in spanish]
        assert not re.search(r"(^|[|;&(] *)cbw\b", "\n".join(step.body for step in english), re.MULTILINE)
    commands, translated = (
        [[same_in_english(command) for command, _ in pages.commands_of(step.body)] for step in steps]
        for steps in (english, spanish)
    )
    assert commands and commands == translated

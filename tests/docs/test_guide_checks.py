"""The checks of the lab guide fail when the system is wrong.

The guide is typed into a shell in which ``docker`` and ``cbw`` do what was recorded on a real engine. With the recordings as they
are, each session ends well. Then something is changed in them, as a wrong system would, and the session must end at the check
that is there to notice it. What is a check, and has no such change, is a failure too.

``GUIDE_RECORDED=1 pytest tests/deploy/test_guide.py`` makes the recordings anew: after any change of the guide's commands.
Session 3 is not played: its check is a program, and ``tests/deploy/test_wordpress.py`` shows that it fails.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs import played_program
from tests.docs import test_examples as pages
from tests.docs.played_program import Call

TUTORIAL = pages.ROOT / "docs" / "tutorial"
RECORDED = Path(__file__).parent / "recorded"
SESSIONS = ("session-1.md", "session-2.md")
IN_SPANISH_ONLY = {
    "export CBW_LANG=es": "export CBW_LANG=en",
    "--rm -e CBW_LANG imclient": "--rm imclient",
    "'^se cumple' verdict.txt": "'^kept' verdict.txt",
}
"""What the commands of the Spanish guide have in place of what the English one has."""
STEP_S = 20.0
HANGS_S = 3.0
"""Until a client counts as one that hangs, in place of the minutes that a student waits."""
Change = Callable[[str], str]


def same_in_english(command: str) -> str:
    """A command of the Spanish guide as the English guide has it."""
    for spanish, english in IN_SPANISH_ONLY.items():
        command = command.replace(spanish, english)
    return command


# --- wrong systems


@dataclass(frozen=True)
class Wrong:
    """A wrong system: the calls, of those whose words match ``calls``, that tell of it, and the command that notices it.

    ``change`` makes of what they print what they print instead, ``code`` is their exit code instead; ``hangs``: they never end.
    Only those of the calls whose ``numbers`` are given are changed, or all. ``log`` changes the logger's file.
    """

    name: str
    session: int
    noticed_by: str
    calls: str = "$."
    change: Change | None = None
    code: int | None = None
    hangs: bool = False
    numbers: tuple[int, ...] = ()
    log: Change | None = None

    def calls_of(self, calls: list[Call]) -> list[Call]:
        """``calls`` as the wrong system makes them."""
        found = [number for number, call in enumerate(calls) if re.search(self.calls, " ".join(call.words))]
        changed = [*calls]
        for number in [found[number] for number in self.numbers] or found:
            changed[number] = self._instead_of(calls[number])
        assert changed != calls or self.log, f"{self.name}: nothing that was recorded is changed"
        return changed

    def _instead_of(self, call: Call) -> Call:
        if self.hangs:
            return Call(call.words, "", "", None)
        change = self.change or str
        return Call(call.words, change(call.out), change(call.err), call.code if self.code is None else self.code)


def swapped(text: str) -> str:
    """The first two answers the other way round."""
    if text.count(" -> ") < 2:
        return text
    first, second = re.findall(r"-> (\S+) ", text)[:2]
    marked = text.replace(f"-> {first} ", "-> \0 ", 1).replace(f"-> {second} ", f"-> {first} ", 1)
    return marked.replace("\0", second)


def doubled(text: str) -> str:
    """The first answer twice, in the place of the second."""
    lines = text.splitlines(keepends=True)
    if (first := next((number for number, line in enumerate(lines) if " -> " in line), None)) is None:
        return text
    return "".join([*lines[: first + 1], lines[first], *lines[first + 2 :]])


def without(pattern: str) -> Change:
    """One line fewer: the last that matches."""

    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if re.search(pattern, line)]
        return "".join(lines[: found[-1]] + lines[found[-1] + 1 :]) if found else text

    return change


def instead(pattern: str, text: str, count: int = 1) -> Change:
    return lambda printed: re.sub(pattern, text, printed, count=count, flags=re.MULTILINE)


def one_worker_only(text: str) -> str:
    """One of the workers has done what another did."""
    names = [*dict.fromkeys(re.findall(r"WOR_\w+", text))]
    return text.replace(names[0], names[1]) if names else text


CLIENTS_WAIT = r"^docker wait "
CLIENT_LOGS = r"^docker logs (?!lab)"
WAITED = "xargs docker wait"
BY_HAND = "^docker run --name lab-client"
HANDED_RUN = "docker run --name lab-client"
ATTEMPT = 'grep "attempt failed $REQUEST'
WRONG = [
    # --- session 1, by hand
    Wrong("an image of an earlier version", 1, "cbw --version", "cbw --version", instead("cbw .*", "cbw 0.0.9")),
    Wrong("a client that runs without a broker", 1, "docker run --rm", "--rm .*imclient$", instead("Error: .*", "")),
    Wrong("a client that fails with another code", 1, "echo $?", "--rm .*imclient$", code=1),
    Wrong("by hand, a broker that swaps replies", 1, HANDED_RUN, BY_HAND, swapped),
    Wrong("by hand, an answer twice", 1, HANDED_RUN, BY_HAND, doubled),
    Wrong("by hand, an answer too few", 1, HANDED_RUN, BY_HAND, without("-5 -> ")),
    Wrong("by hand, a worker that does not work", 1, HANDED_RUN, BY_HAND, instead(r"\(1\.", "(0.")),
    Wrong("by hand, a client that hangs", 1, HANDED_RUN, BY_HAND, hangs=True),
    Wrong("by hand, a client that fails", 1, "ExitCode}}' lab-client", "ExitCode.* lab-client$", instead("0", "1")),
    Wrong("a broker that must be killed", 1, "lab-worker lab-broker", "ExitCode.*lab-broker$", instead(r"0\n\Z", "137\n")),
    # --- with Compose
    Wrong("a container that has died", 1, "grep --count .", "IPAddress.*( \\w+){7}", without(r"\d")),
    Wrong("a client that hangs", 1, WAITED, CLIENTS_WAIT, hangs=True, numbers=(0,)),
    Wrong("a client that fails", 1, WAITED, CLIENTS_WAIT, instead("0", "1"), numbers=(0,)),
    Wrong("a lost answer", 1, "-- ' -> '", "compose logs cli", without(" -> "), numbers=(0,)),
    Wrong("a broker that swaps replies", 1, "answers", CLIENT_LOGS, swapped, numbers=(0,)),
    Wrong("an answer twice, and another lost", 1, "answers", CLIENT_LOGS, doubled, numbers=(0,)),
    Wrong("a worker that gets nothing", 1, "wc --lines", "compose logs cli", one_worker_only, numbers=(1,)),
    Wrong("a worker that was forgotten", 1, "cut --fields 1-4", "cbw ps", without("^worker"), numbers=(0,)),
    Wrong("a request that waits for ever", 1, "cut --fields 1-4", "cbw ps", instead("\t0\t0", "\t1\t0"), numbers=(0,)),
    # --- a worker that is killed
    Wrong("no worker has anything to do", 1, "until LINE", "cbw ps", instead(r" [\d.]+ ms\t", " 5.1 s\t", 0)),
    Wrong("nobody is killed", 1, "docker kill", "^docker kill", code=1),
    Wrong("the client hangs then", 1, WAITED, CLIENTS_WAIT, hangs=True, numbers=(1,)),
    Wrong("its answer is lost", 1, "answers", CLIENT_LOGS, without(" -> "), numbers=(-1,)),
    Wrong("replies are swapped then", 1, "answers", CLIENT_LOGS, swapped, numbers=(-1,)),
    Wrong("an answer comes twice then", 1, "answers", CLIENT_LOGS, doubled, numbers=(-1,)),
    Wrong("an idle one is killed", 1, ATTEMPT, "compose logs bro", without("attempt failed")),
    Wrong("another one fails", 1, ATTEMPT, "compose logs bro", instead("failed (.*) worker WOR_", r"failed \1 worker WOR_0")),
    Wrong("it fails at another request", 1, ATTEMPT, "compose logs bro", instead(r"failed (\S+)", r"failed \g<1>0")),
    Wrong("two are killed", 1, "{{.ExitCode}}' | sort", "ExitCode", instead("wor 0", "wor 137"), numbers=(-1,)),
    Wrong("none is killed at all", 1, "{{.ExitCode}}' | sort", "ExitCode", instead("wor 137", "wor 0"), numbers=(-1,)),
    Wrong("a broker does not stop", 1, "{{.ExitCode}}' | sort", "ExitCode", instead("bro 0", "bro 137"), numbers=(-1,)),
    # --- verify
    Wrong("a promise that is broken", 1, "cbw verify", "^cbw verify", code=4),
    Wrong("a promise that is not tried", 1, "' verdict.txt", "^cbw verify", instead("^(kept|se cumple)", "not tried")),
    # --- session 2
    Wrong("of four clients one hangs", 2, WAITED, CLIENTS_WAIT, hangs=True, numbers=(0,)),
    Wrong("a logger that lacks an answer", 2, '"got"', log=without('"event":"got"')),
    Wrong("a logger that lacks what a worker did", 2, "sed 's/.*\"boot\"", log=without('"event":"begun"')),
    Wrong("a logger that lacks what the broker did", 2, "sed 's/.*\"boot\"", log=without('"event":"answered"')),
    Wrong("a logger that lacks a beginning", 2, "sed 's/.*\"boot\"", log=instead('.*"event":"client_hello".*\n', "")),
    Wrong("a worker that does not register", 2, "worker_ready", log=instead('"event":"worker_ready"', '"event":"worker_lost"')),
    Wrong("a story without an end", 2, "logs story", log=instead('"event":"done"', '"event":"dome"', 0)),
    Wrong("a logger at another place", 2, "docker logs lab-logger", "logs lab-logger", instead("/tmp/cbwlog", "/tmp")),
    Wrong("a logger that does not start", 2, "docker logs lab-logger", "logs lab-logger", instead("(?s).+", "")),
    Wrong("two brokers, and a client hangs", 2, WAITED, CLIENTS_WAIT, hangs=True, numbers=(1,)),
    Wrong("two brokers that swap replies", 2, "answers", CLIENT_LOGS, swapped, numbers=(0,)),
    Wrong("two loggers, and a client fails", 2, WAITED, CLIENTS_WAIT, instead("0", "3"), numbers=(2,)),
    Wrong("two loggers, and an answer is lost", 2, "answers", CLIENT_LOGS, without(" -> "), numbers=(-1,)),
    Wrong("outside, swapped replies", 2, "cbw client EXT", "cbw client EXT", swapped),
    Wrong("outside, a client that hangs", 2, "cbw client EXT", "cbw client EXT", hangs=True),
    Wrong("nothing listens", 2, "cbw doctor", "cbw doctor", instead("^ok    port", "wrong port")),
    Wrong("no worker is there", 2, "cbw doctor", "cbw doctor", code=1),
]  # fmt: skip
NO_CHECK = (
    "docker build",
    "docker stop",
    "docker rm",
    'echo "the broker is at',
    'echo "$LINE"',
    "ls /tmp/",
)
"""Commands with an output that is not ours: Docker's, the shell's, and names of files that the recordings put there."""


# --- the guide, played


class Places:
    """Folders of this test in the place of those in ``/tmp`` that the guide uses."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def into(self, text: str) -> str:
        return re.sub(r"/tmp/(?=(logger|other)\.log)", f"{self._folder}/", text)

    def back(self, text: str) -> str:
        return text.replace(f"{self._folder}/", "/tmp/")


def play(language: str, session: str, folder: Path, wrong: Wrong | None = None) -> None:
    """Type a session with what was recorded, as ``wrong`` changes it."""
    places = Places(folder)
    calls = played_program.read_calls(RECORDED / f"{language}-{session}.jsonl")
    calls = [
        call._replace(words=[*map(places.into, call.words)]) for call in (wrong.calls_of(calls) if wrong else calls)
    ]
    path = played_program.player(folder / "programs", calls)
    make_impatient(Path(path), HANGS_S if wrong and wrong.hangs else STEP_S)
    for part in ("cbw/broker", "cbw/client", "cbw/worker", "cbwl/logger"):
        (folder / "checkout" / "deploy" / part).mkdir(parents=True)
    if (log := RECORDED / f"{language}-{session}.log").exists():
        put_logs(folder, log.read_text(), wrong)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CBW_")}
    environment["PATH"] = os.pathsep.join([path, environment["PATH"]])
    shell = pages.Shell(folder / "checkout", environment)
    try:
        for step in pages.steps_of(TUTORIAL / language / session):
            if step.kind == "console":
                pages.type_in(shell, step, places, f"{session}:{step.line}")
    finally:
        shell.close()
        unrecorded = played_program.unrecorded(folder / "programs")
        assert not unrecorded, f"record the guide again; see above:\n{unrecorded}"


def make_impatient(programs: Path, timeout_s: float) -> None:
    """Nobody waits as long as a student."""
    sleep, timeout = shutil.which("sleep"), shutil.which("timeout")
    played_program.make_program(programs / "sleep", f"#!/bin/sh\nexec {sleep} 0.01\n")
    played_program.make_program(programs / "timeout", f'#!/bin/sh\nshift\nexec {timeout} {timeout_s} "$@"\n')


def put_logs(folder: Path, text: str, wrong: Wrong | None) -> None:
    """What the containers of a logger would have written."""
    if wrong and wrong.log:
        text, right = wrong.log(text), text
        assert text != right
    for name in ("logger.log", "other.log"):
        (folder / name).mkdir()
        (folder / name / "logs.lock").touch()
        (folder / name / "logs").write_text(text)


@pytest.mark.parametrize("language", ["lab", "es"])
@pytest.mark.parametrize("session", SESSIONS)
def test_a_right_system_passes(session: str, language: str, tmp_path: Path) -> None:
    play(language, session, tmp_path)


def trials() -> Iterator[tuple[str, Wrong]]:
    """Each wrong system in English, and in Spanish where what notices it is not the same there, word by word."""
    for wrong in WRONG:
        english, spanish = (checks_of(language, wrong) for language in ("lab", "es"))
        yield "lab", wrong
        if english != spanish:
            yield "es", wrong


def checks_of(language: str, wrong: Wrong) -> list[tuple[str, str]]:
    """The commands, with their outputs, any of which may be the one that notices ``wrong``."""
    steps = pages.steps_of(TUTORIAL / language / f"session-{wrong.session}.md")
    checks = [check for step in steps if step.kind == "console" for check in pages.commands_of(step.body)]
    return [(command, want) for command, want in checks if wrong.noticed_by in command]


@pytest.mark.parametrize(
    ("language", "wrong"), [*trials()], ids=lambda one: one.name.replace(" ", "-") if isinstance(one, Wrong) else one
)
def test_a_wrong_system_fails(language: str, wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if wrong.noticed_by in (HANDED_RUN, "until LINE", "cbw client EXT"):  # nothing in the command itself ends it
        monkeypatch.setattr(pages, "PATIENCE_S", 2 * HANGS_S)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as failed:
        play(language, f"session-{wrong.session}.md", tmp_path, wrong)
    assert wrong.noticed_by in str(failed.value).splitlines()[0], failed.value


@pytest.mark.parametrize("session", SESSIONS)
def test_every_check_notices_a_wrong_system(session: str) -> None:
    number = SESSIONS.index(session) + 1
    for step in pages.steps_of(TUTORIAL / "lab" / session):
        for command, want in pages.commands_of(step.body) if step.kind == "console" else ():
            is_check = want.strip() not in ("", "...") and not command.startswith(NO_CHECK)
            noticing = [wrong for wrong in WRONG if wrong.session == number and wrong.noticed_by in command]
            assert noticing or not is_check, (
                f"{session}:{step.line}: {command}: no wrong system is known that this notices"
            )

"""What the pages show is run: every ``python`` and ``console`` block, in order, against real processes.

A python block whose first line is ``# name.py`` is saved under that name; others are executed here, in one namespace for
each page. An ``output`` block behind one is what it prints. In a console block the lines after ``$`` are typed into one
shell for each page, and the other lines are what is printed: ``...`` stands for anything in its line, and on a line of its own
for any lines. What ends with ``&`` runs until the page ends. A command that fails must be followed by ``$ echo $?``.
``<!-- test: … -->`` is a command that readers need not see. Blocks of any other language are not run.

A page of ``examples/`` finds the files beside it. Ports 9997 to 9999, and 8000, are replaced by free ones in the text, and those
of the broker as defaults too.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from cbw import settings
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    ROOT / "docs" / "tutorial" / "es" / "exercises.md",
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
    ROOT / "docs" / "reference" / "control.md",
    ROOT / "docs" / "reference" / "wire.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
]
LANGUAGES = {"python", "console", "output", "sh", "text", "toml", "yaml", "mermaid", ""}
STEP = re.compile(r"^<!-- test: (?P<hidden>.+?) -->$|^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 40.0
MARK = "--- done:"


class Step(NamedTuple):
    """A block, or a hidden command, and where it stands."""

    kind: str
    body: str
    line: int


def steps_of(page: Path) -> list[Step]:
    text = page.read_text()
    found = []
    for match in STEP.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        hidden = match["hidden"]
        found.append(Step("console", f"$ {hidden}\n", line) if hidden else Step(match["kind"], match["body"], line + 1))
    return found


def commands_of(block: str) -> Iterator[tuple[str, str]]:
    """``(command, what it should print)``."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(want: str, got: str) -> bool:
    """Whether ``got`` is what a page shows. Empty lines do not count, nor does how much white space is between words."""
    pattern = ""
    for words in filter(None, map(str.split, want.splitlines())):
        escaped = (re.escape(word).replace(re.escape("..."), ".*") for word in words)
        pattern += "(?:.*\n)*" if words == ["..."] else " ".join(escaped) + "\n"
    lines = filter(None, map(str.split, got.splitlines()))
    return re.fullmatch(pattern, "".join(" ".join(words) + "\n" for words in lines)) is not None


def first_lines(log: Path, count: int) -> str:
    return "".join(log.read_text().splitlines(keepends=True)[:count]) if log.exists() else ""


class Names(Protocol):
    """What stands in the place of names that a page uses."""

    def into(self, text: str) -> str: ...

    def back(self, text: str) -> str: ...


class Ports:
    """Free ports in the place of the four that the pages name: those of cbw, and that of a web server."""

    def __init__(self) -> None:
        self.client, self.worker, status, web = free_port(), free_port(), free_port(), free_port()
        self._pairs = {"9998": str(self.client), "9999": str(self.worker), "9997": str(status), "8000": str(web)}

    def into(self, text: str) -> str:
        """``text`` with the free ports."""
        return re.sub(r"\b(999[789]|8000)\b", lambda found: self._pairs[found[0]], text)

    def back(self, text: str) -> str:
        """``text`` as the page has it."""
        for shown, real in self._pairs.items():
            text = text.replace(real, shown)
        return text


class Shell:
    """A shell that commands are typed into, and the jobs that it starts."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._jobs = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def run(self, command: str) -> tuple[str, int]:
        """What it prints, and its exit code. It has no input: a program that reads some would take what is typed next."""
        assert self._process.stdin is not None
        self._process.stdin.write(
            f"{{ {command}\n}} < /dev/null\n__code=$?; echo; echo '{MARK}' $__code; (exit $__code)\n"
        )
        self._process.stdin.flush()
        printed: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"still runs after {PATIENCE_S:g} s: {command}\n{''.join(printed)}{self.logs()}")
            assert line is not None, f"the shell ended: {command}\n{''.join(printed)}"
            if line.startswith(MARK):
                return "".join(printed), int(line.removeprefix(MARK))
            printed.append(line)

    def start(self, command: str) -> Path:
        """Run it beside what comes next; where its output goes."""
        self._jobs += 1
        log = self._folder / f"job-{self._jobs}.log"
        job, _, rest = command.partition("&")
        self.run(f"{job} > {shlex.quote(str(log))} 2>&1 < /dev/null & {rest}")
        return log

    def logs(self) -> str:
        """What the jobs have printed, for those who look for a mistake."""
        return "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self._folder.glob("job-*.log")))

    def written_by(self, command: str) -> str:
        """What ``command`` has put into files instead of printing it, for those who look for a mistake."""
        pwd, _ = self.run("pwd")
        paths = [Path(pwd.strip(), name) for name in re.findall(r"(?<!&)> *([\w./-]+)", command)]
        return "".join(f"--- {path.name}\n{path.read_text()}" for path in paths if path.is_file())

    def close(self) -> None:
        """End it and its jobs."""
        group = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        self._process.wait()
        self._reader.join(5)  # it ends when the last job has closed what it inherited
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def type_in(shell: Shell, step: Step, ports: Names, where: str) -> None:
    commands = list(commands_of(step.body))
    for number, (command, want) in enumerate(commands):
        is_job = re.search(r"&( *\w+=\$!)?$", command) is not None
        if is_job:
            log = shell.start(ports.into(command))
            deadline = time.monotonic() + PATIENCE_S
            while not matches(want, got := ports.back(first_lines(log, want.count("\n")))):
                assert time.monotonic() < deadline, f"{where}: {command}\nwanted:\n{want}\ngot:\n{got}"
                time.sleep(0.02)
            continue
        got, code = shell.run(ports.into(command))
        # What a client says after two seconds: only a busy machine makes it wait that long where a page does not.
        got = re.sub(r"^(waiting for|esperando) .*\n", "", ports.back(got), flags=re.MULTILINE)
        if not matches(want, got):
            pytest.fail(f"{where}: {command}\nwanted:\n{want}\ngot:\n{got}\n{shell.written_by(command)}{shell.logs()}")
        following = commands[number + 1][0] if number + 1 < len(commands) else ""
        is_failure_shown = following == "echo $?"
        assert code == 0 or is_failure_shown, f"{where}: {command}\nexit code {code}:\n{got}\n{shell.logs()}"


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: Ports) -> Iterator[Shell]:
    """A shell in an empty folder in which ``cbw`` is installed and uses the free ports if nobody says otherwise."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(
        f"import cbw.settings as s\ns.CLIENT_PORT, s.WORKER_PORT = {ports.client}, {ports.worker}\n"
    )
    folder = tmp_path / "page"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CBW_", "BROKER_", "LOGGER_"))}
    programs = Path(sys.executable).parent
    kept |= {"PYTHONPATH": str(hooks), "PATH": f"{programs}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1"}
    kept["CBW_STATUS_PORT"] = "0"
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(settings, "CLIENT_PORT", ports.client)
    monkeypatch.setattr(settings, "WORKER_PORT", ports.worker)
    for name in ("BROKER_HOST", "BROKER_PORT"):
        monkeypatch.delenv(name, raising=False)
    one = Shell(folder, kept)
    yield one
    one.close()


@pytest.fixture
def no_new_modules(tmp_path: Path) -> Iterator[None]:
    """Modules that a page makes are forgotten after it; not libraries, of which there would be two then."""
    yield
    for name, module in list(sys.modules.items()):
        if tmp_path in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.mark.usefixtures("no_new_modules")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, shell: Shell, ports: Ports) -> None:
    if page.parent.parent == ROOT / "examples":
        for file in filter(Path.is_file, page.parent.iterdir()):
            shutil.copy(file, file.name)
    namespace: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for step in steps_of(page):
        where = f"{page.relative_to(ROOT)}:{step.line}"
        assert step.kind in LANGUAGES, f"{where}: a block of {step.kind!r}; {sorted(LANGUAGES)} are known here"
        if step.kind == "console":
            type_in(shell, step, ports, where)
        elif step.kind in ("python", "toml") and (named := re.match(r"# (\w+\.\w+)\n", step.body)):
            Path(named[1]).write_text(ports.into(step.body))
        elif step.kind == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                # Line numbers of the page, so that a traceback leads there.
                exec(compile("\n" * (step.line - 1) + ports.into(step.body), str(page), "exec"), namespace)
            printed = ports.back(output.getvalue())
        elif step.kind == "output":
            assert matches(step.body, printed), f"{where}: wanted:\n{step.body}\ngot:\n{printed}"


def test_the_exercises_are_the_same_in_both_languages() -> None:
    """All that is typed or saved. What ``cbw`` says is in the language of the page, and is compared by :func:`test_page`."""
    english, spanish = (
        [
            [command for command, _ in commands_of(step.body)] if step.kind == "console" else step.body
            for step in steps_of(ROOT / "docs" / "tutorial" / folder / "exercises.md")
        ]
        for folder in (".", "es")
    )
    assert english[0] == ["export CBW_LANG=en"] and spanish[0] == ["export CBW_LANG=es"]
    assert english[1:] == spanish[1:]


def test_a_wrong_line_is_noticed() -> None:
    assert matches("BRO_... serves\n", "BRO_x serves\n\n")
    assert matches("a\n...\nz\n", "a\nz\n") and matches("a\n...\nz\n", "a\n\nb\nc\nz\n") and matches("", "\n")
    assert not matches("BRO_... serves\n", "BRO_x sleeps\n")
    assert not matches("C-1 -> C-1 W...  (... s)\n", "C-1 -> C-1 W1 (1 s)\nC-2 -> C-9 W1 (1 s)\n"), (
        "one line is not two"
    )
    assert not matches("", "something\n")
    assert list(commands_of("$ a\nb\n$ c\n")) == [("a", "b\n"), ("c", "")]

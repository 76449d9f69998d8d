"""``cbw up``: a whole system as processes of this machine, which are watched, restarted and stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from cbw.core import catalogue
from cbw.core.histogram import Histogram, exactly
from cbw.errors import CannotBind, NotReady, UsageError
from cbw.language import translated
from cbw.observe.trace import read
from cbw.settings import LOG_PORT, LOGGER_DIR, STATUS
from cbw.signals import end_of

ROLE_START_S = 10.0
"""Time for a broker or a logger to print its ports: a start takes less than a second, even on a busy machine a few."""
ROLE_RESTART_S = 0.5
"""Delay before a role that died is started again; it doubles each time that the role dies."""
RESTART_DOUBLINGS_MAX = 3
"""Bound of the delay: a role that dies again and again is started again after 0.5, 1, 2, 4, 4, 4 … seconds."""
ROLE_STOP_S = 12.0
"""Time for all roles to end after SIGTERM, a little more than their grace time; then they are killed."""
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
LOG_FILE = f"{LOGGER_DIR.default}/logs"
PORTS_ADVICE = "Stop what listens there, or give others: --client-port, --worker-port, --log-port."
_PORTS = re.compile(r"serves clients on port (\d+), workers on port (\d+)")
_LOG_PORT = re.compile(r"logs to .*: text on port (\d+)")
_ANSWER = re.compile(r" -> .* (\S+)  \(\d+\.\d+ s\)$")
"""A line of the demonstration client: the answer of a demonstration worker ends with the worker's id."""
_STATUS_PORT, _STATUS_LISTEN, _ = (setting.environment for setting in STATUS)
_NO_STATUS = {_STATUS_PORT: "0"}
"""No status page: only one role of a host can have the usual port."""
_COUNT = re.compile("[0-9]{1,3}")
"""A number of processes that one machine may start: each takes some 20 MiB."""
_libc = ctypes.CDLL(None)


def default_log_file() -> str:
    """The file that the logger of a system writes to: ``logs`` in ``LOGGER_DIR`` of the environment, or in the usual folder."""
    return str(Path(os.environ.get(LOGGER_DIR.environment) or LOGGER_DIR.default, "logs"))


def is_port_free(number: int) -> bool:
    """Whether no program of this machine has this port."""
    try:
        socket.create_server(("", number)).close()
    except OSError:
        return False
    return True


class Scale(msgspec.Struct, frozen=True):
    """Numbers of processes, by the service names of the lab's Compose file."""

    cli: int = 2
    wor: int = 4
    bro: int = 1
    log: int = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a system consists of, and how it runs."""

    scale: Scale = Scale()
    client_port: int = 9998
    worker_port: int = 9999
    host: str = "127.0.0.1"
    requests: int = 10
    work_time_s: float = 1.0
    handlers: tuple[str, ...] = ()
    trace: str | None = None
    journal: str | None = None  # the folder of the broker's journal
    log_port: int = LOG_PORT
    log_file: str = LOG_FILE
    status_port: int = 0  # where the broker serves its status pages; 0: nowhere
    is_verbose: bool = False
    is_restarting: bool = True


class ClientSummary(msgspec.Struct):
    """What one client did. Times are in seconds; ``workers`` are the ids of those that answered it."""

    client: str
    requests: int
    answers: int
    workers: list[str]
    p50_s: float | None
    p99_s: float | None


class Role:
    """A role of the system: a process, and the processes after it if it is started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        on_line: Callable[[str, str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment or {}
        self.name = name
        self.kind = name.partition("_")[0]
        self.command = command
        self.restarts = 0
        self.restart_at: float | None = None
        self.is_end_told = False
        self.process: subprocess.Popen[str] | None = None
        self.first_lines: queue.SimpleQueue[str | None] | None = None  # while the ports are awaited; None: no more
        self._on_line = on_line

    def start(self) -> None:
        """Start a process. The thread that calls this must live as long as the system: its end ends the process."""
        self.restart_at = None
        self.process = start_process(
            self.command,
            {"PYTHONUNBUFFERED": "1", **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._read, args=(self.process,), name=self.name, daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._pass_first_line(line)
                self._on_line(self.name, line.rstrip("\n"))
        self._pass_first_line(None)

    def _pass_first_line(self, line: str | None) -> None:
        if (lines := self.first_lines) is not None:
            lines.put(line)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last process, or the negative number of the signal that ended it; None: it runs."""
        return None if self.process is None else self.process.poll()


class LocalSystem:
    """Loggers, a broker, workers and clients. ``on_line(role, line)`` gets every line that they print, from several threads.

    Use it in a ``with`` statement, which stops every process at its end.
    """

    def __init__(self, options: Options, on_line: Callable[[str, str], None]) -> None:
        self.options = options
        self._on_line = on_line
        self._folder = tempfile.TemporaryDirectory(prefix="cbw-up-")
        self._is_stop_wanted = threading.Event()
        self.loggers: list[Role] = []
        self._log_ports: list[str] = []
        self.broker: Role | None = None
        self.workers: list[Role] = []
        self.clients: list[Role] = []
        self._workers_of: dict[str, dict[str, None]] = {}

    def __enter__(self) -> LocalSystem:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def roles(self) -> list[Role]:
        """All roles, in the order in which they are started."""
        return [*self.loggers, *([self.broker] if self.broker else []), *self.workers, *self.clients]

    def start(self) -> tuple[int, int]:
        """Start everything; returns the client port and the worker port.

        Raises:
            CannotBind: a port is taken.
            UsageError: the broker or a logger cannot run with what it was told.
            NotReady: a logger or the broker does not start.
        """
        options = self.options
        for number in range(1, options.scale.log + 1):
            self._start_logger(number)
        client_port, worker_port = self._start_broker()
        worker_command = ["--work-time", str(options.work_time_s)]
        for handler in options.handlers:
            worker_command += ["--handler", handler]
        for number in range(1, options.scale.wor + 1):
            command = self._command("worker", f"WOR_{number}", options.host, str(worker_port), *worker_command)
            self.workers.append(Role(f"wor_{number}", command, self._on_line, self._environment(number)))
        for number in range(1, options.scale.cli + 1):
            name = f"CLI_{number}"
            arguments = [name, str(options.requests), options.host, str(client_port), "--trace", self._trace(name)]
            command = self._command("client", *arguments)
            self.clients.append(Role(f"cli_{number}", command, self._note_answer, self._environment(number)))
        for role in (*self.workers, *self.clients):
            role.start()
        return client_port, worker_port

    def _start_logger(self, number: int) -> None:
        """Start a logger. All loggers write to the same file, and the roles are spread over them."""
        options = self.options
        port = str(options.log_port if number == 1 else 0)
        arguments = [options.log_file, "--listen", options.host]
        role = Role(f"log_{number}", self._command("logger", port, *arguments), self._on_line, _NO_STATUS)
        self.loggers.append(role)
        (port,) = self._wait_for(role, "logger", _LOG_PORT)
        role.command = self._command("logger", port, *arguments)
        self._log_ports.append(port)

    def _start_broker(self) -> tuple[int, int]:
        options = self.options
        ports = [str(options.client_port), str(options.worker_port)]
        arguments = ["--listen", options.host, *(["--verbose"] if options.is_verbose else [])]
        arguments += ["--trace", options.trace] if options.trace else []
        arguments += ["--journal", options.journal] if options.journal else []
        status_listen = os.environ.get(_STATUS_LISTEN, options.host)
        environment = {_STATUS_PORT: str(options.status_port), _STATUS_LISTEN: status_listen, **self.log_environment(1)}
        self.broker = Role("bro_1", self._command("broker", *ports, *arguments), self._on_line, environment)
        actual = self._wait_for(self.broker, "broker", _PORTS)
        self.broker.command = self._command("broker", *actual, *arguments)
        return int(actual[0]), int(actual[1])

    def _environment(self, number: int) -> Mapping[str, str]:
        return {**_NO_STATUS, **self.log_environment(number)}

    def log_environment(self, number: int) -> Mapping[str, str]:
        """Environment variables that tell role ``number`` of its kind where its logger is."""
        if not self._log_ports:
            return {}  # the environment of the caller may name a logger outside
        return {"LOGGER_HOST": self.options.host, "LOGGER_PORT": self._log_ports[number % len(self._log_ports)]}

    def _wait_for(self, role: Role, name: str, pattern: re.Pattern[str]) -> Sequence[str]:
        """Start ``role`` and wait until it prints its ports."""
        lines = role.first_lines = queue.SimpleQueue()
        role.start()
        said: list[str] = []
        deadline = time.monotonic() + ROLE_START_S
        while time.monotonic() < deadline:
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:  # the process is about to end
                assert role.process is not None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    role.process.wait(ROLE_START_S)
                break
            said.append(line.strip().removeprefix("cbw: "))
            if found := pattern.search(line):
                role.first_lines = None
                return found.groups()
        first = said[0] if said else "it said nothing"
        if role.exit_code == UsageError.exit_code:
            why = next((line.removeprefix("Error: ") for line in said if line.startswith("Error: ")), first)
            raise UsageError(f"the {name} cannot run like this: {why}")
        text = f"the {name} did not start: {first}"
        if re.search(translated(r"port \d+ is in use"), text):
            raise CannotBind(text, advice=PORTS_ADVICE)
        raise NotReady(text, advice=" ".join(said[1:]))

    def _note_answer(self, role: str, line: str) -> None:
        """A client printed a line: remember which worker answered it."""
        if found := _ANSWER.search(line):
            self._workers_of.setdefault(role, {})[found[1]] = None
        self._on_line(role, line)

    def _command(self, role: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cbw", role, *arguments]

    def _trace(self, client: str) -> str:
        return str(Path(self._folder.name) / f"{client}.jsonl")

    def request_stop(self) -> None:
        """Make :meth:`watch` return. Safe from signal handlers."""
        self._is_stop_wanted.set()

    def watch(self, *, until_done: bool, on_done: Callable[[], None]) -> None:
        """Restart roles that die until asked to stop or, with ``until_done``, until every client has ended.

        ``on_done`` is called once, when the last client has ended.

        Raises:
            UsageError: a role cannot run with what it was told, a handler that does not import for example.
        """
        is_done = False
        while not self._is_stop_wanted.wait(0.05):
            for role in self.roles:
                if not role.is_running:
                    self._look_after(role)
            if not is_done and all(_has_ended(role, self.options.is_restarting) for role in self.clients):
                is_done = True
                on_done()
                if until_done:
                    return

    def _look_after(self, role: Role) -> None:
        """Say that a role which does not run has ended, or start it again when its time has come."""
        if role.exit_code == UsageError.exit_code:
            raise UsageError(f"{role.name} cannot run like this; it says why above")
        if _has_ended(role, self.options.is_restarting):
            if not (role.is_end_told or _has_done_its_work(role)):
                role.is_end_told = True
                self._on_line(role.name, f"{end_of(role.exit_code)}; it stays so")
            return
        now = time.monotonic()
        if role.restart_at is None:
            delay = ROLE_RESTART_S * 2 ** min(role.restarts, RESTART_DOUBLINGS_MAX)
            role.restart_at = now + delay
            self._on_line(role.name, f"{end_of(role.exit_code)}; starting it again in {delay:g} s")
        elif now >= role.restart_at:
            role.restarts += 1
            role.start()

    def stop(self) -> None:
        """Stop clients, then workers, then the broker and the loggers; kill what has not ended by :data:`ROLE_STOP_S`."""
        deadline = time.monotonic() + ROLE_STOP_S
        for group in (self.clients, self.workers, [self.broker] if self.broker else [], self.loggers):
            running = [role for role in group if role.is_running]
            for role in running:
                assert role.process is not None
                role.process.send_signal(signal.SIGTERM)
            for role in running:
                assert role.process is not None
                try:
                    role.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    role.process.kill()
                    role.process.wait()

    def kill(self) -> None:
        """Kill every process at once."""
        for role in self.roles:
            if role.process is not None and role.is_running:
                role.process.kill()

    def summary(self) -> list[ClientSummary]:
        """What each client did, from its own trace, and which workers answered, from what it printed.

        A client that was started again begins with its first request again: only what it did since then counts.
        """
        return [self._summary_of(f"CLI_{number}", role.name) for number, role in enumerate(self.clients, 1)]

    def _summary_of(self, client: str, role: str) -> ClientSummary:
        sent: dict[str, float] = {}
        times = Histogram(exactly)
        path = self._trace(client)
        for record in read(path) if Path(path).exists() else ():
            if record.event == catalogue.SENT:
                if record.request in sent:
                    sent.clear()
                    times = Histogram(exactly)
                sent[record.request] = record.at
            elif record.event == catalogue.GOT and record.request in sent:
                times.add(record.at - sent[record.request])
        workers = sorted(self._workers_of.get(role, ()))
        return ClientSummary(client, len(sent), times.count, workers, times.quantile(0.5), times.quantile(0.99))


def _has_ended(role: Role, is_restarting: bool) -> bool:
    """Whether ``role`` has ended for good: a client that has done its requests, or any role that is not restarted."""
    code = role.exit_code
    if role.is_running or (code is None and role.process is not None):
        return False
    return not is_restarting or _has_done_its_work(role)


def _has_done_its_work(role: Role) -> bool:
    """Whether ``role`` is a client that ended by itself, with or without all of its answers."""
    return role.kind == "cli" and role.exit_code in (0, 1)


def start_process(
    command: Sequence[str], environment: Mapping[str, str], *, stdin: int, stdout: int, stderr: int | None = None
) -> subprocess.Popen[str]:
    """Start a process that a Ctrl-C here does not reach, and that ends with the calling thread."""
    with _signals_deferred():
        return subprocess.Popen(
            command,
            text=True,
            errors="replace",
            start_new_session=True,  # so that we can stop all of them in order
            preexec_fn=die_with_parent,
            env={**os.environ, **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer signals: an exception of a handler would be lost in the hooks that Python runs around a fork."""
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        yield
        return
    caught: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, handler in previous.items():
        if callable(handler):
            signal.signal(number, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            if callable(handler):
                signal.signal(number, handler)
        for one in caught:
            signal.raise_signal(one)


def die_with_parent() -> None:
    """For ``preexec_fn``: the kernel ends the child when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def scale_of(texts: Sequence[str], default: Scale) -> Scale:
    """The numbers of processes that texts like ``["cli=2", "wor=4"]`` ask for.

    Raises:
        ValueError: a text names an unknown service or has no number; the error says which.
    """
    counts: dict[str, int] = msgspec.structs.asdict(default)
    for text in texts:
        name, separator, number = text.partition("=")
        if name not in counts:
            raise ValueError(f"{name!r} is no service; there are {', '.join(counts)}")
        if not separator or not _COUNT.fullmatch(number):
            raise ValueError(f"{text!r} is no scale; write a number from 0 to 999, such as {name}=2")
        counts[name] = int(number)
    if counts["bro"] != 1:
        raise ValueError(f"bro={counts['bro']}: a system has one broker")
    return msgspec.convert(counts, Scale)


def totals(clients: Sequence[ClientSummary]) -> Mapping[str, int]:
    """The numbers of requests and answers of all clients together."""
    return {
        "requests": sum(client.requests for client in clients),
        "answers": sum(client.answers for client in clients),
    }

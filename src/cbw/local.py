"""``cbw up``: the roles of a system as processes of this machine, watched, restarted and stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from cbw.errors import CannotBind, NotReady, UsageError
from cbw.settings import LOG_PORT, LOGGER_DIR, STATUS
from cbw.signals import end_of
from cbw.trace import read

START_S = 10.0
"""A broker that has not said its ports by then has failed."""
RESTART_S = 0.5
RESTART_DOUBLINGS_MAX = 3
"""A role that dies again and again is started again after 0.5 s, 1 s, 2 s, 4 s, 4 s, 4 s …"""
STOP_S = 12.0
"""A role that has not ended so long after SIGTERM is killed: a little more than the grace time of the roles."""
_PR_SET_PDEATHSIG = 1
LOG_FILE = f"{LOGGER_DIR.default}/logs"
PORTS_ADVICE = "Stop what listens there, or give others: --client-port, --worker-port, --log-port."
_PORTS = re.compile(r"serves clients on port (\d+), workers on port (\d+)")
_LOG_PORT = re.compile(r"logs to .*: text on port (\d+)")
_ANSWER = re.compile(r" -> .* (\S+)  \(\d+\.\d+ s\)$")
"""What the demonstration client prints: the demonstration worker's answer ends with its id."""
_STATUS_PORT, _STATUS_HOST = (setting.environment for setting in STATUS)
_NO_STATUS = {_STATUS_PORT: "0"}
"""All roles are on one host, where only one can have the usual port."""
_libc = ctypes.CDLL(None)


class Scale(msgspec.Struct, frozen=True):
    """How many of each role, by the service names of the lab's Compose file."""

    cli: int = 2
    wor: int = 4
    bro: int = 1
    log: int = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a system is made of."""

    scale: Scale = Scale()
    client_port: int = 9998
    worker_port: int = 9999
    host: str = "127.0.0.1"
    requests: int = 10
    work_time_s: float = 1.0
    handlers: tuple[str, ...] = ()
    trace: str | None = None
    log_port: int = LOG_PORT
    log_file: str = LOG_FILE
    status_port: int = 0  # where the broker serves its status pages; 0: nowhere
    is_verbose: bool = False
    is_restarting: bool = True


class ClientSummary(msgspec.Struct):
    """What one client did: times in seconds, ``workers`` who answered it, by their ids."""

    client: str
    requests: int
    answers: int
    workers: list[str]
    p50_s: float | None
    p99_s: float | None


class Role:
    """One process of the system, and its successors if it is started again."""

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
        self.first_lines: queue.SimpleQueue[str | None] | None = None  # while somebody wants them
        self._on_line = on_line

    def start(self) -> None:
        """Start it. Must be called from a thread that lives as long as the system: its end would end the process."""
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
                self._is_said(line)
                self._on_line(self.name, line.rstrip("\n"))
        self._is_said(None)

    def _is_said(self, line: str | None) -> None:
        if (lines := self.first_lines) is not None:
            lines.put(line)

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of its last process; negative: the signal that ended it."""
        return None if self.process is None else self.process.poll()


class System:
    """Loggers, a broker, workers and clients. ``on_line(role, line)`` is told everything that they print, from many threads.

    Use it in a ``with`` statement: leaving it stops every process that was started.
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

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def roles(self) -> list[Role]:
        """All roles, in the order in which they are started."""
        return [*self.loggers, *([self.broker] if self.broker else []), *self.workers, *self.clients]

    def start(self) -> tuple[int, int]:
        """Start everything; the client port and the worker port.

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
            self.clients.append(Role(f"cli_{number}", command, self._answered, self._environment(number)))
        for role in (*self.workers, *self.clients):
            role.start()
        return client_port, worker_port

    def _start_logger(self, number: int) -> None:
        """One more logger; all of them write to the same file, and the roles are spread over them."""
        options = self.options
        port = str(options.log_port if number == 1 else 0)
        arguments = [options.log_file, "--host", options.host]
        role = Role(f"log_{number}", self._command("logger", port, *arguments), self._on_line, _NO_STATUS)
        self.loggers.append(role)
        (port,) = self._wait_for(role, "logger", _LOG_PORT)
        role.command = self._command("logger", port, *arguments)
        self._log_ports.append(port)

    def _start_broker(self) -> tuple[int, int]:
        options = self.options
        ports = [str(options.client_port), str(options.worker_port)]
        arguments = ["--host", options.host, *(["--verbose"] if options.is_verbose else [])]
        arguments += ["--trace", options.trace] if options.trace else []
        status_host = os.environ.get(_STATUS_HOST, options.host)
        environment = {_STATUS_PORT: str(options.status_port), _STATUS_HOST: status_host, **self.log_environment(1)}
        self.broker = Role("bro_1", self._command("broker", *ports, *arguments), self._on_line, environment)
        actual = self._wait_for(self.broker, "broker", _PORTS)
        self.broker.command = self._command("broker", *actual, *arguments)
        return int(actual[0]), int(actual[1])

    def _environment(self, number: int) -> Mapping[str, str]:
        return {**_NO_STATUS, **self.log_environment(number)}

    def log_environment(self, number: int) -> Mapping[str, str]:
        """What tells role ``number`` of its kind where its logger is."""
        if not self._log_ports:
            return {}  # one outside, if the caller's environment names it
        return {"LOGGER_HOST": self.options.host, "LOGGER_PORT": self._log_ports[number % len(self._log_ports)]}

    def _wait_for(self, role: Role, name: str, pattern: re.Pattern[str]) -> Sequence[str]:
        """Start ``role`` and wait until it says its ports."""
        lines = role.first_lines = queue.SimpleQueue()
        role.start()
        said: list[str] = []
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:  # it is about to end
                assert role.process is not None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    role.process.wait(START_S)
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
        if text.endswith("is in use"):
            raise CannotBind(text, advice=PORTS_ADVICE)
        raise NotReady(text, advice=" ".join(said[1:]))

    def _answered(self, role: str, line: str) -> None:
        """A client printed a line: take down who answered."""
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
        """Look after the roles until asked to stop or, with ``until_done``, until every client has ended.

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
        """A role that is not running: has it ended, or is it to be started again?"""
        if role.exit_code == UsageError.exit_code:
            raise UsageError(f"{role.name} cannot run like this; it says why above")
        if _has_ended(role, self.options.is_restarting):
            if not (role.is_end_told or _has_done_its_work(role)):
                role.is_end_told = True
                self._on_line(role.name, f"{end_of(role.exit_code)}; it stays so")
            return
        now = time.monotonic()
        if role.restart_at is None:
            delay = RESTART_S * 2 ** min(role.restarts, RESTART_DOUBLINGS_MAX)
            role.restart_at = now + delay
            self._on_line(role.name, f"{end_of(role.exit_code)}; starting it again in {delay:g} s")
        elif now >= role.restart_at:
            role.restarts += 1
            role.start()

    def stop(self) -> None:
        """Stop clients, then workers, then the broker and the loggers; kill what has not ended after :data:`STOP_S` in all."""
        deadline = time.monotonic() + STOP_S
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
        """End everything at once."""
        for role in self.roles:
            if role.process is not None and role.is_running:
                role.process.kill()

    def summary(self) -> list[ClientSummary]:
        """What each client did, from its own trace, and who answered, from what it printed: of one that was started again,
        what it did since, for it begins with its first request again.
        """
        return [self._summary_of(f"CLI_{number}", role.name) for number, role in enumerate(self.clients, 1)]

    def _summary_of(self, client: str, role: str) -> ClientSummary:
        sent: dict[str, float] = {}
        times: list[float] = []
        path = self._trace(client)
        for record in read(path) if Path(path).exists() else ():
            if record.event == "sent":
                if record.request in sent:
                    sent.clear()
                    times.clear()
                sent[record.request] = record.at
            elif record.event == "got" and record.request in sent:
                times.append(record.at - sent[record.request])
        times.sort()
        workers = sorted(self._workers_of.get(role, ()))
        return ClientSummary(client, len(sent), len(times), workers, _quantile(times, 0.5), _quantile(times, 0.99))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _has_ended(role: Role, is_restarting: bool) -> bool:
    """Whether ``role`` is over for good: a client that did its requests, or anything that is not to be restarted."""
    code = role.exit_code
    if role.is_running or (code is None and role.process is not None):
        return False
    return not is_restarting or _has_done_its_work(role)


def _has_done_its_work(role: Role) -> bool:
    """Whether ``role`` is a client that ended by itself, with all of its answers or not."""
    return role.kind == "cli" and role.exit_code in (0, 1)


def start_process(
    command: Sequence[str], environment: Mapping[str, str], *, stdin: int, stdout: int, stderr: int | None = None
) -> subprocess.Popen[str]:
    """A process that does not see our Ctrl-C, and ends with the thread that starts it."""
    with _signals_wait():
        return subprocess.Popen(
            command,
            text=True,
            errors="replace",
            start_new_session=True,  # so that we can stop all of them in order
            preexec_fn=_die_with_parent,
            env={**os.environ, **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """What the handler of a signal raises would be lost in the hooks that Python runs around a fork."""
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        yield
        return
    come: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, handler in previous.items():
        if callable(handler):
            signal.signal(number, lambda number, _frame: come.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            if callable(handler):
                signal.signal(number, handler)
        for one in come:
            signal.raise_signal(one)


def _die_with_parent() -> None:
    """For ``preexec_fn``: the kernel ends the child when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def scale_of(texts: Sequence[str], default: Scale) -> Scale:
    """The scale that ``["cli=2", "wor=4"]`` asks for.

    Raises:
        ValueError: an unknown service, or no number; the text says which.
    """
    counts: dict[str, int] = msgspec.structs.asdict(default)
    for text in texts:
        name, separator, number = text.partition("=")
        if name not in counts:
            raise ValueError(f"{name!r} is no service; there are {', '.join(counts)}")
        if not separator or not number.isascii() or not number.isdigit():
            raise ValueError(f"{text!r} is no scale; write {name}=2")
        counts[name] = int(number)
    if counts["bro"] != 1:
        raise ValueError(f"bro={counts['bro']}: a system has one broker")
    return msgspec.convert(counts, Scale)


def totals(clients: Sequence[ClientSummary]) -> Mapping[str, int]:
    """Requests and answers of all clients."""
    return {
        "requests": sum(client.requests for client in clients),
        "answers": sum(client.answers for client in clients),
    }

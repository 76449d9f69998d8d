"""Every setting of cbw, once: its default, its bounds, what it is for, and the environment variable that sets it.

The command line makes its options from this table, and ``docs/reference/settings.md`` is written from it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from typing import Any

import msgspec

from cbw.errors import UsageError

CLIENT_PORT = 9998
WORKER_PORT = 9999
STATUS_PORT = 9997
LOG_PORT = 9995
"""The logger's text port; its record port is the next one up."""


class Setting(msgspec.Struct, frozen=True):
    """One setting. ``default`` also gives its type; ``help`` says what it does and why the default is what it is."""

    name: str
    default: Any
    environment: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    kind: type | None = None  # where the default is None
    choices: tuple[str, ...] = ()
    short: str | None = None
    metavar: str | None = None

    @property
    def option(self) -> str:
        """How the command line spells it."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")

    @property
    def type(self) -> type:
        """What its value is."""
        return self.kind or type(self.default)


def _of(role: str) -> Callable[..., Setting]:
    def setting(name: str, default: Any, text: str, **bounds: Any) -> Setting:
        return Setting(name, default, f"CBW_{role}_{name.upper()}", text, **bounds)

    return setting


_broker, _worker, _logger, _client = map(_of, ("BROKER", "WORKER", "LOGGER", "CLIENT"))

BROKER_HOST = Setting("broker_host", "127.0.0.1", "BROKER_HOST", "Where the broker is: a name or an IP address.")
BROKER_PORT = Setting(
    "broker_port",
    None,
    "BROKER_PORT",
    "The broker's port for this role: 9998 for clients, 9999 for workers.",
    minimum=1,
    maximum=65535,
    kind=int,
)

LOGGER_HOST = Setting(
    "logger_host",
    None,
    "LOGGER_HOST",
    "Where the logger is, a name or an IP address; every event is sent there too. Without one there is no logger.",
    kind=str,
)
LOGGER_PORT = Setting(
    "logger_port",
    LOG_PORT,
    "LOGGER_PORT",
    "The logger's text port, as in the lab. Records go to the next port up, where they are acknowledged.",
    minimum=1,
    maximum=65534,
)

TRACE = (
    Setting("trace", None, "CBW_TRACE", "Append every event to FILE, a JSON line each.", kind=str, metavar="FILE"),
    Setting("verbose", False, "CBW_VERBOSE", "Print every event, also those of each request.", short="-v"),
)

STATUS = (
    Setting(
        "status_port",
        STATUS_PORT,
        "CBW_STATUS_PORT",
        "Where it serves /livez, /readyz, /metrics and /status.json over HTTP; 0: nowhere. If 9997 is taken and was not asked "
        "for, the role says so and does without.",
        minimum=0,
        maximum=65535,
    ),
    Setting("status_host", "*", "CBW_STATUS_HOST", "Address to serve them on; * is every one of this machine."),
)

LOG = (
    LOGGER_HOST,
    LOGGER_PORT,
    Setting(
        "log_level",
        "debug",
        "CBW_LOG_LEVEL",
        "What the logger gets: debug is every step of every request; info what happens to roles, and failed attempts; warning "
        "what of that is bad news.",
        choices=("debug", "info", "warning", "off"),
    ),
    Setting(
        "log_sample",
        1.0,
        "CBW_LOG_SAMPLE",
        "Share of the requests whose steps the logger gets. All roles choose the same ones, so stories stay whole.",
        minimum=0.0,
        maximum=1.0,
    ),
    Setting(
        "log_spool_bytes",
        64 << 20,
        "CBW_LOG_SPOOL_BYTES",
        "Memory for records that the logger has not yet on disk. When it is full the oldest go, and the log says how many.",
        minimum=1 << 16,
    ),
)

LOGGER_DIR = Setting(
    "logger_dir",
    "cbw-logs",
    "LOGGER_DIR",
    "The folder of the log, whose file is called logs; the logger makes it if it is not there.",
)

LOGGER = (
    _logger("host", "*", "Address to listen on; * is every IPv4 one of this machine, :: every one."),
    _logger(
        "fsync",
        "interval",
        "When the file is synced: after each write; half a second after it at most; when the system likes. With the first two, "
        "senders keep their records until they are synced, so that a crash of this machine loses none of them; of the lines "
        "from the text port, which nobody keeps, a crash may take those of half a second with interval, and those of some "
        "30 s with never.",
        choices=("always", "interval", "never"),
    ),
    _logger("format", "json", "Of the lines: json for programs, text for people.", choices=("json", "text")),
    _logger("rotate_bytes", 100 << 20, "A file of this size is closed, and a new one begun.", minimum=1 << 16),
    _logger("rotate_age_s", 86400.0, "So is one of this age; 0: only by size.", minimum=0.0),
    _logger("keep", 10, "So many closed files are kept.", minimum=0),
    _logger("compress", True, "Closed files are compressed (gzip). --no-compress leaves them as they are."),
)

BROKER = (
    _broker("host", "*", "Address to listen on; * is every IPv4 one of this machine, :: every one."),
    _broker(
        "requests_max",
        1_000_000,
        "Requests that may be here at once. Above it CBW/1 clients get Busy; at twice as many the client port is "
        "read no more, which is what plain clients feel. A waiting request of 100 bytes takes under 1 kB.",
        minimum=1,
    ),
    _broker("requests_bytes_max", 1 << 30, "The same for the bytes of their bodies together.", minimum=1),
    _broker(
        "body_bytes_max",
        64 << 20,
        "Largest body of a request. A larger one is refused; a message of a body this large and 1 MiB more ends the "
        "connection it comes over.",
        minimum=1,
        maximum=1 << 40,
    ),
    _broker(
        "kept_bytes_max",
        256 << 20,
        "Bytes of answers that are kept for clients that are away; and as many again for what waits for peers that do not "
        "read. Beyond it the oldest are dropped, counted and traced.",
        minimum=1,
    ),
    _broker("attempts_max", 3, "Attempts that may take their worker down before a request is given up.", minimum=1),
    _broker(
        "liveness_s", 3.0, "Silence after which a CBW/1 worker is taken for failed: three beats of 1 s.", minimum=1.5
    ),
    _broker(
        "answer_timeout_s",
        2.0,
        "Time for a plain (REQ) worker to answer, which has no beats; the lab's 2000 ms.",
        minimum=0.001,
    ),
    _broker("absence_s", 60.0, "How long a peer that lost its connection is remembered for its return.", minimum=0.0),
    _broker(
        "plain_ttl_s",
        None,
        "Deadline of requests of plain clients, whose dialect has no word for one; none by default.",
        minimum=0.001,
        kind=float,
    ),
    _broker("grace_s", 10.0, "After SIGTERM: time for running requests to finish.", minimum=0.0),
)

WORKER = (
    _worker(
        "concurrency", 1, "Tasks that it runs at once: threads for a function, coroutines for an async one.", minimum=1
    ),
    _worker(
        "processes",
        0,
        "Child processes that run the handler, each with the concurrency above; 0 runs it in this process. Needed for "
        "handlers that crash, or hold the GIL in C for longer than the broker's liveness.",
        minimum=0,
        maximum=1024,
    ),
    _worker("grace_s", 10.0, "After SIGTERM: time for running tasks to finish.", minimum=0.0),
    _worker("work_time_s", 1.0, "How long the demonstration worker takes for a request.", minimum=0.0),
)

CLIENT = (
    _client("timeout_s", 60.0, "Time for an answer; it travels with the request as its deadline.", minimum=0.001),
)


def default_of(table: tuple[Setting, ...], name: str) -> Any:
    """The default of the setting ``name`` of ``table``."""
    return next(setting.default for setting in table if setting.name == name)


def address(text: str | None, role: str) -> tuple[str, int]:
    """``(host, port)`` from ``"host:port"``, ``"host"`` or None, completed from the environment; ``[::1]:9998`` is one too.

    Raises:
        UsageError: it is not valid.
    """
    if text == "" or not isinstance(text, str | None):
        raise _no_host(text, BROKER_HOST)
    host, _, port = text.rpartition(":") if text and ":" in text else (text or "", "", "")
    if ":" in host and not _is_ipv6(host):  # what came last was part of the address
        host, port = text or "", ""
    host = host or os.environ.get(BROKER_HOST.environment) or BROKER_HOST.default
    port = port or os.environ.get(BROKER_PORT.environment) or str(CLIENT_PORT if role == "client" else WORKER_PORT)
    return checked_host(host, BROKER_HOST), checked_port(port, BROKER_PORT)


def checked_host(text: str, setting: Setting) -> str:
    """``text``, if a host may be called so; an IPv6 address without its brackets.

    Raises:
        UsageError: it may not; the advice names ``setting``.
    """
    if _is_ipv6(text):
        return text.strip("[]")
    if re.fullmatch(r"\w[\w.-]*", text):
        return text
    raise _no_host(text, setting)


def checked_port(port: int | str, setting: Setting) -> int:
    """``port`` as a number, if ``setting`` may have it.

    Raises:
        UsageError: it may not; the advice names ``setting``.
    """
    low, high = int(setting.minimum or 0), int(setting.maximum or 65535)
    text = str(port)
    if text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise UsageError(f"{port!r} is no port", advice=f"Give one from {low} to {high}, or check {setting.environment}.")


def _is_ipv6(host: str) -> bool:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.IPv6Address(bare)
    except ValueError:
        return False
    return True


def _no_host(text: object, setting: Setting) -> UsageError:
    advice = f"Give a name or an IP address, or check {setting.environment}."
    return UsageError(f"{text!r} is no host", advice=advice)

"""Every setting of cbw, once: its default, its bounds, its help text, and the environment variable that sets it.

The command line makes its options from these tables, and ``docs/reference/settings.md`` is generated from them. The name of a
variable ends in ``_HOST`` if it holds an address to connect to, in ``_LISTEN`` if it holds one to listen on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

CLIENT_PORT = 9998
WORKER_PORT = 9999
STATUS_PORT = 9997
LOG_PORT = 9995
"""The logger's text port. Its record port is the next one up."""
YEAR_S = 366 * 86400.0  # the longest that the demonstration may take: no thread can sleep for ever


class Setting(msgspec.Struct, frozen=True):
    """One setting. Its type is that of ``default``, or ``kind`` where the default is None.

    A setting that bounds memory has a ``memory_fraction``: where the memory of the process is limited, by a container, its
    default is at most this fraction of the limit in bytes (see :mod:`cbw.memory`). ``memory_cost`` is the number of bytes
    that one unit of the setting may take in the worst case. The fractions are chosen so that all bounds of a role together,
    each at its cost, take at most 60 % of the limit; the rest is for the interpreter and for messages in transit.

    ``fallback`` is a variable that sets it, and others with it, where ``environment`` is not set.
    """

    name: str
    default: Any
    environment: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    kind: type | None = None
    choices: tuple[str, ...] = ()
    short: str | None = None
    metavar: str | None = None
    fallback: str = ""
    memory_fraction: float = 0.0
    memory_cost: float = 0.0

    @property
    def environments(self) -> list[str]:
        """The variables that set it; the first that is set counts."""
        return [self.environment, *([self.fallback] if self.fallback else [])]

    @property
    def option(self) -> str:
        """The option of the command line: ``--absence`` for ``absence_s``."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")

    @property
    def type(self) -> type:
        """The type of its value."""
        return self.kind or type(self.default)


def _of(role: str) -> Callable[..., Setting]:
    def setting(name: str, default: Any, text: str, **bounds: Any) -> Setting:
        return Setting(name, default, f"CBW_{role}_{name.upper()}", text, **bounds)

    return setting


_broker, _worker, _logger, _client = map(_of, ("BROKER", "WORKER", "LOGGER", "CLIENT"))

BROKER_HOST = Setting(
    "broker_host",
    "127.0.0.1",
    "BROKER_HOST",
    "Name or IP address of the broker to connect to. A name may have several addresses, and several brokers may be given, as in "
    "bro1:9998,bro2:9998: a worker serves all of them, a client uses one.",
)
BROKER_PORT = Setting(
    "broker_port",
    None,
    "BROKER_PORT",
    "Port of the broker to connect to: by default 9998 for a client, 9999 for a worker. A service link of Kubernetes, such as "
    "tcp://10.96.0.12:9998, is ignored.",
    minimum=1,
    maximum=65535,
    kind=int,
)

KEYS = Setting(
    "keys",
    None,
    "CBW_KEYS",
    "Folder of keys, made by `cbw keys new`, or the secret key file in it that is this role's. Connections are then encrypted, "
    "and only those whose keys are allowed are let in. Without it nothing is encrypted.",
    kind=str,
    metavar="DIR",
)

LOGGER_HOST = Setting(
    "logger_host",
    None,
    "LOGGER_HOST",
    "Name or IP address of the logger to send events to. If it is not set, events go to no logger.",
    kind=str,
)
LOGGER_PORT = Setting(
    "logger_port",
    LOG_PORT,
    "LOGGER_PORT",
    "Text port of the logger to send events to. The events themselves go to the next port up, where they are acknowledged.",
    minimum=1,
    maximum=65534,
)

TRACE = (
    Setting(
        "trace", None, "CBW_TRACE", "Append every event to FILE, as one JSON object per line.", kind=str, metavar="FILE"
    ),
    Setting("verbose", False, "CBW_VERBOSE", "Print every event, including each step of each request.", short="-v"),
)

TIMES = Setting(
    "times",
    None,
    "CBW_TIMES",
    "Begin every line that is printed with the time of day. (Events always have it.) Default: on a terminal.",
    kind=bool,
)

LANGUAGE = Setting(
    "language",
    None,
    "CBW_LANG",
    "Language of what the lab's roles say to people, of the errors that cbw prints, of the tables of cbw ps, top, services, "
    "requests, dead list and logs stats on a terminal, and of what cbw verify finds: en or es. --help and JSON are in English. "
    "Default: that of LANGUAGE, LC_ALL, LC_MESSAGES or LANG, if one of these is set, else English.",
    kind=str,
)

LISTEN_ENVIRONMENT = "CBW_LISTEN"
"""Where a role listens, on all of its ports, if the variable of the port does not say otherwise."""
THIS_MACHINE = "127.0.0.1"
EVERYWHERE = "*"


def listen_default(*, has_keys: bool) -> str:
    """Where a broker or a logger listens that is not told: beyond this machine only if it has keys."""
    return EVERYWHERE if has_keys else THIS_MACHINE


STATUS_TOKEN_FILE = Setting(
    "status_token_file",
    None,
    "CBW_STATUS_TOKEN_FILE",
    "File with the token of the status pages, which only its owner may read (mode 0600). /metrics, /status.json and what the "
    "page of a broker shows are then for those who show it (Authorization: Bearer TOKEN), who may also act on that page. Without "
    "it they are for everybody who reaches the port, and nobody acts there.",
    kind=str,
    metavar="FILE",
)

STATUS = (
    Setting(
        "status_port",
        STATUS_PORT,
        "CBW_STATUS_PORT",
        "Port on which this role serves /livez, /readyz, /metrics and /status.json over HTTP, and a broker its page for people, "
        "/; 0 serves nothing. If the default "
        "port is taken, the role prints a warning and runs without; a port given explicitly must be free.",
        minimum=0,
        maximum=65535,
    ),
    Setting(
        "status_listen",
        THIS_MACHINE,
        "CBW_STATUS_LISTEN",
        "IP address on which to serve health and metrics over HTTP, to everybody who reaches it; * is every IPv4 address of this "
        "machine.",
        fallback=LISTEN_ENVIRONMENT,
    ),
    STATUS_TOKEN_FILE,
)

LOG = (
    LOGGER_HOST,
    LOGGER_PORT,
    Setting(
        "log_level",
        "debug",
        "CBW_LOG_LEVEL",
        "Least severe events to send to the logger: debug sends every step of every request; info the changes of roles, and "
        "failed attempts; warning only what went wrong; off nothing.",
        choices=("debug", "info", "warning", "off"),
    ),
    Setting(
        "log_sample",
        1.0,
        "CBW_LOG_SAMPLE",
        "Fraction of the requests whose steps are sent to the logger. All roles select the same requests, so the story of a "
        "selected request is complete.",
        minimum=0.0,
        maximum=1.0,
    ),
    Setting(
        "log_spool_bytes",
        64 << 20,
        "CBW_LOG_SPOOL_BYTES",
        "Maximum memory, in bytes, for events that the logger has not acknowledged yet. When it is full the oldest events are "
        "dropped, and the log records how many.",
        minimum=1 << 16,
        memory_fraction=1 / 16,
        memory_cost=1.1,
    ),
)

_LISTEN_HELP = (
    "IP address to listen on; * is every IPv4 address of this machine, :: every address. Default: with --keys every IPv4 "
    "address, without them 127.0.0.1, which only programs on this machine reach."
)

LOGGER_DIR = Setting(
    "logger_dir",
    "cbw-logs",
    "LOGGER_DIR",
    "Folder of the log file, which is called logs. The logger creates the folder if it does not exist.",
)

LOGGER = (
    _logger("listen", None, _LISTEN_HELP, kind=str, fallback=LISTEN_ENVIRONMENT),
    _logger(
        "fsync",
        "interval",
        "When the log file is synced to disk: always after each write, interval within half a second, never when the "
        "operating system decides. With always and interval, senders keep their events until they are synced, so a crash of "
        "this machine loses none of them. Lines from the text port are kept by nobody: a crash loses up to half a second of "
        "them with interval, about 30 s with never.",
        choices=("always", "interval", "never"),
    ),
    _logger(
        "format",
        "json",
        "Format of the lines of the log: json for programs, text for people.",
        choices=("json", "text"),
    ),
    _logger("rotate_bytes", 100 << 20, "Rotate the file when it has this many bytes.", minimum=1 << 16),
    _logger("rotate_age_s", 86400.0, "Rotate the file after this many seconds (0: by size only).", minimum=0.0),
    _logger("keep", 10, "Number of rotated files to keep.", minimum=0),
    _logger("compress", True, "Compress rotated files with gzip. --no-compress leaves them as they are."),
)

JOURNAL = (
    _broker(
        "journal",
        None,
        "Where to keep a journal: a folder, or a stream of NATS servers, nats://HOST:PORT,.../NAME. Every request is stored "
        "there before it is handed out, and every answer before it is sent, so both survive the broker: the next one that is "
        "started with the same journal goes on. What is missing is made. With NATS they survive this machine too, and other "
        "brokers with the same journal stand by until this one has ended. With several names, NAME,NAME, so many brokers serve, "
        "each with one of these journals, and the others stand by for all. Without this option everything is in memory.",
        kind=str,
        metavar="JOURNAL",
    ),
    _broker(
        "journal_sync",
        "full",
        "When something counts as stored: full, when the disk has it; normal, when the operating system has it, so that a "
        "power loss may lose the last moments, but the death of the broker loses nothing.",
        choices=("full", "normal"),
    ),
)
"""Where a broker writes what must survive it."""

BROKER = (
    _broker("listen", None, _LISTEN_HELP, kind=str, fallback=LISTEN_ENVIRONMENT),
    _broker(
        "requests_max",
        1_000_000,
        "Maximum number of unfinished requests. Above it CBW/1 clients get Busy; above twice as many the client port is not "
        "read, so plain clients wait. A waiting request with a body of 100 bytes takes less than 1 kB of memory.",
        minimum=1,
        memory_fraction=1 / (16 << 10),
        memory_cost=2 * 650,  # twice as many plain ones; measured: 550 to 650 bytes beside the body
    ),
    _broker(
        "requests_bytes_max",
        1 << 30,
        "Maximum total size, in bytes, of the bodies of unfinished requests; a body of many frames counts as what it takes in "
        "memory. Above it CBW/1 clients get Busy; above twice as many bytes the client port is not read, so plain clients wait.",
        minimum=1,
        memory_fraction=1 / 10,
        memory_cost=2 * 1.15,  # twice as many plain ones; measured: 1.00 of 1 MiB bodies, 1.13 of those of 10 kB
    ),
    _broker(
        "services_max",
        50_000,
        "Maximum number of services that all workers together may register: one that two workers serve counts twice. A worker "
        "with more is refused. When there are as many services, requests for a further one are refused with Busy.",
        minimum=1,
        memory_fraction=1 / (320 << 10),
        memory_cost=4700,  # a service with a worker takes 2.7 kB, one with a waiting request and a long name 2 kB
    ),
    _broker(
        "body_bytes_max",
        64 << 20,
        "Maximum size, in bytes, of the body of one request or answer. A request with a larger body is refused. A message "
        "with a single frame of more than this and 1 MiB ends the connection it comes over.",
        minimum=1,
        maximum=1 << 40,
        memory_fraction=1 / 16,
        memory_cost=1,  # while it arrives; then it counts as the body of a request
    ),
    _broker(
        "parked_bytes_max",
        256 << 20,
        "Maximum memory, in bytes, for replies parked for absent clients; messages to peers that do not read may take as much "
        "again. Above it the oldest parked replies are dropped, and the peer that has read nothing for longest is "
        "disconnected; both are counted and recorded.",
        minimum=1,
        memory_fraction=1 / 32,
        memory_cost=2 * 1.15,  # parked replies, and as much again for peers that do not read
    ),
    _broker(
        "dead_max",
        10_000,
        "Maximum number of dead letters: requests that were given up, which are kept for `cbw dead`. Above it the oldest is "
        "dropped, counted and recorded. 0 keeps none.",
        minimum=0,
    ),
    _broker(
        "dead_bytes_max",
        64 << 20,
        "Maximum memory, in bytes, for dead letters and their bodies. Above it the oldest are dropped, counted and recorded; a "
        "request that is larger is not kept at all.",
        minimum=1,
        memory_fraction=1 / 32,
        memory_cost=1.15,  # as for parked replies
    ),
    _broker(
        "allow_control",
        False,
        "Without --keys, let clients on other machines cancel, drain, pause, purge, and send dead letters again or drop them. "
        "Without this option only programs on this machine may.",
    ),
    _broker(
        "attempts_max",
        3,
        "Number of attempts at a request that may end with the loss of their worker before the request is given up.",
        minimum=1,
    ),
    _broker(
        "liveness_s",
        3.0,
        "Seconds of silence after which a CBW/1 worker is considered lost. The default is three of its heartbeats, which "
        "come every second. Other workers that send heartbeats may be silent for at least as long.",
        minimum=1.5,
    ),
    _broker(
        "answer_timeout_s",
        2.0,
        "Seconds in which a worker that sends no heartbeats while it works must answer a request. After that a plain (REQ) "
        "worker is considered lost, and a Majordomo or Paranoid Pirate worker if it stays silent for three more heartbeats. The "
        "default is that of the lab, 2000 ms.",
        minimum=0.001,
    ),
    _broker(
        "absence_s",
        60.0,
        "Seconds for which a disconnected peer is remembered, together with its requests and parked replies.",
        minimum=0.0,
    ),
    _broker(
        "answers_keep_s",
        600.0,
        "Seconds for which a broker with a journal keeps an answer that its client has not acknowledged, and remembers a "
        "disconnected client that has requests or answers here.",
        minimum=0.0,
    ),
    _broker(
        "results_keep_s",
        86400.0,
        "Seconds for which the answer of a request that was started under a ticket is kept after its end. With a journal, time "
        "in which no broker runs does not count.",
        minimum=0.0,
    ),
    _broker(
        "results_bytes_max",
        256 << 20,
        "Maximum memory, in bytes, for tickets and the answers that are kept under them. Above it the oldest answers are "
        "dropped, which is counted and recorded; if there are none, no more tickets are taken on. An answer that is larger than "
        "this is not kept at all. A ticket takes 1500 bytes, and its answer as many as it has.",
        minimum=1,
        memory_fraction=1 / 32,
        memory_cost=1.15,  # as for parked replies
    ),
    _broker(
        "plain_ttl_s",
        None,
        "Seconds after which a request of a plain client expires. Plain dialects cannot carry a deadline, so by default "
        "these requests never expire.",
        minimum=0.001,
        kind=float,
    ),
    _broker(
        "unserved_s",
        None,
        "Seconds for which no worker may have served a service before its requests end at once, with an error, instead of "
        "waiting for one. The start of the broker counts as the beginning. By default they wait until their deadlines.",
        minimum=0.0,
        kind=float,
    ),
    _broker(
        "send_tracebacks",
        False,
        "Send the traceback of a handler that failed to the client that asked. Without it a traceback is only printed by the "
        "worker, and stands in the trace, in the log and in dead letters.",
    ),
    _broker("grace_s", 10.0, "Seconds that running requests have to finish after SIGTERM.", minimum=0.0),
)

WORKER = (
    _worker(
        "concurrency",
        1,
        "Number of tasks to run at once: threads for a plain function, coroutines for an async one.",
        minimum=1,
    ),
    _worker(
        "processes",
        0,
        "Number of child processes that run the handler, each with the given concurrency; 0 runs it in the worker's own "
        "process. Use child processes for handlers that may crash, or that hold the GIL for longer than the broker's "
        "liveness.",
        minimum=0,
        maximum=1024,
    ),
    _worker(
        "max_tasks_per_child",
        None,
        "Number of tasks after which a child process is replaced by a new one. Default: never.",
        minimum=1,
        kind=int,
    ),
    _worker(
        "max_memory_per_child",
        None,
        "Bytes of resident memory above which a child process is replaced by a new one, between two tasks. Default: never.",
        minimum=1 << 20,
        kind=int,
    ),
    _worker("grace_s", 10.0, "Seconds that running tasks have to finish after SIGTERM.", minimum=0.0),
    _worker(
        "time_limit_s",
        None,
        "Seconds that a --handler may take for one request; default: no limit. Then the client gets TimeLimit, and a coroutine "
        "is cancelled, a child process ended and replaced. A thread cannot be ended: it is reported as stuck until it returns.",
        minimum=0.001,
        kind=float,
    ),
    _worker(
        "on_stuck",
        "exit",
        "What the worker does when all its handlers that share a concurrency are stuck: exit with code 8, so that a supervisor "
        "starts it anew, or only report it, and work again when one of them returns.",
        choices=("exit", "report"),
    ),
    _worker(
        "retries",
        5,
        "How often a handler is called again for one request, if it raises an exception of --retry-on, or cbw.Retry. 0: never.",
        minimum=0,
        maximum=1000,
    ),
    _worker(
        "backoff_s",
        1.0,
        "Seconds before the first retry. They double with each further one, up to --backoff-max; a part is left to chance.",
        minimum=0.0,
    ),
    _worker("backoff_max_s", 60.0, "Longest time in seconds before a retry.", minimum=0.0),
    _worker("work_time_s", 1.0, "Seconds that the demonstration takes for a request.", minimum=0.0, maximum=YEAR_S),
)

CLIENT = (
    _client(
        "timeout_s",
        60.0,
        "Seconds to wait for the answer to a request. They travel with the request as its deadline.",
        minimum=0.001,
    ),
)


def default_of(table: tuple[Setting, ...], name: str) -> Any:
    """The default of the setting ``name`` of ``table``."""
    return next(setting.default for setting in table if setting.name == name)

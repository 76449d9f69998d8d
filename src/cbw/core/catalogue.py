"""Every event that a trace can tell, defined once: its name, how important it is, which roles record it, what it means.

Whoever records an event, or looks for one in a log, names it by its constant: ``catalogue.ACCEPTED``.

Levels: ``debug`` for what every request, client or start makes, shown to people only if they ask; ``info`` for what is worth
a line and no cause for worry; ``warning`` for what somebody may want to look into.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, NewType

EventName = NewType("EventName", str)
"""The name of an event. At run time it is a plain ``str``, as it is in a trace: three are recorded for each request, and a
member of an Enum takes longer to look up (50 ns in Python 3.11) and to encode. Read from a trace it may be of a later
version, and unknown here."""


LEVELS = ("debug", "info", "warning", "error", "critical")
"""Levels of records, in their order. Events have one of the first three, lines of a program any of them."""


class Meaning(NamedTuple):
    """What is known about an event: its level, the roles that record it, and what it tells."""

    level: str
    roles: tuple[str, ...]
    text: str


EVENTS: dict[EventName, Meaning] = {}
"""The meaning of every event, in the order of the documentation."""


def _event(level: str, name: str, roles: str, text: str) -> EventName:
    event = EventName(name)
    EVENTS[event] = Meaning(level, tuple(roles.split()), text)
    return event


_debug, _info, _warning = (partial(_event, level) for level in ("debug", "info", "warning"))

# --- the life of a request, in its usual order

SENT = _debug(
    "sent",
    "client",
    "The client has accepted the request and sends it once it has a connection. `fields` tells its `delay_s`, if it has any.",
)
ACCEPTED = _debug(
    "accepted", "broker", "The request is new, and waits for the journal, if there is one, and for a worker."
)
STORED = _debug("stored", "broker", "The request is in the journal: from now on it can be handed out.")
HANDED_OUT = _debug("handed_out", "broker", "An attempt begins: the request went to `worker`, as `task`.")
BEGUN = _debug("begun", "worker", "The handler has been called with the request.")
DONE = _debug("done", "worker", "The handler has returned, raised `cbw.Failure` (`text` says it), or was `cancelled`.")
ERROR = _warning("error", "worker", "The handler has raised an exception; `text` says which.")
ANSWERED = _debug("answered", "broker", "The answer of `worker` is on its way to the client.")
GOT = _debug("got", "client", "The client has received the answer.")
FAILED = _warning("failed", "broker client", "The request ended with an error; `text` says which.")

# --- what else can happen to a request

UNASKED = _warning(
    "unasked",
    "client",
    "`count` answers arrived for requests that had already ended. Only the clients of `cbw verify` record this.",
)
RECOVERED = _info(
    "recovered", "broker", "The broker has read its journal: `count` requests go on; `text` says what else was in it."
)
TASK_RECOVERED = _debug(
    "task_recovered",
    "broker",
    "After the broker's start: `worker` may still be at `task`, which an earlier broker gave it.",
)
JOURNAL_STALLED = _warning(
    "journal_stalled",
    "broker",
    "The journal stores nothing at the moment, or does so again; `text` says which, and why.",
)
RESENT = _info(
    "resent", "client", "The request was sent again: the connection had been lost, or the broker was too busy for it."
)
RECALLED = _debug(
    "recalled", "broker", "`worker` was asked to give back tasks that it has not begun, because other workers are idle."
)
RETURNED = _debug(
    "returned", "broker", "`worker` cannot have begun the request: the attempt does not count, the request waits again."
)
ATTEMPT_FAILED = _warning(
    "attempt_failed", "broker", "`worker` was lost, stopped or late while it had the request, which now waits again."
)
DELAYED = _debug(
    "delayed", "broker", "The client has asked that the request is not handed out yet; `text` says for how long."
)
RETRIED = _warning(
    "retried",
    "broker",
    "The handler of `worker` has failed and is to be called again; `text` says when, and which exception it was.",
)
DUE = _debug("due", "broker", "The delay of the request is over: it waits for a worker.")
FENCED = _warning("fenced", "broker", "An answer of `worker` was dropped: its attempt had been given up before.")
INHERITED = _info(
    "inherited",
    "broker",
    "`worker` has brought an answer to what an earlier broker had given it, and it is passed on to the client that it names.",
)
EXPIRED = _warning("expired", "broker", "The deadline of the request passed; `text` says where it was then.")
CANCELLED = _info("cancelled", "broker", "The client gave the request up; `text` says why.")
GAVE_UP = _warning(
    "gave_up", "broker", "The request ended with an error: as many attempts failed as `--attempts-max` allows."
)
DEAD_LETTER_KEPT = _warning(
    "dead_letter_kept",
    "broker",
    "The request was given up and is kept as a dead letter; `text` says as which, and why.",
)
DEAD_LETTER_PUSHED_OUT = _warning(
    "dead_letter_pushed_out",
    "broker",
    "A dead letter was dropped to stay within `--dead-max` and `--dead-bytes-max`; `text` says which.",
)
REQUEUE_ASKED = _info(
    "requeue_asked",
    "broker",
    "`client` asked that dead letters be sent again, and `count` were; `text` says how they were chosen.",
)
DROP_ASKED = _info(
    "drop_asked",
    "broker",
    "`client` asked that dead letters be dropped, and `count` were; `text` says how they were chosen.",
)
DEAD_LETTER_REQUEUED = _info(
    "dead_letter_requeued",
    "broker",
    "A dead letter was sent again at the wish of `client`, as `request`; `text` says which it was.",
)
DEAD_LETTER_DROPPED = _info(
    "dead_letter_dropped",
    "broker",
    "A dead letter, once `request`, was dropped at the wish of `client`; `text` says which.",
)
CANCEL_ASKED = _info(
    "cancel_asked",
    "broker",
    "`client` asked the broker to end requests of others, and `count` were found; `text` says which.",
)
PURGE_ASKED = _info(
    "purge_asked",
    "broker",
    "`client` asked the broker to end what no worker has, and `count` requests were; `text` says how they were chosen.",
)
ASKED = _debug(
    "asked",
    "client",
    "The client has asked the broker to start the request, which outlives it; `text` says if in vain.",
)
COLLECTED = _debug(
    "collected",
    "client",
    "The client has fetched the answer of the request by its ticket, or an error, which `text` says.",
)
RESULT_EXPIRED = _debug(
    "result_expired",
    "broker",
    "The answer of the request was kept under its ticket for `--results-keep`, and is dropped.",
)
RESULT_DROPPED = _warning(
    "result_dropped",
    "broker",
    "The answer of the request, kept under its ticket, was dropped to stay within `--results-bytes-max`.",
)
UNSERVED = _warning(
    "unserved", "broker", "`count` requests have waited 2 s for `service`, and no worker of this broker serves it."
)

# --- workers come and go

CONNECTED = _info(
    "connected", "worker", "The worker has a connection to a broker; `text` says which, if there are several."
)
NOT_LET_IN = _warning(
    "not_let_in",
    "worker",
    "The broker has refused the hello of the worker; `text` says why. If another has its id, it asks again for 4 s or more.",
)
DISCONNECTED = _warning("disconnected", "worker", "The worker has lost its connection to the broker, and tries again.")
RECONNECTING = _warning("reconnecting", "worker", "The broker has been silent for too long: a new connection is made.")
NOT_RECONNECTED = _warning(
    "not_reconnected", "worker", "The worker could not begin a new connection, and tries again; `text` says why."
)
NOT_REPLACED = _warning(
    "not_replaced",
    "worker",
    "A child process has ended and no other could be started in its place, which is tried again; `text` says why.",
)
STOOD_STILL = _warning(
    "stood_still",
    "worker",
    "For a while nothing of the worker's process ran, so it could not beat; `text` says for how long, and why that may be.",
)
STUCK = _warning(
    "stuck",
    "worker",
    "A handler has exceeded its time limit, was told to end and has not: it holds its slot. `fields` say where it is.",
)
UNSTUCK = _info("unstuck", "worker", "A handler that was stuck has returned: its slot is free again.")
CHILD_REPLACED = _info(
    "child_replaced",
    "worker",
    "A child process is ended, as it has nothing to finish, and another started in its place; `text` says why.",
)
WORKER_READY = _info("worker_ready", "broker", "`worker` is registered and serves the services in `text`.")
WORKER_DRAINED = _info(
    "worker_drained",
    "broker",
    "`client` asked that `worker` gets nothing more; `text` says how much it still has in hand.",
)
WORKER_UNDRAINED = _info("worker_undrained", "broker", "`client` asked that `worker` gets work again.")
SERVICE_PAUSED = _info(
    "service_paused", "broker", "`client` asked that requests of `service` wait, whoever could serve them."
)
SERVICE_RESUMED = _info("service_resumed", "broker", "`client` asked that requests of `service` are handed out again.")
CREDIT_CHANGED = _debug("credit_changed", "broker", "`worker` wants no more requests (0), or wants some again.")
WORKER_LATE = _warning("worker_late", "broker", "A REQ worker of the lab has not answered within `--answer-timeout`.")
WORKER_LEFT = _info("worker_left", "broker", "`worker` has said goodbye and is gone.")
WORKER_LOST = _warning("worker_lost", "broker", "`worker` is gone without a goodbye; `text` says how that was noticed.")

# --- clients come and go

CLIENT_HELLO = _debug("client_hello", "broker", "A CBW/1 client has connected.")
CLIENT_AWAY = _info(
    "client_away", "broker", "The client's connection is lost. Its requests go on, and replies are parked for it."
)
CLIENT_BACK = _info("client_back", "broker", "The client has connected again.")
CLIENT_GONE = _debug("client_gone", "broker", "The client is forgotten, with its parked replies; `text` says why.")
IDENTITY_TAKEN = _warning(
    "identity_taken",
    "broker",
    "A program has asked with the identity of another that is connected and waits for an answer. It gets `ERROR CANCELLED`.",
)
CLIENT_UNCERTAIN = _warning(
    "client_uncertain",
    "broker",
    "Two connections claim one client's identity: its replies wait until one of them speaks.",
)

# --- limits and bad input

KEYS = _warning(
    "keys",
    "broker",
    "A connection was not let in because of its key, or the file `allowed` cannot be read; `text` tells more.",
)
REFUSED = _warning("refused", "broker", "A request or the hello of a peer was turned down; `text` says why.")
PAUSED = _warning("paused", "broker", "Too many requests wait: clients are not read until there are fewer.")
RESUMED = _info("resumed", "broker", "Clients are read again.")
ANSWER_DROPPED = _warning(
    "answer_dropped",
    "broker",
    "A reply parked for a client that is away was dropped, to stay within `--parked-bytes-max`.",
)
UNREAD = _warning("unread", "broker", "A peer has not read for so long that the messages for it were dropped.")
BAD_MESSAGE = _warning("bad_message", "broker worker logger", "A peer sent bytes that are no message; `text` says why.")

# --- roles start and stop

STARTED = _debug(
    "started", "broker logger verify", "The role has started: earlier records of the same sender belong to another run."
)
STOPPING = _info("stopping", "broker", "The broker accepts nothing new, and finishes what runs within `--grace`.")
STOPPED_SERVING = _info("stopped_serving", "broker", "Nothing runs any more: the broker has said goodbye to its peers.")
STOPPED = _info("stopped", "broker logger", "The logger has stopped; or a request ended because the broker stopped.")

OUTPUT_UNREAD = _warning(
    "output_unread",
    "broker worker client",
    "Nobody reads any more what the role prints. A worker leaves, the others go on and print nothing more.",
)

NO_DESCRIPTORS = _warning(
    "no_descriptors",
    "broker",
    "The broker has no file descriptors left and takes no new connections, or takes them again; the text says which.",
)

# --- what the log says about itself

REOPENED = _info("reopened", "logger", "The log file was opened again, because of SIGHUP.")
NOT_ROTATED = _warning(
    "not_rotated", "logger", "The log file is full but no new one could be begun, so it grows on; `text` says why."
)
REPAIRED = _warning(
    "repaired", "logger", "A crash had left an incomplete line in the log file: `count` bytes were cut off."
)
POSITIONS = _debug("positions", "logger", "The first line of a log file: the number of the last record of each sender.")
GAP = _warning("gap", "logger", "`count` records of a sender are lost for good: the memory for them was full.")
DUPLICATES = _warning("duplicates", "logger", "`count` records arrived a second time, and were not written again.")
LOST = _warning(
    "lost", "logger", "`count` lines of text are lost: the log could not be written, and the memory for them was full."
)

# --- what a verification does, in its own trace

DEPLOYED = _info(
    "deployed",
    "verify",
    "The verification runs on a Compose deployment with `count` brokers; `text` names its services.",
)
KILLED = _info("killed", "verify", "The verification killed `worker`, which worked on `request`.")
FROZEN = _info("frozen", "verify", "The verification froze `worker`, which worked on `request`.")
THAWED = _info("thawed", "verify", "The verification let the frozen `worker` run again.")
LOAD_REPEATED = _info(
    "load_repeated", "verify", "The load is sent again; who was free meanwhile is judged from here on."
)
CUT_OFF = _info("cut_off", "verify", "The verification took `worker`, which worked on `request`, off its network.")
RECONNECTED = _info("reconnected", "verify", "The verification put `worker` on its network again.")
BROKER_RESTARTED = _info("broker_restarted", "verify", "The verification restarts the broker, under load.")
BROKER_KILLED = _info("broker_killed", "verify", "The verification kills the broker, under load.")
BROKER_FROZEN = _info("broker_frozen", "verify", "The verification freezes one of several brokers, `text`, under load.")
BROKER_CUT_OFF = _info(
    "broker_cut_off", "verify", "The verification takes one of several brokers, `text`, off its network."
)
OWNER_KILLED = _info(
    "owner_killed", "verify", "The verification kills the broker, `text`, that has the journal of its standbys."
)
BROKER_BACK = _info("broker_back", "verify", "The broker that was hurt is well again.")
BROKER_ASKED = _info(
    "broker_asked", "verify", "The verification asks only the broker `text` from here on; empty: it stops."
)
ZOMBIE_WOKEN = _info(
    "zombie_woken", "verify", "A broker, `text`, whose journal a standby has taken meanwhile runs again."
)
ZOMBIE_ENDED = _info("zombie_ended", "verify", "That broker has ended, with exit code `count`.")
LAB_SPOKEN = _info("lab_spoken", "verify", "The clients and workers of the verification speak the lab's dialect.")
SECOND_TASK = _warning(
    "second_task",
    "worker",
    "A worker of the verification was given `request` while it was at work; `text` says at what.",
)
STRANGE_SENT = _info(
    "strange_sent",
    "verify",
    "The verification sent the broker a message that no program of the lab sends; `text` says what.",
)
LOGGER_RESTARTED = _info("logger_restarted", "verify", "The verification restarts a logger, under load.")
LOGGER_KILLED = _info("logger_killed", "verify", "The verification kills a logger, under load.")
LOGGER_WRITES = _info("logger_writes", "verify", "The logger writes again.")

# --- programs of the user

LOG = _info("log", "app", "A line of a program that uses `cbw.LogHandler`, with a `level` of its own.")

REQUEST_ENDS = (ANSWERED, FAILED, EXPIRED, CANCELLED, GAVE_UP, STOPPED)
"""How a request that the broker had accepted can end: the broker records exactly one of these for it."""
ERRORS_OF_THE_BROKER = (GAVE_UP, EXPIRED)
"""Errors of dead letters, called as these events are, whose text is the broker's. Any other is what a handler has raised."""
ROLES = tuple(dict.fromkeys(role for meaning in EVENTS.values() for role in meaning.roles))
"""Who records anything."""

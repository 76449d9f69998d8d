"""Every event that a trace can tell, how important it is, and what it means: the one list.

Levels: ``debug`` for what every request, client or start makes, shown to people only if they ask; ``info`` for what is worth
a line and no cause for worry; ``warning`` for what somebody may want to look into.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple


class Meaning(NamedTuple):
    """Of one event: its level, the roles that record it, and what it tells."""

    level: str
    roles: str
    text: str


_debug, _info, _warning = (partial(Meaning, level) for level in ("debug", "info", "warning"))

EVENTS: dict[str, Meaning] = {
    # the life of a request, in its usual order
    "sent": _debug("client", "The client has taken the request on and sent it, or will as soon as a broker is there."),
    "accepted": _debug("broker", "The request is new and waits for a worker."),
    "handed_out": _debug("broker", "An attempt: `task` went to `worker`."),
    "begun": _debug("worker", "The handler runs."),
    "done": _debug("worker", "The handler has returned."),
    "error": _warning("worker", "The handler has raised; `text` says what."),
    "answered": _debug("broker", "The answer of `worker` is on its way to the client."),
    "got": _debug("client", "The client has the answer."),
    "failed": _warning("broker, client", "The request ended with an error; `text` says which."),
    # what can happen to it on the way
    "unasked": _warning(
        "client", "Answers came to requests that had ended, `count` of them. Only `cbw verify` records this."
    ),
    "resent": _info("client", "Sent again over a new connection: it was in flight when the last one was lost."),
    "recalled": _debug("broker", "`worker` was asked to give back what it has not begun, as others are idle."),
    "returned": _debug(
        "broker", "`worker` cannot have begun it, so the attempt does not count; the request waits again."
    ),
    "attempt_failed": _warning("broker", "`worker` was lost, stopped or late with it; the request waits again."),
    "fenced": _warning("broker", "An answer of `worker` to an attempt that was given up: thrown away."),
    "expired": _warning("broker", "Its deadline passed before a worker had it."),
    "cancelled": _info("broker", "Its client gave it up; `text` says why."),
    "gave_up": _warning("broker", "It has failed with as many workers as `--attempts-max` allows."),
    "unserved": _warning("broker", "`count` requests have waited 2 s for `service`, and no worker here serves it."),
    # workers come and go
    "connected": _info("worker", "A connection to a broker; `text` says which, if the name means several."),
    "disconnected": _warning("worker", "The connection is lost; it is tried again."),
    "reconnecting": _warning("worker", "The broker has been silent for too long: a new connection is made."),
    "worker_ready": _info("broker", "`worker` is registered and serves the services in `text`."),
    "credit_changed": _debug("broker", "`worker` wants nothing any more (0), or something again."),
    "worker_late": _warning("broker", "A REQ worker of the lab has not answered within `--answer-timeout`."),
    "worker_left": _info("broker", "`worker` is gone, and said so."),
    "worker_lost": _warning("broker", "`worker` is gone without a word; `text` says how that was noticed."),
    # clients come and go
    "client_hello": _debug("broker", "A client of CBW/1 is there."),
    "client_away": _info("broker", "Its connection is lost. Its requests go on, and its answers are kept."),
    "client_back": _info("broker", "It is there again."),
    "client_gone": _debug("broker", "It is forgotten; `text` says why."),
    "client_doubted": _warning("broker", "Two connections claim one identity: its replies wait until one has spoken."),
    # limits and bad input
    "refused": _warning("broker", "A hello or a request was turned down; `text` says why."),
    "paused": _warning("broker", "Too much waits: clients are not read until there is less."),
    "resumed": _info("broker", "Clients are read again."),
    "answer_dropped": _warning("broker", "An answer kept for a client that is away had to go: `--kept-bytes-max`."),
    "unread": _warning("broker", "A peer has not read for so long that what was meant for it was dropped."),
    "bad_message": _warning("broker, worker, logger", "Bytes that are no message; `text` says why."),
    # roles start and stop
    "started": _debug("broker, logger, verify", "A new run begins: what its trace said before belongs to another."),
    "stopping": _info("broker", "It takes nothing new and finishes what runs, within `--grace`."),
    "stopped_serving": _info("broker", "Nothing runs any more; it has said goodbye to all."),
    "stopped": _info("broker, logger", "The logger has ended; or a request had to, with its broker."),
    # what the log says about itself
    "reopened": _info("logger", "The file was opened again, because of SIGHUP."),
    "not_rotated": _warning("logger", "The file is full, and no new one could be begun; it grows on. `text` says why."),
    "repaired": _warning("logger", "A crash had left a line without its end: `count` bytes were cut off."),
    "positions": _debug("logger", "The first line of a file: how far the log has come, for each sender."),
    "gap": _warning("logger", "`count` records of a sender are lost for good: its memory was full."),
    "duplicates": _warning("logger", "`count` records came a second time, and were not written again."),
    "lost": _warning("logger", "`count` lines of text are lost: the log could not be written, and memory was full."),
    # what a verification does, in its own trace
    "deployed": _info("verify", "It is a deployment with Docker Compose; `text` names its services."),
    "killed": _info("verify", "It has killed `worker`, which worked on `request`."),
    "frozen": _info("verify", "It has frozen `worker`, which worked on `request`."),
    "thawed": _info("verify", "It has woken `worker` again."),
    "cut_off": _info("verify", "It has taken `worker`, which worked on `request`, off its network."),
    "reconnected": _info("verify", "It has put `worker` on its network again."),
    "broker_restarted": _info("verify", "It restarts the broker, under load."),
    "broker_killed": _info("verify", "It kills the broker, under load."),
    "broker_back": _info("verify", "The broker is started again."),
    "logger_restarted": _info("verify", "It restarts a logger, under load."),
    "logger_killed": _info("verify", "It kills a logger, under load."),
    "logger_writes": _info("verify", "The logger writes again."),
    # programs of yours
    "log": _info("app", "A line of a program that uses `cbw.LogHandler`, with a `level` of its own."),
}

REQUEST_ENDS = ("answered", "failed", "expired", "cancelled", "gave_up", "stopped")
"""With one of these the broker tells that a request which it had accepted has ended."""
ROLES = frozenset(role for meaning in EVENTS.values() for role in meaning.roles.split(", "))
"""Who records anything."""

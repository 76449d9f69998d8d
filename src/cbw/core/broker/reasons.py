"""Why a request has not ended, or how it has, as clauses: the page of the broker says them in the language of who looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

REASONS: Mapping[str, str] = {
    "storing": "it waits until the journal has stored it",
    "delayed": "it is not handed out for another {time}",
    "asked": ", as its client has asked",
    "failed_once": "; its handler failed once, at last with {error}",
    "failed_often": "; its handler failed {count} times, at last with {error}",
    "running": "worker {worker} has had it for {time}",
    "behind": " and works on {count} others that it got before",
    "unreturned": ", before this broker started, and has not come back yet",
    "paused": "{service} is paused; cbw resume lets it go on",
    "unserved": "no worker here serves {name}",
    "unserved_nameless": "no worker here serves requests that name no service",
    "similar": "; did you mean {name}?",
    "drained": "waits for {service}: every worker ({count}) is drained; cbw undrain lets them work",
    "unwanted": "waits for {service}: none of its {count} workers wants more work ({drained} drained)",
    "elsewhere": "waits for {service}: other brokers have all slots of its workers ({count}), and give the next that comes free",
    "queued": "waits for {service}: {count} before it",
    "uncounted": "waits for {service}: more than can be counted before it",
    "idle": ", no worker busy",
    "busy_one": ", 1 worker busy for {times}",
    "busy": ", {count} workers busy for {times}",
    "busy_more": ", {count} workers busy for {times} and more",
    "about": ", about {time}",
    "suspect": "; as it may be to blame for lost workers, it goes to one that has nothing else of that kind",
    "none_idle": "; nobody idle may serve it",
    "attempt": "; 1 attempt has failed",
    "attempts": "; {count} attempts have failed",
    "dead": "it was given up {time} ago: {error}; see cbw dead show {id}",
    "ended": "it has ended",
    "kept": "it has ended, and its answer is kept for its ticket",
    "away": "it has ended, and its client is away",
    "unsaid": "it has ended, and its client has not said yet that it has the answer",
}
"""The clauses in English. Each stands behind the one before as it is. ``service`` is put in with the word before it, and
``times`` as a list of words."""
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_ROUNDED_FROM = 10.0
"""Of a longer unit so many are told in it: 9 min are 540 s, as two figures of a minute would be too coarse."""


class Clause(msgspec.Struct, frozen=True):
    """A part of a sentence: ``kind`` says which, and ``about`` what is to be put in."""

    kind: str
    about: dict[str, str | list[str]] = {}


def clause(kind: str, **about: str | int | list[str]) -> Clause:
    """A clause with these words and numbers."""
    return Clause(kind, {name: str(value) if isinstance(value, int) else value for name, value in about.items()})


def in_english(clauses: Iterable[Clause]) -> str:
    """The sentence that they make."""
    return "".join(
        REASONS[one.kind].format(**{name: _in_words(name, one.about[name]) for name in one.about}) for one in clauses
    )


def time_text(seconds: float, digits: int = 3) -> str:
    """A time with its unit, for a clause."""
    for size, unit in _UNITS:
        if seconds >= _ROUNDED_FROM * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 ** (digits - 1) else f"{seconds:.{digits}g} s"


def _in_words(name: str, value: str | list[str]) -> str:
    if isinstance(value, list):
        return value[0] if len(value) == 1 else f"{', '.join(value[:-1])} and {value[-1]}"
    if name == "service":
        return f"service {value}" if value else "the nameless service"
    return value

"""Where a request is, and why it has not ended, in words for people and in numbers for programs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cbw.core import catalogue
from cbw.core.broker.delays import last_try, retries_of
from cbw.core.broker.finding import LOOKED_MAX, TICKETS, client_of, entry_of
from cbw.core.broker.snapshot import Rooms, mean_s, oldest
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, ServiceRow, WorkerRow, request_name
from cbw.core.journal_records import FailedAttempt

WORKERS_NAMED_MAX = 5
"""Workers that a text names; there may be a thousand."""


class StoryStep(msgspec.Struct):
    """What happened to a request so long ago: an event of the trace, with its worker and its reason if it has them."""

    ago_s: float
    event: str
    worker: str = ""
    text: str = ""


class Why(msgspec.Struct, kw_only=True):
    """Where a request is: ``state`` is ``storing``, ``waiting``, ``running``, ``delayed``, ``ended`` (its answer is
    kept until its client has it) or ``dead``. ``text`` says why.

    ``before`` requests are handed out before it, which takes about ``about_s``; None: that is not known. ``story`` is what the
    broker remembers of its life, oldest first: when it was accepted, each attempt, and how that failed.
    """

    request: str
    state: str
    text: str
    service: str = ""
    age_s: float = 0.0
    attempt: int = 0
    worker: str | None = None
    before: int | None = None
    about_s: float | None = None
    story: list[StoryStep] = []


def why(rooms: Rooms, name: str, now: float) -> Why | None:
    """Why the request that the trace calls ``name`` has not ended, or how it has; None: it is not known here."""
    entry = entry_of(rooms, name)
    if entry is not None:
        return _of_entry(rooms, entry, now)
    letter = next((letter for letter in rooms.requests.dead if letter.request_name == name), None)
    if letter is not None:
        text = f"it was given up {now - letter.died_at:.3g} s ago: {letter.error}; see cbw dead show {letter.id}"
        story = _story(letter.accepted_at, letter.attempts, now)
        story.append(StoryStep(now - letter.died_at, catalogue.GAVE_UP, text=letter.error))
        age_s = now - letter.accepted_at
        return Why(request=name, state="dead", text=text, service=letter.service, age_s=age_s, story=story)
    found = client_of(rooms, name)
    is_kept = name.startswith(TICKETS) and name.removeprefix(TICKETS) in rooms.tickets.rows
    if found is None and not is_kept:
        return None
    text = "it has ended, and its answer is kept for its ticket" if is_kept else "it has ended"
    if found is not None and found[1] in found[0].parked:
        is_away = found[0].is_away
        text = f"it has ended, and its client {'is away' if is_away else 'has not said yet that it has the answer'}"
    return Why(request=name, state="ended", text=text)


def _of_entry(rooms: Rooms, entry: Entry, now: float) -> Why:
    told = Why(
        request=request_name(entry),
        state="waiting",
        text="",
        service=entry.request.service,
        age_s=now - entry.accepted_at,
        attempt=entry.attempt,
        story=_story(entry.accepted_at, entry.failures or (), now),
    )
    if entry.state is RequestState.STORING:
        told.state, told.text = "storing", "it waits until the journal has stored it"
    elif entry.state is RequestState.DELAYED and entry.delay is not None:
        told.state = "delayed"
        told.text = f"it is not handed out for another {entry.delay.until - now:.3g} s"
        told.text += last_try(entry) if retries_of(entry) else ", as its client has asked"
        told.story.append(StoryStep(0.0, catalogue.DELAYED, text=f"for another {entry.delay.until - now:.3g} s"))
    elif entry.worker is not None:
        _with_worker(told, entry, entry.worker, now)
    else:
        _waiting(rooms, told, entry, now)
    if entry.attempt > 1:
        failed = entry.attempt - 1
        told.text += f"; {failed} {'attempt has' if failed == 1 else 'attempts have'} failed"
    return told


def _story(accepted_at: float, failures: Iterable[FailedAttempt], now: float) -> list[StoryStep]:
    """The acceptance, and the attempts that failed."""
    steps = [StoryStep(now - accepted_at, catalogue.ACCEPTED)]
    for one in failures:
        steps.append(StoryStep(now - one.begun_at, catalogue.HANDED_OUT, one.worker))
        steps.append(StoryStep(now - one.ended_at, catalogue.ATTEMPT_FAILED, one.worker, one.reason))
    return steps


def _with_worker(told: Why, entry: Entry, worker: WorkerRow, now: float) -> None:
    told.state, told.worker = "running", worker.name
    told.text = f"worker {worker.name} has had it for {now - entry.handed_out_at:.3g} s"
    told.story.append(StoryStep(now - entry.handed_out_at, catalogue.HANDED_OUT, worker.name))
    place = [*worker.in_hand].index(entry.task)
    if place >= worker.concurrency:
        told.text += f" and works on {place} others that it got before"
    if not worker.peer:
        told.text += ", before this broker started, and has not come back yet"


def _waiting(rooms: Rooms, told: Why, entry: Entry, now: float) -> None:
    """It waits: who could take it, and what comes before it."""
    name = entry.request.service
    service = rooms.requests.dispatcher.services[name]
    called = f"service {name}" if name else "the nameless service"
    workers = list(service.workers.values())
    able = [worker for worker in workers if worker.credit and not worker.is_drained]
    if name in rooms.requests.dispatcher.paused:
        told.text = f"{called} is paused; cbw resume lets it go on"
        return
    if not workers:
        told.text = rooms.requests.expiries.why_unserved(entry.client, name, now)
        return
    if not able:
        drained = sum(worker.is_drained for worker in workers)
        why_not = "is drained" if drained == len(workers) else "wants more work"
        told.text = f"waits for {called}: " + (
            f"every worker ({len(workers)}) {why_not}; cbw undrain lets them work"
            if drained == len(workers)
            else f"none of its {len(workers)} workers {why_not} ({drained} drained)"
        )
        return
    told.before = _before(service, entry)
    told.about_s = _about_s(told.before, able)
    parts = ["more than can be counted before it" if told.before is None else f"{told.before} before it"]
    parts.append(_busy(able, now))
    if told.about_s is not None:
        parts.append(f"about {told.about_s:.2g} s")
    told.text = f"waits for {called}: {', '.join(parts)}"
    if entry.state is RequestState.SUSPECT:
        told.text += "; as it may be to blame for lost workers, it goes to one that has nothing else of that kind"
    elif not any(not worker.in_hand for worker in able):
        told.text += "; nobody idle may serve it"


def _before(service: ServiceRow, entry: Entry) -> int | None:
    suspects = [other for other in service.suspects if other.state is not RequestState.ENDED]
    if entry.state is RequestState.SUSPECT:
        return suspects.index(entry)
    return len(suspects) + service.waiting.before(entry) if len(service.waiting) <= LOOKED_MAX else None


def _about_s(before: int | None, workers: list[WorkerRow]) -> float | None:
    """How long the workers need for what is ``before`` it and one more to come free, at their pace up to now."""
    rate = sum(1.0 / mean for worker in workers if (mean := mean_s(worker)))
    return (before + 1) / rate if before is not None and rate else None


def _busy(workers: list[WorkerRow], now: float) -> str:
    ages = [now - at.handed_out_at for worker in workers if (at := oldest(worker)) is not None]
    if not ages:
        return "no worker busy"
    shown = [f"{age:.2g} s" for age in sorted(ages)[:WORKERS_NAMED_MAX]]
    more = "" if len(ages) <= WORKERS_NAMED_MAX else " and more"
    times = f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 and not more else ", ".join(shown) + more
    return f"{len(ages)} {'worker' if len(ages) == 1 else 'workers'} busy for {times}"

"""Where a request is, and why it has not ended, in words for people and in numbers for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from cbw.core import catalogue
from cbw.core.broker.delays import retries_of
from cbw.core.broker.finding import LOOKED_MAX, TICKETS, client_of, entry_of
from cbw.core.broker.reasons import Clause, clause, in_english, time_text
from cbw.core.broker.snapshot import Rooms, mean_s, oldest, state_of
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, ServiceRow, WorkerRow, request_name
from cbw.core.journal_records import FailedAttempt

WORKERS_NAMED_MAX = 5
"""Workers that a text names; there may be a thousand."""
ROW_LOOKED_MAX = 1000
"""Most requests that are looked at to tell what is before one of a list: 0.1 ms. Those that have waited longest need few."""
SIMILAR_FRESH_S = 5.0
"""How long a name that may be meant is told again in lists without another comparison, which takes up to 2 ms."""
SIMILAR_KEPT_MAX = 100
"""Names that nobody serves of which it is remembered what may be meant."""


class StoryStep(msgspec.Struct):
    """What happened to a request so long ago: an event of the trace, with its worker and its reason if it has them."""

    ago_s: float
    event: str
    worker: str = ""
    text: str = ""


class Why(msgspec.Struct, kw_only=True):
    """Where a request is: ``state`` is ``storing``, ``waiting``, ``running``, ``delayed``, ``ended`` (its answer is
    kept until its client has it) or ``dead``. ``text`` says why.

    ``clauses`` are the parts of that text, for who says it in another language.

    ``before`` requests are handed out before it, which takes about ``about_s``; None: that is not known. ``story`` is what the
    broker remembers of its life, oldest first: when it was accepted, each attempt, and how that failed.
    """

    request: str
    state: str
    text: str = ""
    service: str = ""
    age_s: float = 0.0
    attempt: int = 0
    worker: str | None = None
    before: int | None = None
    about_s: float | None = None
    story: list[StoryStep] = []
    clauses: list[Clause] = []

    def say(self, *clauses: Clause) -> None:
        """Go on with ``clauses``."""
        self.clauses += clauses
        self.text = in_english(self.clauses)


class Reasons:
    """Tells why requests of ``rooms`` have not ended."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._similar: dict[tuple[str, str], tuple[float, str]] = {}  # by key and service: when, and what may be meant

    def of_name(self, name: str, now: float) -> Why | None:
        """Why the request that the trace calls ``name`` has not ended, or how it has; None: it is not known here."""
        entry = entry_of(self._rooms, name)
        if entry is not None:
            return self._of_entry(entry, now, {}, LOOKED_MAX)
        return _of_ended(self._rooms, name, now)

    def of_rows(self, entries: Iterable[Entry], now: float) -> list[list[Clause]]:
        """Why each of ``entries``, a few of a list, has not ended. What their services have in common is looked at once."""
        crews: dict[str, _Crew] = {}
        return [self._of_entry(entry, now, crews, ROW_LOOKED_MAX).clauses for entry in entries]

    def _of_entry(self, entry: Entry, now: float, crews: dict[str, _Crew], looked_max: int) -> Why:
        told = Why(
            request=request_name(entry),
            state="waiting",
            service=entry.request.service,
            age_s=now - entry.accepted_at,
            attempt=entry.attempt,
            story=_story(entry.accepted_at, entry.failures or (), now),
        )
        if entry.state is RequestState.STORING:
            told.state = "storing"
            told.say(clause("storing"))
        elif entry.state is RequestState.DELAYED and entry.delay is not None:
            left = time_text(entry.delay.until - now)
            told.state = "delayed"
            told.say(clause("delayed", time=left), _last_try(entry) if retries_of(entry) else clause("asked"))
            told.story.append(StoryStep(0.0, catalogue.DELAYED, text=f"for another {left}"))
        elif entry.worker is not None:
            _with_worker(told, entry, entry.worker, now)
        else:
            self._waiting(told, entry, now, crews, looked_max)
        if entry.attempt > 1:
            failed = entry.attempt - 1
            told.say(clause("attempt") if failed == 1 else clause("attempts", count=failed))
        return told

    def _waiting(self, told: Why, entry: Entry, now: float, crews: dict[str, _Crew], looked_max: int) -> None:
        """Tell of a request that waits who could take it, and what comes before it."""
        name, dispatcher = entry.request.service, self._rooms.requests.dispatcher
        service = dispatcher.services[name]
        if name in dispatcher.paused:
            told.say(clause("paused", service=name))
            return
        if not service.workers:
            self._unserved(told, entry, now, is_row=looked_max < LOOKED_MAX)
            return
        crew = crews.get(name)
        if crew is None:
            crew = crews[name] = _Crew(service, now)
        if not crew.able:
            told.say(_nobody_takes_it(name, crew))
            return
        told.before = _before(service, entry, looked_max)
        told.about_s = (told.before + 1) / crew.rate if told.before is not None and crew.rate else None
        if told.before is None:
            told.say(clause("uncounted", service=name), crew.busy)
        else:
            told.say(clause("queued", service=name, count=told.before), crew.busy)
        if told.about_s is not None:
            told.say(clause("about", time=time_text(told.about_s, 2)))
        if entry.state is RequestState.SUSPECT:
            told.say(clause("suspect"))
        elif not crew.has_idle:
            told.say(clause("none_idle"))

    def _unserved(self, told: Why, entry: Entry, now: float, *, is_row: bool) -> None:
        """Nobody serves it, and perhaps another name is meant."""
        name, client = entry.request.service, entry.client
        told.say(clause("unserved", name=repr(name)) if name else clause("unserved_nameless"))
        key = (client.key.name, name)
        at, similar = self._similar.get(key, (-math.inf, ""))
        if not is_row or now - at > SIMILAR_FRESH_S:
            found = self._rooms.requests.expiries.similar(client, name, now)
            if found is not None:
                self._similar.pop(key, None)
                self._similar[key] = now, found
                similar = found
                if len(self._similar) > SIMILAR_KEPT_MAX:
                    del self._similar[next(iter(self._similar))]
        if similar:
            told.say(clause("similar", name=repr(similar)))


class _Crew:
    """The workers of a service, as far as a sentence tells of them. ``able``: some take requests. ``rate`` is their answers a
    second while they have work, as it was up to now.
    """

    def __init__(self, service: ServiceRow, now: float) -> None:
        able = [worker for worker in service.workers.values() if worker.credit and not worker.is_drained]
        self.count = len(service.workers)
        self.able = bool(able)
        self.drained = sum(worker.is_drained for worker in service.workers.values())
        self.elsewhere = 0 if able else sum(state_of(worker) == "elsewhere" for worker in service.workers.values())
        self.has_idle = any(not worker.in_hand for worker in able)
        self.rate = sum(1.0 / mean for worker in able if (mean := mean_s(worker)))
        self.busy = _busy(able, now)


def _nobody_takes_it(service: str, crew: _Crew) -> Clause:
    """There are workers, and none wants a request now."""
    if crew.drained == crew.count:
        return clause("drained", service=service, count=crew.count)
    if crew.elsewhere:
        return clause("elsewhere", service=service, count=crew.elsewhere)
    return clause("unwanted", service=service, count=crew.count, drained=crew.drained)


def _of_ended(rooms: Rooms, name: str, now: float) -> Why | None:
    letter = next((letter for letter in rooms.requests.dead if letter.request_name == name), None)
    if letter is not None:
        story = _story(letter.accepted_at, letter.attempts, now)
        story.append(StoryStep(now - letter.died_at, catalogue.GAVE_UP, text=letter.error))
        age_s = now - letter.accepted_at
        told = Why(request=name, state="dead", service=letter.service, age_s=age_s, story=story)
        told.say(clause("dead", time=time_text(now - letter.died_at), error=letter.error, id=letter.id))
        return told
    found = client_of(rooms, name)
    is_kept = name.startswith(TICKETS) and name.removeprefix(TICKETS) in rooms.tickets.rows
    if found is None and not is_kept:
        return None
    kind = "kept" if is_kept else "ended"
    if found is not None and found[1] in found[0].parked:
        kind = "away" if found[0].is_away else "unsaid"
    told = Why(request=name, state="ended")
    told.say(clause(kind))
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
    told.say(clause("running", worker=worker.name, time=time_text(now - entry.handed_out_at)))
    told.story.append(StoryStep(now - entry.handed_out_at, catalogue.HANDED_OUT, worker.name))
    place = [*worker.in_hand].index(entry.task)
    if place >= worker.concurrency:
        told.say(clause("behind", count=place))
    if not worker.peer:
        told.say(clause("unreturned"))


def _last_try(entry: Entry) -> Clause:
    """How often the handler of ``entry`` has failed, and how at last."""
    delay = entry.delay
    assert delay is not None
    error = f"{delay.kind}: {delay.text}"
    return (
        clause("failed_once", error=error)
        if delay.retries == 1
        else clause("failed_often", count=delay.retries, error=error)
    )


def _before(service: ServiceRow, entry: Entry, looked_max: int) -> int | None:
    """How many are handed out before it; None: more than ``looked_max`` would have to be looked at."""
    suspects = [other for other in service.suspects if other.state is not RequestState.ENDED]
    if entry.state is RequestState.SUSPECT:
        return suspects.index(entry)
    before = service.waiting.before(entry, looked_max)
    return None if before is None else len(suspects) + before


def _busy(workers: list[WorkerRow], now: float) -> Clause:
    ages = [now - at.handed_out_at for worker in workers if (at := oldest(worker)) is not None]
    if not ages:
        return clause("idle")
    times = [time_text(age, 2) for age in sorted(ages)[:WORKERS_NAMED_MAX]]
    if len(ages) > WORKERS_NAMED_MAX:
        return clause("busy_more", count=len(ages), times=times)
    return clause("busy_one", times=times) if len(ages) == 1 else clause("busy", count=len(ages), times=times)

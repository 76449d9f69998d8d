"""Who worked on what around each harm, as scenes that can be drawn.

A scene has the attempts of all workers from shortly before a harm until its requests have ended. Times are those of the
records, in seconds since 1970. Memory is bounded: what is far from any harm is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.failover import HARMS, HEALED

LEAD_S = 0.5
"""How much is shown from before a harm."""
TAIL_S = 0.3
"""How much is shown after the last request of a scene has ended: a late answer, or a worker that is used again."""
RECENT_MAX = 200
"""Attempts that are remembered until a harm comes, and that the scene of the load shows: more could not be told apart."""
ATTEMPTS_MAX = 2000
"""Attempts of one scene, so that the memory for it is bounded: enough for the longest of a verification."""
SCENE_S_MAX = 120.0
"""A scene ends at the latest so long after its harm, whether its requests have ended or not."""
MOMENTS_MAX = 40
"""Lines of the list under a picture."""

BROKER_HARMS = (
    catalogue.BROKER_KILLED,
    catalogue.BROKER_RESTARTED,
    catalogue.BROKER_FROZEN,
    catalogue.BROKER_CUT_OFF,
    catalogue.OWNER_KILLED,
)
LOGGER_HARMS = (catalogue.LOGGER_KILLED, catalogue.LOGGER_RESTARTED)
_DEEDS = {
    catalogue.STARTED: "the verification began",
    catalogue.LAB_SPOKEN: "its clients and workers spoke the lab's dialect",
    catalogue.STRANGE_SENT: "a stranger sent {text}",
    catalogue.DEPLOYED: "the deployment runs the services {text}, with {count} broker(s)",
    catalogue.KILLED: "{worker} was killed while it worked on {request}",
    catalogue.FROZEN: "{worker} was frozen while it worked on {request}",
    catalogue.THAWED: "{worker} was woken",
    catalogue.CUT_OFF: "{worker} was cut off from its network while it worked on {request}",
    catalogue.RECONNECTED: "{worker} was connected again",
    catalogue.LOAD_REPEATED: "the load was sent again",
    catalogue.BROKER_KILLED: "the broker {text} was killed",
    catalogue.BROKER_RESTARTED: "the broker {text} was restarted",
    catalogue.BROKER_FROZEN: "the broker {text} was frozen",
    catalogue.BROKER_CUT_OFF: "the broker {text} was cut off from its network",
    catalogue.OWNER_KILLED: "the broker {text}, which had the journal, was killed",
    catalogue.BROKER_BACK: "the broker that was hurt was well again",
    catalogue.BROKER_ASKED: "only the broker {text} was asked from here on",
    catalogue.ZOMBIE_WOKEN: "the broker {text}, whose journal another had taken, was woken",
    catalogue.ZOMBIE_ENDED: "that broker ended with exit code {count}",
    catalogue.LOGGER_KILLED: "a logger was killed",
    catalogue.LOGGER_RESTARTED: "a logger was restarted",
    catalogue.LOGGER_WRITES: "the logger wrote again",
}


class Attempt(msgspec.Struct):
    """One worker's work on one request. ``fate``: open, done, answered, late (it ended after another had the request) or lost."""

    worker: str
    request: str
    begun_at: float
    ended_at: float | None = None
    fate: str = "open"


class Outage(msgspec.Struct):
    """A worker, or the broker (empty), was down; ``until`` is None if it never came back in this scene."""

    worker: str
    since: float
    until: float | None = None


class Moment(msgspec.Struct):
    """Something that happened, for people."""

    at: float
    text: str


class Scene(msgspec.Struct):
    """What is drawn around one harm; of the load, which is none, ``harmed_at`` is None."""

    title: str
    harmed_at: float | None
    requests: dict[str, str]  #: the requests it is about, each with the worker that answered; empty: nobody has
    attempts: list[Attempt] = []
    outages: list[Outage] = []
    moments: list[Moment] = []
    is_healed: bool = True
    begins_at: float = 0.0
    ends_at: float = 0.0
    left_out: int = 0  #: moments beyond :data:`MOMENTS_MAX`

    @property
    def latest_at(self) -> float:
        """When it is over, or will be at the latest."""
        return self.ends_at or (self.harmed_at or 0.0) + SCENE_S_MAX

    @property
    def workers(self) -> list[str]:
        """The workers that it shows, in the order of their names."""
        names = [*(one.worker for one in self.attempts), *(one.worker for one in self.outages if one.worker)]
        return sorted(dict.fromkeys(names), key=lambda name: (len(name), name))

    def tell(self, at: float, text: str) -> None:
        """Add a moment, if there is room and it is news."""
        if any(moment.text == text for moment in self.moments[-3:]):
            return
        if len(self.moments) < MOMENTS_MAX:
            self.moments.append(Moment(at, text))
        else:
            self.left_out += 1


def deed(record: Record) -> str:
    """What a record of the verification itself says, for people."""
    if record.event == catalogue.BROKER_ASKED and not record.text:
        return "any broker was asked again"
    text = _DEEDS.get(record.event, record.event.replace("_", " "))
    said = text.format(text=record.text, worker=record.worker, request=record.request, count=record.count)
    return " ".join(said.split())


class Timeline:
    """Sees the records of a run in the order of time, once, and finds its scenes."""

    def __init__(self) -> None:
        self.scenes: list[Scene] = []
        self.deeds: list[Moment] = []
        self.first_at: float | None = None
        self.last_at = 0.0
        self._load: Scene | None = None
        self._running: list[Scene] = []
        self._open: dict[tuple[str, int | str], Attempt] = {}
        self._recent: deque[Attempt] = deque(maxlen=RECENT_MAX)
        self._outages: list[Outage] = []
        self._waiting: dict[str, None] = {}  # requests that clients wait for
        self._names: dict[int, str] = {}  # the request of each task that is handed out and not begun

    def watching(self, records: Iterable[Record]) -> Iterator[Record]:
        """``records``, seen in passing. At the end the scenes are complete."""
        for record in records:
            self.see(record)
            yield record
        self.close()

    def see(self, record: Record) -> None:
        """Take in the next record."""
        if self.first_at is None:
            self.first_at = record.at
        self.last_at = record.at
        for scene in [scene for scene in self._running if record.at > scene.latest_at]:
            scene.ends_at = scene.latest_at
            self._finish(scene)
        match record.role:
            case "verify":
                self._see_deed(record)
            case "worker":
                self._see_worker(record)
            case "client":
                self._see_client(record)
            case "broker":
                self._see_broker(record)
            case _:
                pass

    def close(self) -> None:
        """Note that there are no more records."""
        for scene in self._running[:]:
            scene.ends_at = min(scene.ends_at or self.last_at, self.last_at)
            self._finish(scene)
        self._draw_load()
        if self._load is not None:
            self.scenes.insert(0, self._load)
        self._load = None
        self.scenes.sort(key=lambda scene: scene.harmed_at or 0.0)

    # --- what the verification did

    def _see_deed(self, record: Record) -> None:
        text = deed(record)
        self.deeds.append(Moment(record.at, text))
        if record.event in (*HARMS, *BROKER_HARMS):
            self._draw_load()
            if record.event in HARMS:
                self._begin(record, text, {record.request: ""}, record.worker)
            else:
                self._begin(record, text, dict.fromkeys(self._waiting, ""), "")
            return
        if record.event in HEALED:
            self._back(record.at, record.worker)
        elif record.event == catalogue.BROKER_BACK:
            self._back(record.at, "")
        for scene in self._running:
            if record.event in HEALED or record.event == catalogue.BROKER_BACK:
                scene.is_healed = scene.is_healed or self._outages_of(scene)[0].until is not None
            scene.tell(record.at, text)
            self._look(scene, record.at)

    def _outages_of(self, scene: Scene) -> list[Outage]:
        return [outage for outage in self._outages if outage.since == scene.harmed_at]

    def _begin(self, record: Record, title: str, requests: dict[str, str], worker: str) -> None:
        self._outages.append(Outage(worker, record.at))
        if record.event == catalogue.KILLED:
            self._lose(worker, record.at)
        scene = Scene(title, record.at, requests, is_healed=record.event == catalogue.KILLED)
        scene.attempts = [one for one in self._recent if (one.ended_at or 0.0) >= record.at - LEAD_S]
        scene.attempts += self._open.values()
        for running in self._running:
            running.tell(record.at, title)
        scene.tell(record.at, title)
        self._running.append(scene)

    def _lose(self, worker: str, at: float) -> None:
        """What ``worker`` was at will never be done: at the time ``at`` it came to harm."""
        for key, one in list(self._open.items()):
            if key[0] == worker and one.begun_at <= at:
                del self._open[key]
                one.fate, one.ended_at = "lost", at
                self._recent.append(one)

    def _back(self, at: float, worker: str) -> None:
        for outage in self._outages:
            if outage.worker == worker and outage.until is None:
                outage.until = at

    def _draw_load(self) -> None:
        """Keep what the workers did before anything came to harm."""
        if self._load is None and not self.scenes and not self._running and (self._recent or self._open):
            attempts = [*self._recent, *self._open.values()]
            begins_at = min(one.begun_at for one in attempts)
            load = Scene("load: who worked when, before anything was hurt", None, {})
            load.begins_at, load.ends_at = begins_at, self.last_at
            load.attempts = [self._judged(load, one) for one in attempts]
            self._load = load

    # --- what the roles did

    def _see_worker(self, record: Record) -> None:
        worker = record.worker or record.sender
        if record.event == catalogue.BEGUN:
            request = record.request or self._names.pop(record.task, "") or f"task {record.task}"
            key = (worker, record.task or request)
            if key not in self._open:  # it may tell it twice: to its trace, and to that of its handler
                self._see_again(record.at, worker)
                attempt = self._open[key] = Attempt(worker, request, record.at)
                for scene in self._running:
                    if len(scene.attempts) < ATTEMPTS_MAX:
                        scene.attempts.append(attempt)
                self._tell_of(request, record.at, f"{worker} began {request}")
        elif record.event in (catalogue.DONE, catalogue.ERROR):
            done = self._open.pop((worker, record.task or record.request), None)
            if done is not None:
                done.ended_at = record.at
                self._recent.append(done)
                self._tell_of(done.request, record.at, f"{worker} had done {done.request}")

    def _see_again(self, at: float, worker: str) -> None:
        """The worker begins something: it is not down any more, and what it was at before will never be done."""
        for outage in self._outages:
            if outage.worker == worker:
                if outage.until is None:
                    outage.until = at
                self._lose(worker, outage.since)

    def _see_client(self, record: Record) -> None:
        if record.event == catalogue.SENT:
            self._waiting[record.request] = None
        elif record.event in (catalogue.GOT, catalogue.FAILED):
            self._waiting.pop(record.request, None)
            is_got = record.event == catalogue.GOT
            worker = record.text.rpartition(" ")[2] if is_got else ""
            text = f"{record.client} got the answer of {worker}" if is_got else f"{record.client} got {record.text}"
            for scene in self._running:
                if record.request in scene.requests:
                    scene.tell(record.at, f"{text} to {record.request}")
                    scene.requests[record.request] = worker or "nobody"
                    self._look(scene, record.at)

    def _see_broker(self, record: Record) -> None:
        match record.event:
            case catalogue.HANDED_OUT:
                self._names[record.task] = record.request
                self._tell_of(record.request, record.at, f"the broker gave {record.request} to {record.worker}")
            case catalogue.ANSWERED | catalogue.RETURNED | catalogue.ATTEMPT_FAILED:
                self._names.pop(record.task, None)
            case catalogue.WORKER_LOST | catalogue.WORKER_LATE:
                how = f": {record.text}" if record.text else ""
                for scene in self._running:
                    scene.tell(record.at, f"the broker gave {record.worker} up{how}")
            case catalogue.FENCED:
                for scene in self._running:
                    scene.tell(record.at, f"the broker dropped the late answer of {record.worker}")
            case catalogue.RECOVERED:
                for scene in self._running:
                    scene.tell(record.at, f"the broker had read its journal: {record.count} requests went on")
            case _:
                pass

    def _tell_of(self, request: str, at: float, text: str) -> None:
        for scene in self._running:
            if request in scene.requests:
                scene.tell(at, text)

    # --- the end of a scene

    def _look(self, scene: Scene, at: float) -> None:
        """Whether the scene is nearly over."""
        if not scene.ends_at and scene.is_healed and all(scene.requests.values()):
            scene.ends_at = at + TAIL_S

    def _finish(self, scene: Scene) -> None:
        assert scene.harmed_at is not None
        self._running.remove(scene)
        scene.begins_at = scene.harmed_at - LEAD_S
        over = [one for one in self._outages if one.since <= scene.ends_at]
        scene.outages = [msgspec.structs.replace(one) for one in over if (one.until or scene.ends_at) > scene.begins_at]
        scene.attempts = [self._judged(scene, one) for one in scene.attempts if one.begun_at <= scene.ends_at]
        self.scenes.append(scene)
        self._outages = [one for one in self._outages if one.until is None or self._running]

    def _lost_at(self, attempt: Attempt) -> float | None:
        """When its worker went down in the middle of it, if it is up again."""
        found = [one for one in self._outages if one.worker == attempt.worker and one.since >= attempt.begun_at]
        return min((one.since for one in found if one.until is not None), default=None)

    def _judged(self, scene: Scene, attempt: Attempt) -> Attempt:
        lost_at, ended_at = self._lost_at(attempt), attempt.ended_at
        if attempt.fate == "lost":
            fate = "lost"
        elif scene.requests.get(attempt.request) == attempt.worker and ended_at is not None:
            fate = "answered"
        elif lost_at is not None and ended_at is None:
            fate, ended_at = "lost", lost_at
        elif lost_at is not None and ended_at is not None and lost_at < ended_at:
            fate = "late"
        else:
            fate = "open" if ended_at is None else "done"
        return Attempt(attempt.worker, attempt.request, attempt.begun_at, ended_at, fate)

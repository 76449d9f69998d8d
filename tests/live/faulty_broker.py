"""A broker with a planted fault: ``faulty_broker.py FAULT [arguments of cbw broker]``. ``cbw verify`` must find it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

from cbw.cli.main import main
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.events import WorkerSaid
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import ClientRow, Entry, ServiceRow, WorkerRow
from cbw.core.broker.workers import Workers
from cbw.core.messages import Answer, Status
from cbw.core.plain_messages import Envelope


def swaps_replies() -> None:
    """Every other reply goes out with the body of the one before."""
    tell = Requests.tell
    last = {"body": b"nobody's"}

    def swapped(self: Requests, client: ClientRow, envelope: Envelope, answer: Answer, number: int = 0) -> None:
        last["body"], answer.body = answer.body, last["body"]
        tell(self, client, envelope, answer, number)

    Requests.tell = swapped  # type: ignore[method-assign]


def answers_twice() -> None:
    """Every answer goes out twice."""
    tell = Requests.tell

    def doubled(self: Requests, client: ClientRow, envelope: Envelope, answer: Answer, number: int = 0) -> None:
        tell(self, client, envelope, answer, number)
        tell(self, client, envelope, answer, number)

    Requests.tell = doubled  # type: ignore[method-assign]


def invents_answers() -> None:
    """Some of the first requests are answered in the name of workers that have never seen them."""
    choose, hand_out = Dispatcher.hand_out, Workers.hand_out
    invented: list[tuple[WorkerRow, Entry]] = []
    count = itertools.count()

    def withheld(self: Dispatcher, now: float, *, is_held: bool = False) -> list[tuple[WorkerRow, list[Entry]]]:
        given = choose(self, now, is_held=is_held)
        for worker, batch in given:
            for entry in batch[:]:
                if next(count) in range(20, 100, 10):
                    batch.remove(entry)
                    invented.append((worker, entry))
        return [(worker, batch) for worker, batch in given if batch]

    def pretended(self: Workers) -> None:
        hand_out(self)
        while invented:
            worker, entry = invented.pop()
            del worker.in_hand[entry.task]
            answer = Answer(entry.task, Status.OK, entry.request.body + b" " + worker.name.encode())
            self._requests.answered(worker, entry, answer)
            self._requests.dispatcher.place(worker)

    Dispatcher.hand_out = withheld  # type: ignore[method-assign]
    Workers.hand_out = pretended  # type: ignore[method-assign]


def starves_one() -> None:
    """One of the workers is never given anything."""
    serve = Dispatcher._serve

    def unfair(self: Dispatcher, service: ServiceRow, now: float) -> None:
        starved = [worker for worker in service.free if worker.name.endswith("WOR_2")]
        for worker in starved:
            del service.free[worker]
        serve(self, service, now)
        service.free.update(dict.fromkeys(starved))

    Dispatcher._serve = unfair  # type: ignore[method-assign]


def has_a_favourite() -> None:
    """While many requests wait, one worker gets them all and the others have nothing to do."""
    serve = Dispatcher._serve

    def unfair(self: Dispatcher, service: ServiceRow, now: float) -> None:
        favourite = min(service.workers.values(), key=lambda worker: worker.name, default=None)
        if service.waiting_count <= 20 or favourite is None:
            serve(self, service, now)
        elif favourite in service.free:
            self._give(favourite, service.waiting.take(1, now), now)

    Dispatcher._serve = unfair  # type: ignore[method-assign]


def is_deaf() -> None:
    """It notices neither a lost connection nor silence."""
    BrokerCore._peer_lost = lambda self, fact: None  # type: ignore[method-assign]
    Workers.sweep = lambda self, now: None  # type: ignore[method-assign]


def has_no_fence() -> None:
    """Late answers leave no trace."""
    Requests.fence = lambda self, *_: None  # type: ignore[method-assign]


def delivers_late_answers() -> None:
    """Whoever answers a request first has answered it, also if it was given to another meanwhile."""
    hand_out, said = Dispatcher.hand_out, Workers.said
    entries: dict[int, Entry] = {}

    def remembered(self: Dispatcher, now: float, *, is_held: bool = False) -> list[tuple[WorkerRow, list[Entry]]]:
        given = hand_out(self, now, is_held=is_held)
        entries.update((entry.task, entry) for _, batch in given for entry in batch)
        return given

    def believed(self: Workers, fact: WorkerSaid) -> None:
        for message in fact.messages:
            entry = entries.get(message.id) if isinstance(message, Answer) else None
            if isinstance(message, Answer) and entry is not None and entry.task != message.id:  # it was given again
                worker = entry.worker
                if worker is not None and entry.task in worker.in_hand:
                    del worker.in_hand[entry.task]
                    self._requests.answered(worker, entry, message)
        said(self, fact)

    Workers.said = believed  # type: ignore[method-assign]
    Dispatcher.hand_out = remembered  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        swaps_replies,
        answers_twice,
        invents_answers,
        has_a_favourite,
        starves_one,
        is_deaf,
        has_no_fence,
        delivers_late_answers,
    )
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    main(["broker", *sys.argv[2:]])

"""A broker with a planted fault: ``faulty_broker.py FAULT [arguments of cbw broker]``. ``cbw verify`` must find it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

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

    def swapped(requests: Requests, client: ClientRow, envelope: Envelope, answer: Any) -> None:
        last["body"], answer.body = answer.body, last["body"]
        tell(requests, client, envelope, answer)

    table: Any = Requests
    table.tell = swapped


def answers_twice() -> None:
    """Every answer goes out twice."""
    tell = Requests.tell

    def doubled(requests: Requests, client: ClientRow, envelope: Envelope, answer: Any) -> None:
        tell(requests, client, envelope, answer)
        tell(requests, client, envelope, answer)

    table: Any = Requests
    table.tell = doubled


def invents_answers() -> None:
    """Some of the first requests are answered in the name of workers that have never seen them."""
    choose, hand_out = Dispatcher.hand_out, Workers.hand_out
    invented: list[tuple[WorkerRow, Entry]] = []
    count = itertools.count()

    def withheld(dispatcher: Dispatcher, now: float) -> list[tuple[WorkerRow, list[Entry]]]:
        given = choose(dispatcher, now)
        for worker, batch in given:
            for entry in batch[:]:
                if next(count) in range(20, 100, 10):
                    batch.remove(entry)
                    invented.append((worker, entry))
        return [(worker, batch) for worker, batch in given if batch]

    def pretended(workers: Workers) -> None:
        hand_out(workers)
        while invented:
            worker, entry = invented.pop()
            del worker.in_hand[entry.task]
            answer = Answer(entry.task, Status.OK, entry.request.body + b" " + worker.name.encode())
            workers._requests.answered(worker, entry, answer)
            workers._requests.dispatcher.place(worker)

    dispatcher: Any = Dispatcher
    dispatcher.hand_out = withheld
    table: Any = Workers
    table.hand_out = pretended


def starves_one() -> None:
    """One of the workers is never given anything."""
    serve = Dispatcher._serve

    def unfair(dispatcher: Dispatcher, service: ServiceRow, now: float) -> None:
        starved = [worker for worker in service.free if worker.name.endswith("WOR_2")]
        for worker in starved:
            del service.free[worker]
        serve(dispatcher, service, now)
        service.free.update(dict.fromkeys(starved))

    table: Any = Dispatcher
    table._serve = unfair


def has_a_favourite() -> None:
    """While many requests wait, one worker gets them all and the others have nothing to do."""
    serve = Dispatcher._serve

    def unfair(dispatcher: Dispatcher, service: ServiceRow, now: float) -> None:
        favourite = min(service.workers.values(), key=lambda worker: worker.name, default=None)
        if service.waiting_count <= 20 or favourite is None:
            serve(dispatcher, service, now)
        elif favourite in service.free:
            dispatcher._give(favourite, service.waiting.take(1, now), now)

    table: Any = Dispatcher
    table._serve = unfair


def is_deaf() -> None:
    """It notices neither a lost connection nor silence."""
    core: Any = BrokerCore
    core._peer_lost = lambda core, fact: None
    workers: Any = Workers
    workers.sweep = lambda workers, now: None


def has_no_fence() -> None:
    """Late answers leave no trace."""
    table: Any = Requests
    table.fence = lambda requests, *_: None


def delivers_late_answers() -> None:
    """Whoever answers a request first has answered it, also if it was given to another meanwhile."""
    hand_out, said = Dispatcher.hand_out, Workers.said
    entries: dict[int, Entry] = {}

    def remembered(dispatcher: Dispatcher, now: float) -> list[tuple[WorkerRow, list[Entry]]]:
        given = hand_out(dispatcher, now)
        entries.update((entry.task, entry) for _, batch in given for entry in batch)
        return given

    def believed(workers: Workers, fact: WorkerSaid) -> None:
        for message in fact.messages:
            entry = entries.get(message.id) if isinstance(message, Answer) else None
            if isinstance(message, Answer) and entry is not None and entry.task != message.id:  # it was given again
                worker = entry.worker
                if worker is not None and entry.task in worker.in_hand:
                    del worker.in_hand[entry.task]
                    workers._requests.answered(worker, entry, message)
        said(workers, fact)

    table: Any = Workers
    table.said = believed
    dispatcher: Any = Dispatcher
    dispatcher.hand_out = remembered


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

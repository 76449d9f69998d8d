"""A broker with a planted fault: ``faulty_broker.py FAULT [arguments of cbw broker]``. ``cbw verify`` must find it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from cbw.cli.main import main
from cbw.core.broker import BrokerCore
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.events import WorkerSaid
from cbw.core.hands import Hands
from cbw.core.messages import Answer, Status
from cbw.core.tables import Entry, Service, Worker
from cbw.core.workers import Workers


def swaps_replies() -> None:
    """Every other reply goes out with the body of the one before."""
    reply = Clients._reply
    last = {"body": b"nobody's"}

    def swapped(clients: Clients, entry: Entry, answer: Any) -> None:
        last["body"], answer.body = answer.body, last["body"]
        reply(clients, entry, answer)

    table: Any = Clients
    table._reply = swapped


def answers_twice() -> None:
    """Every answer goes out twice."""
    reply = Clients._reply

    def doubled(clients: Clients, entry: Entry, answer: Any) -> None:
        reply(clients, entry, answer)
        reply(clients, entry, answer)

    table: Any = Clients
    table._reply = doubled


def invents_answers() -> None:
    """Some of the first requests are answered in the name of workers that have never seen them."""
    choose, hand_out = Dispatcher.hand_out, Workers.hand_out
    invented: list[tuple[Worker, Entry]] = []
    count = itertools.count()

    def withheld(dispatcher: Dispatcher, now: float) -> list[tuple[Worker, list[Entry]]]:
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
            workers._hands.answered(worker, entry, answer)
            workers._dispatcher.place(worker)

    dispatcher: Any = Dispatcher
    dispatcher.hand_out = withheld
    table: Any = Workers
    table.hand_out = pretended


def starves_one() -> None:
    """One of the workers is never given anything."""
    serve = Dispatcher._serve

    def unfair(dispatcher: Dispatcher, service: Service, now: float) -> None:
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

    def unfair(dispatcher: Dispatcher, service: Service, now: float) -> None:
        favourite = min(service.workers.values(), key=lambda worker: worker.name, default=None)
        if service.waiting_count <= 20 or favourite is None:
            serve(dispatcher, service, now)
        elif favourite in service.free:
            dispatcher._give(favourite, service, service.waiting, 1, now)

    table: Any = Dispatcher
    table._serve = unfair


def is_deaf() -> None:
    """It notices neither a lost connection nor silence."""
    core: Any = BrokerCore
    core._peer_lost = lambda core, fact: None
    workers: Any = Workers
    workers.sweep = lambda workers: None


def has_no_fence() -> None:
    """Late answers leave no trace."""
    table: Any = Hands
    table.fence = lambda hands, *_: None


def delivers_late_answers() -> None:
    """Whoever answers a request first has answered it, also if it was given to another meanwhile."""
    hand_out, said = Dispatcher.hand_out, Workers.said
    entries: dict[int, Entry] = {}

    def remembered(dispatcher: Dispatcher, now: float) -> list[tuple[Worker, list[Entry]]]:
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
                    workers._hands.answered(worker, entry, message)
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

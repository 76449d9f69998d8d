"""Parts of the system that are killed, frozen, started late or stopped: every request is answered all the same."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import zmq

import cbw
from cbw.core.broker.events import Event
from cbw.wire import native

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker, broker_of, handler_options
from .program import PATIENCE_S, SOON_S, Program, wait_until

StartAgain = Callable[[Broker], Broker]


@pytest.fixture
def start_again(start_broker: StartBroker) -> StartAgain:
    """Start a broker on the ports of one that has ended."""
    return lambda old: start_broker(client_port=old.client_port, worker_port=old.worker_port)


# --- the broker


def test_the_broker_is_started_last(
    start: Start, start_broker: StartBroker, start_again: StartAgain, connect: Connect
) -> None:
    places = start_broker()
    places.program.kill()
    worker = start("worker", "W1", HOST, places.worker_port, "--handler", "handlers:echo")
    worker.wait_for("works for")
    with ThreadPoolExecutor(2) as pool:
        waiting = connect(places)
        calls = [pool.submit(waiting.call, f"{number}") for number in range(2)]
        future = connect(places).submit("future")
        assert not waiting.has_met_broker
        start_again(places)
        assert [call.result() for call in calls] == [b"0", b"1"]
        assert future.result(PATIENCE_S) == b"future"


def test_the_broker_is_killed_under_load(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect
) -> None:
    """Clients send again what was in flight, and its successor knows nothing of what was answered. Nothing is lost."""
    started = threading.Barrier(4)
    for number in range(2):
        start_worker(f"W{number}", "echo", options=["--concurrency", 2])

    def load(name: int) -> list[bytes]:
        client, answers = connect(broker), []
        for position, answer in enumerate(client.map((f"{name}-{number}" for number in range(20_000)), window=100)):
            if position == 500:
                started.wait(PATIENCE_S)
            answers.append(answer)
        return answers

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load, name) for name in range(3)]
        started.wait(PATIENCE_S)
        broker.program.kill()
        second = start_again(broker)
        for name, answers in enumerate(loads):
            assert answers.result() == [f"{name}-{number}".encode() for number in range(20_000)]
    second.program.wait_for("worker ready", count=2)
    assert second.program.count("worker ready") == 2


def test_the_broker_is_frozen_for_a_while(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """It was silent, not its workers: nobody is lost, nothing is done twice."""
    start_worker("W1", "echo_slowly")
    client = connect(broker)
    assert client.call("0 before") == b"0 before"
    broker.program.signal(signal.SIGSTOP)
    future = client.submit("0 meanwhile")
    with pytest.raises(cbw.Expired):
        client.call("0 in time", timeout=1)
    broker.program.signal(signal.SIGCONT)
    assert future.result(PATIENCE_S) == b"0 meanwhile"
    assert log.count("begun 0 meanwhile") == 1
    assert broker.program.count("worker lost") == 0


def test_the_broker_stops_when_nothing_runs(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    worker = start_worker("W1", "echo")
    client = connect(broker)
    assert client.call("x") == b"x"
    assert broker.program.terminate() < SOON_S
    assert worker.is_running


def test_the_broker_finishes_what_runs(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect, log: Log
) -> None:
    """What waits goes to its successor, without an error in between."""
    start_worker("W1", "echo_slowly")
    client = connect(broker)
    running = client.submit("1 runs")
    log.wait_for("begun 1 runs")
    waiting = client.submit("0 waits")
    broker.program.signal(signal.SIGTERM)
    broker.program.wait_for("stopping")
    late = client.submit("0 late")
    assert running.result(PATIENCE_S) == b"1 runs"
    assert broker.program.exit_code() == 0
    assert not waiting.done()
    start_again(broker)
    assert waiting.result(PATIENCE_S) == b"0 waits"
    assert late.result(PATIENCE_S) == b"0 late"
    assert log.count("begun 1 runs") == 1


def test_the_broker_waits_no_longer_than_its_grace(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    broker = start_broker("--grace", 0.3)
    start_worker("W1", "echo_slowly", at=broker)
    future = connect(broker).submit("20 long")
    log.wait_for("begun 20 long")
    assert 0.3 <= broker.program.terminate() < SOON_S
    assert not future.done()


# --- a worker


def test_a_worker_is_killed_in_the_middle_of_a_request(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Its connection ends with it, so another has the request long before three beats are missed."""
    broker = start_broker("--liveness", 10 * PATIENCE_S)
    workers = [start_worker(f"W{number}", "echo_slowly", at=broker) for number in range(2)]
    client = connect(broker)
    future = client.submit("1 x")
    log.wait_for("begun 1 x")
    busy = workers[0]  # the first to be ready is the first to be used
    busy.kill()
    log.wait_for("begun 1 x", 2)
    assert future.result(PATIENCE_S) == b"1 x"
    assert workers[1].is_running


def test_workers_are_killed_under_load(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    workers: list[Program] = [start_worker(f"W{number}", "echo") for number in range(2)]
    answers = connect(broker).map((f"{number}" for number in range(20_000)), window=200)
    got = []
    for number in range(2, 5):
        got += [next(answers) for _ in range(2000)]
        workers.append(start_worker(f"W{number}", "echo"))
        workers[number - 2].kill()
    got += list(answers)
    assert got == [b"%d" % number for number in range(20_000)]


def test_a_worker_is_frozen_and_thawed(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    """Lost after three silent beats. What it answers later is void, and it is used again."""
    frozen = start_worker("FROZEN", "echo_slowly")
    client = connect(broker)
    future = client.submit("1 x")
    log.wait_for("begun 1 x")
    frozen.signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    other = start_worker("OTHER", "echo_slowly")
    assert future.result(PATIENCE_S) == b"1 x"
    assert 1.5 < time.monotonic() - frozen_at < 20.0
    broker.program.wait_for("worker lost", "FROZEN", "silent for 3 s")
    frozen.signal(signal.SIGCONT)
    broker.program.wait_for("fenced")
    broker.program.wait_for("worker ready", "FROZEN", count=2)
    other.kill()
    broker.program.wait_for("worker lost", "OTHER")
    assert client.call("0 again") == b"0 again"
    assert frozen.is_running
    assert log.count("done 1 x") == 2, "one of them for nothing"


def test_a_worker_stops_when_nothing_runs(broker: Broker, start_worker: StartWorker) -> None:
    for number, options in enumerate([[], ["--processes", 2], ["--concurrency", 8]]):
        worker = start_worker(f"W{number}", "echo", options=list(options))
        assert worker.terminate() < SOON_S
        broker.program.wait_for("worker left", f"W{number}", "said goodbye")


def test_a_worker_finishes_what_runs(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    """What it had not begun goes to others, at once."""
    leaving = start_worker("LEAVING", "echo_slowly")
    client = connect(broker)
    client.call("0 measured")
    running = client.submit("5 runs")
    log.wait_for("begun 5 runs")
    waiting = client.submit("0 waits")
    leaving.signal(signal.SIGTERM)
    start_worker("OTHER", "echo_slowly")
    assert waiting.result(PATIENCE_S) == b"0 waits"
    assert not running.done()
    assert running.result(PATIENCE_S) == b"5 runs"
    assert leaving.exit_code() == 0
    assert log.count("begun 5 runs") == log.count("begun 0 waits") == 1


def test_workers_come_and_go_under_load(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    """A rolling restart: not one attempt fails."""
    workers = [start_worker("W0", "echo")]
    client = connect(broker)
    is_over = threading.Event()

    def load() -> set[int]:
        done = set()
        while not is_over.is_set():
            done.add(sum(1 for _ in client.map(range(500))))
        return done

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(load)
        try:
            for number in range(1, 4):
                workers.append(start_worker(f"W{number}", "echo"))
                workers[-2].terminate()
        finally:
            is_over.set()
        assert done.result() == {500}
    assert broker.program.count("lost its connection") == 0


def test_a_death_is_noticed_by_a_broker_that_never_rests(start: Start) -> None:
    """Nothing wakes it for the news of a lost connection, as it does not sleep."""
    server = cbw.Broker(0, 0, listen=HOST, limits=cbw.Limits(liveness_s=10 * PATIENCE_S))
    step, is_over = server.core.step, threading.Event()

    def step_slowly(facts: Iterable[Event], now: float) -> list[Event]:
        time.sleep(0.004)
        return step(facts, now)

    def keep_busy() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.connect(f"tcp://{HOST}:{server.client_port}")
            while not is_over.wait(0.001):
                peer.send_multipart([native.MAGIC, msgspec.msgpack.encode([[0]])])
                while peer.poll(0):
                    peer.recv_multipart()

    server.core.step = step_slowly  # type: ignore[method-assign]
    threads = [threading.Thread(target=target, daemon=True) for target in (server.run, keep_busy)]
    for thread in threads:
        thread.start()
    try:
        worker = start("worker", "W1", HOST, server.worker_port, *handler_options(("echo",)))
        wait_until(lambda: server.core.workers.by_peer, "it is registered")
        worker.kill()
        wait_until(lambda: server.core.outbox.counts["workers_lost"] == 1, "it is noticed")
    finally:
        is_over.set()
        server.stop()
        for thread in threads:
            thread.join(PATIENCE_S)


# --- a client


def test_a_client_is_killed(
    broker: Broker, start: Start, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Others are served on; its own request is not handed out again and again."""
    start_worker("W1", "echo_slowly")
    killed = start("call", "--broker", broker.address, stdin=b"1 x")
    log.wait_for("begun 1 x")
    killed.kill()
    broker.program.wait_for("client away")
    assert connect(broker).call("0 y") == b"0 y"
    assert log.count("begun 1 x") == 1


# --- ids


def test_two_that_live_under_one_id(broker: Broker, start: Start, start_worker: StartWorker, connect: Connect) -> None:
    """The second is told so, and ends; the first is not touched."""
    first = start_worker("W1", "echo")
    client = connect(broker, id="C1")
    assert client.call("x") == b"x"
    began_at = time.monotonic()
    worker = start("worker", "W1", HOST, broker.worker_port, "--handler", "handlers:echo")
    asker = start("client", "C1", 1, HOST, broker.client_port)
    assert worker.exit_code() == asker.exit_code() == 3
    assert 3 < time.monotonic() - began_at < 20.0, "a dead one is noticed in this time"
    assert worker.count("waiting for its turn, as a worker called 'W1' lives") == 1, worker
    assert not worker.count("waiting for a broker"), "it is there, and has answered"
    assert asker.count("a client called 'C1' lives"), asker
    assert worker.count("Give this one another id")
    assert first.is_running
    assert client.call("x") == b"x"


def test_an_id_is_free_when_its_owner_is_dead(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    """It is so if nobody has noticed yet, as of a machine that was switched off: the second is patient for that long."""
    first = start_worker("W1", "echo")
    first.signal(signal.SIGSTOP)
    second = start_worker("W1", "echo")
    assert connect(broker).call("x") == b"x"
    assert second.is_running
    broker.program.wait_for("worker lost", "W1", "silent for 3 s")
    assert broker.program.count("worker lost", "W1") == 1


# --- the machine


def test_every_part_is_killed_but_the_client(
    start: Start, start_worker: StartWorker, broker: Broker, connect: Connect
) -> None:
    worker = start_worker("W1", "echo")
    client = connect(broker)
    answers = client.map((f"{number}" for number in range(5000)), window=100)
    got = [next(answers) for _ in range(1000)]
    broker.program.kill()
    worker.kill()
    second = broker_of(start("broker", broker.client_port, broker.worker_port, "--listen", HOST))
    start_worker("W1", "echo", at=second)
    got += list(answers)
    assert got == [b"%d" % number for number in range(5000)]
    wait_until(lambda: client.has_met_broker, "it has")

"""Brokers with one journal in NATS: one owns it, the others stand by; any of them is killed, frozen or stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

import cbw
from tests.nats_server import NatsServer, free_ports

from .conftest import HOST, Broker, Connect, Log, Start, StartWorker, broker_of
from .program import PATIENCE_S, Program, wait_until

ELSEWHERE = "127.0.0.2"
"""Where another broker can have the same ports, as on another machine."""
Owner = Callable[..., Broker]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def ports() -> tuple[int, int]:
    """Of clients and of workers, the same for all brokers."""
    front, back = free_ports(2)
    return front, back


@pytest.fixture
def run(
    start: Start, server: NatsServer, ports: tuple[int, int], request: pytest.FixtureRequest
) -> Callable[..., Program]:
    """Start a broker with the journal of this test, which may have to stand by."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)

    def run_one(*options: object, listen: str = HOST, **variables: str) -> Program:
        journal = f"nats://{server.address}/{name}"
        return start("broker", *ports, "--listen", listen, "--journal", journal, *options, **variables)

    return run_one


@pytest.fixture
def broker(run: Callable[..., Program]) -> Broker:
    """The owner."""
    return broker_of(run())


def page(port: int, path: str) -> tuple[int, str]:
    """The code and the text of a status page."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_standby_goes_on_with_what_a_killed_broker_had(
    broker: Broker, run: Callable[..., Program], start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    standby = run()
    standby.wait_for("stands by", "has the journal")
    start_worker("W1", "echo_slowly")
    client = connect(broker)
    futures = [client.submit(f"1.3 {number}") for number in range(3)]
    log.wait_for("begun 1.3 0")
    waiting = [client.submit(f"{number}", "served by nobody yet") for number in range(500)]
    wait_until(lambda: broker.program.count("no worker here serves them"), "they are stored, for 2 s")
    broker.program.kill()  # in the middle of the second: what has just been handed out is not in the journal yet
    heir = broker_of(standby)
    assert [future.result(PATIENCE_S) for future in futures] == [b"1.3 0", b"1.3 1", b"1.3 2"]
    start_worker("W2", "served by nobody yet=echo", at=heir)
    assert [future.result(PATIENCE_S) for future in waiting] == [b"%d" % number for number in range(500)]
    assert [log.count(f"begun 1.3 {number}") for number in range(3)] == [1, 1, 1], "the worker went on with its task"


def test_a_broker_that_is_stopped_hands_over_at_once(
    broker: Broker, run: Callable[..., Program], start_worker: StartWorker, connect: Connect
) -> None:
    standby = run()
    standby.wait_for("stands by")
    start_worker("W1", "echo")
    client = connect(broker)
    assert client.call("one") == b"one"
    broker.program.terminate()
    broker_of(standby)
    assert (
        broker.program.count("takes the journal test-a-broker") == standby.count("takes the journal test-a-broker") == 1
    )
    assert client.call("two") == b"two"


def test_a_frozen_owner_is_not_believed_any_more(
    broker: Broker, run: Callable[..., Program], start: Start, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Its journal is taken while it stands still. What it is told before it wakes reaches nobody, and it ends."""
    standby = run(listen=ELSEWHERE)
    standby.wait_for("stands by")
    start_worker("OLD", "echo_slowly")
    future = connect(broker).submit("1 x")
    log.wait_for("begun 1 x")
    broker.program.signal(signal.SIGSTOP)
    standby.wait_for("serves clients on port")
    log.wait_for("done 1 x")  # and the answer is on its way to the frozen broker
    broker.program.signal(signal.SIGCONT)
    assert broker.program.exit_code() == 6
    assert broker.program.count("another broker has written batch") == 1
    assert not future.done(), "the journal has not taken the answer, so nobody gets it"
    start("worker", "NEW", ELSEWHERE, broker.worker_port, "--handler=handlers:echo_slowly", CBW_TEST_LOG=str(log.path))
    log.wait_for("done 1 x", count=2)


def test_a_standby_says_that_it_is_one(broker: Broker, run: Callable[..., Program]) -> None:
    (port,) = free_ports(1)
    standby = run(CBW_STATUS_PORT=str(port))
    standby.wait_for("stands by")
    code, reason = page(port, "/readyz")
    assert (code, reason.strip().partition(":")[0]) == (503, "stands by")
    assert page(port, "/livez")[0] == 200
    assert json.loads(page(port, "/status.json")[1])["role"] == "standby"
    assert "cbw_ready 0" in page(port, "/metrics")[1]
    broker.program.kill()
    broker_of(standby)
    wait_until(lambda: page(port, "/readyz")[0] == 200, "it is ready now")
    assert json.loads(page(port, "/status.json")[1])["role"] == "broker"


def test_a_standby_that_is_stopped_ends(broker: Broker, run: Callable[..., Program]) -> None:
    standby = run()
    standby.wait_for("stands by")
    standby.terminate()
    assert broker.program.is_running
    assert not standby.count("serves clients")


def test_of_two_that_start_together_one_serves(run: Callable[..., Program]) -> None:
    both = [run(), run(listen=ELSEWHERE)]
    wait_until(lambda: any(program.count("stands by") for program in both), "one stands by")
    (standby,) = [program for program in both if program.count("stands by")]
    (owner,) = [program for program in both if program is not standby]
    owner.wait_for("serves clients")
    assert not standby.count("serves clients")


def test_of_three_brokers_with_two_journals_the_third_goes_on_with_either(
    start: Start, server: NatsServer, ports: tuple[int, int], log: Log
) -> None:
    """Two serve at once. Whichever of them is lost, its requests are answered by the one that stands by for both."""
    journals = f"nats://{server.address}/either-1,either-2"
    (status_port,) = free_ports(1)

    def run(number: int, **variables: str) -> Program:
        return start("broker", *ports, "--listen", f"127.0.0.{number}", "--journal", journals, **variables)

    def journal_of_third() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(page(status_port, "/status.json")[1])["journal"]
        return told

    one = broker_of(run(1)).program
    two = broker_of(run(2)).program
    three = run(3, CBW_STATUS_PORT=str(status_port))
    three.wait_for("stands by", "has the journal either-1")
    three.wait_for("stands by", "has the journal either-2")
    assert [journal["name"] for journal in journal_of_third()["journals"]] == ["either-1", "either-2"]
    assert all(journal["owner"].startswith("BRO_") for journal in journal_of_third()["journals"])
    with cbw.Client(f"127.0.0.2:{ports[0]},127.0.0.3:{ports[0]}") as client:
        asked = client.submit("0.1 of the second")
        two.wait_for("no worker here serves them")
        two.kill()
        three.wait_for("takes the journal either-2")
        three.wait_for("goes on with its journal: 1 request,")
        broker_of(three)
        assert journal_of_third()["name"] == "either-2"
        back = run(2)
        back.wait_for("has the journal either-1")
        back.wait_for("has the journal either-2")
        one.terminate()
        broker_of(back)
        places = ",".join(f"127.0.0.{number}:{ports[1]}" for number in (1, 2, 3))
        start("worker", "W1", places, "--handler=handlers:echo_slowly", CBW_TEST_LOG=str(log.path))
        assert asked.result(PATIENCE_S) == b"0.1 of the second"
    assert log.count("begun") == 1, "the client asked the third for the same request"


def test_servers_that_are_gone_for_a_while(
    start: Start, tmp_path: Path, start_worker: StartWorker, connect: Connect
) -> None:
    """Nothing is answered meanwhile, nothing is lost, and the status page says why."""
    with NatsServer(tmp_path) as server:
        (port,) = free_ports(1)
        journal = f"nats://{server.address}/j"
        place = broker_of(start("broker", 0, 0, "--listen", HOST, "--journal", journal, CBW_STATUS_PORT=str(port)))
        start_worker("W1", "echo", at=place)
        client = connect(place)
        assert client.call("before") == b"before"
        server.stop()
        future = client.submit("meanwhile")
        place.program.wait_for("journal stalled")
        assert not future.done()
        assert "asking again" in json.loads(page(port, "/status.json")[1])["journal"]["problem"]
        server.start()
        assert future.result(PATIENCE_S) == b"meanwhile"
        assert client.call("after") == b"after"


def test_a_broker_waits_for_its_servers_and_ends_when_it_is_told(start: Start) -> None:
    (port,) = free_ports(1)
    program = start("broker", 0, 0, "--journal", f"nats://{HOST}:{port}/j")
    program.wait_for("waits for its journal", f"no NATS server at {HOST}:{port}")
    program.terminate()


@pytest.mark.parametrize(
    ("journal", "words"),
    [
        ("nats://127.0.0.1:4222", "needs servers, and a name"),
        ("nats:///name", "needs servers, and a name"),
        ("nats://127.0.0.1:4222/a b", "needs servers, and a name"),
        ("nats://127.0.0.1:x/name", "no server"),
        ("nats://user:hunter2@127.0.0.1/name", "which every process list shows"),
        ("nats://127.0.0.1/name,other,name", "names a journal twice"),
        ("nats://127.0.0.1/name,", "needs servers, and a name"),
        ("nats://127.0.0.1/name?replica=3", "no option 'replica'"),
        ("nats://127.0.0.1/name?replicas=2", "1, 3 or 5 replicas"),
        ("nats://127.0.0.1/name?credentials=/nowhere", "no file that can be read"),
        ("nats://127.0.0.1/name?certificate=/etc/passwd", "go together"),
        ("kafka://127.0.0.1/name", "no journals at kafka://"),
    ],
)
def test_an_address_that_is_none(start: Start, journal: str, words: str) -> None:
    program = start("broker", 0, 0, "--journal", journal)
    assert program.exit_code() == 2
    assert program.count(words) == 1, program
    assert not program.count("hunter2"), "it is not shown again"


def test_a_journal_in_nats_can_be_looked_into(broker: Broker, start: Start, connect: Connect) -> None:
    journal = broker.program.arguments[broker.program.arguments.index("--journal") + 1]
    connect(broker).submit("x", "nobody serves this")
    broker.program.wait_for("no worker here serves them")
    refused = start("journal", "info", journal)
    assert refused.exit_code() == 3 and refused.count("has the journal") == 1, refused
    broker.program.terminate()
    told = start("journal", "info", journal, "--json")
    assert told.exit_code() == 0 and json.loads(told.lines[0])["requests"] == 1, told
    assert start("journal", "check", journal).exit_code() == 0
    several = start("journal", "check", f"{journal},other")
    assert several.exit_code() == 2 and several.count("names several journals") == 1, several
    assert start("journal", "compact", journal).exit_code() == 0
    again = start("journal", "info", journal, "--json")
    assert again.exit_code() == 0 and json.loads(again.lines[0])["requests"] == 1, again


def test_looking_for_a_journal_in_nats_makes_none(start: Start, server: NatsServer) -> None:
    missing = f"nats://{server.address}/mistyped"
    for name in ("info", "check", "export", "compact"):
        refused = start("journal", name, missing)
        assert refused.exit_code() == 2 and refused.count("no journal mistyped", "CBW_mistyped is not there") == 1, (
            refused
        )


def test_a_damaged_journal_in_nats_comes_with_advice(broker: Broker, start: Start, server: NatsServer) -> None:
    journal = broker.program.arguments[broker.program.arguments.index("--journal") + 1]
    broker.program.terminate()
    asyncio.run(_publish(server.address, f"cbw.journal.{journal.rpartition('/')[2]}.batches"))
    for command in (("journal", "info", journal), ("broker", 0, 0, "--journal", journal)):
        refused = start(*command)
        assert refused.exit_code() == 1 and refused.count("is none of a journal") == 1, refused
        assert refused.count("Restore the journal from a backup") == 1, refused


async def _publish(address: str, subject: str) -> None:
    client = await nats.connect(f"nats://{address}")
    await client.jetstream().publish(subject, b"not of a broker")
    await client.close()


def test_an_owner_goes_on_with_a_journal_of_which_nothing_was_needed(
    broker: Broker, start: Start, run: Callable[..., Program], start_worker: StartWorker, connect: Connect
) -> None:
    journal = broker.program.arguments[broker.program.arguments.index("--journal") + 1]
    broker.program.terminate()
    assert start("journal", "compact", journal).exit_code() == 0
    again = broker_of(run())
    start_worker("W1", "echo", at=again)
    assert connect(again).call("x") == b"x"


def test_the_doctor_looks_at_a_journal(broker: Broker, start: Start, server: NatsServer) -> None:
    def examined(journal: str, *, code: int) -> dict[str, dict[str, str]]:
        program = start("doctor", "--journal", journal, "--json")
        assert program.exit_code() == code, program
        return {finding["check"]: finding for finding in json.loads("\n".join(program.lines))["findings"]}

    journal = broker.program.arguments[broker.program.arguments.index("--journal") + 1]
    found = examined(journal, code=0)
    assert found["servers"]["text"].startswith("nats-server 2.") and found["servers"]["state"] == "ok"
    assert "does not survive that machine" in found["stream"]["text"]
    assert found["owner"]["text"].startswith("the broker BRO_")
    assert "sync_interval: always" in found["sync"]["advice"]
    assert "a broker makes it" in examined(f"nats://{server.address}/no-such", code=0)["stream"]["text"]
    broker.program.signal(signal.SIGSTOP)
    assert examined(journal, code=1)["owner"]["state"] == "wrong"
    broker.program.kill()
    assert examined(journal, code=0)["owner"]["text"] == "no broker has it"
    (nobody,) = free_ports(1)
    assert "no NATS server" in examined(f"nats://{HOST}:{nobody}/j", code=1)["servers"]["text"]

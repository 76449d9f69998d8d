"""The journal in NATS when the server does not answer, has no room, or is too old."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nats
import pytest
from nats.js import api

from cbw.errors import JournalBroken, JournalDamaged, JournalFull, JournalInUse, JournalTooOldServer, JournalUnreachable
from cbw.journal import nats_stream
from cbw.journal.backend import Append
from cbw.journal.nats import NatsJournal, health_of
from cbw.journal.nats_place import NatsPlace
from cbw.journal.nats_stream import Stream
from tests.nats_server import NatsServer
from tests.unit.journal.contract import batch, read

TOO_OLD = Path("/usr/sbin/nats-server")
"""Debian's."""
MB = 1 << 20
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
"""nats-py leaves the streams of lost connections to the collector."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal waits for less, for tests in which it waits several times."""
    monkeypatch.setattr(nats_stream, "REPLY_S", 1.0)
    monkeypatch.setattr(nats_stream, "FIRST_CONNECT_S", 2.0)


def journal_on(server: NatsServer) -> NatsJournal:
    return NatsJournal(NatsPlace.of(f"nats://{server.address}/j"), "BRO")


def filled(server: NatsServer, count: int, size: int = 200) -> NatsJournal:
    """A journal with ``count`` batches, each of ``size`` bytes and appended for itself."""
    journal = journal_on(server)
    read(journal)
    for position in range(1, count + 1):
        assert journal.append(position, [batch(position, size)]) is Append.DURABLE
    return journal


def contents(server: NatsServer) -> list[tuple[int, bytes]]:
    journal = journal_on(server)
    try:
        return read(journal)
    finally:
        journal.close()


async def change(server: NatsServer, **settings: object) -> None:
    """Give the stream other settings."""
    client = await nats.connect(f"nats://{server.address}")
    try:
        stream = client.jetstream()
        config = (await stream.stream_info("CBW_j")).config
        await stream.update_stream(config, **settings)
    finally:
        await client.close()


async def delete(server: NatsServer) -> None:
    client = await nats.connect(f"nats://{server.address}")
    await client.jetstream().delete_stream("CBW_j")
    await client.close()


async def lose(server: NatsServer, sequence: int) -> None:
    client = await nats.connect(f"nats://{server.address}")
    await client.jetstream().delete_msg("CBW_j", sequence)
    await client.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("size", [200, 3 * MB])
def test_an_append_without_an_answer_is_stored_once(server: NatsServer, size: int) -> None:
    journal = journal_on(server)
    read(journal)
    assert journal.append(1, [batch(1)]) is Append.DURABLE
    server.send_signal(signal.SIGSTOP)
    batches = [batch(2, size), batch(3, size)]
    assert journal.append(2, batches) is Append.UNKNOWN
    assert journal.append(2, batches) is Append.UNKNOWN
    server.send_signal(signal.SIGCONT)
    while (outcome := journal.append(2, [*batches, batch(4)])) is Append.UNKNOWN:
        pass
    assert outcome is Append.DURABLE and journal.next_position == 5
    journal.close()
    assert contents(server) == [(1, batch(1)), (2, batch(2, size)), (3, batch(3, size)), (4, batch(4))]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_nothing_of_a_fenced_owner_is_stored_behind_the_new_ones(
    server: NatsServer, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new owner has written as many messages as the former one has in the same append, so that the stream ends where a later
    one of these would come next. (The simulation has found this one.)"""

    async def nobody(stream: Stream, timeout_s: float, question: bytes) -> str:
        return ""

    former, new = journal_on(server), journal_on(server)
    read(former)
    assert former.append(1, [batch(1)]) is Append.DURABLE
    monkeypatch.setattr(Stream, "ask_for_owner", nobody)
    assert read(new) == [(1, batch(1))]
    for position in range(2, 2 + written):
        assert new.append(position, [batch(position)]) is Append.DURABLE
    assert former.append(2, [batch(position, MB) for position in range(2, 6)]) is Append.FENCED
    assert new.append(2 + written, [batch(2 + written)]) is Append.DURABLE
    new.close()
    former.close()
    assert contents(server) == [(position, batch(position)) for position in range(1, 3 + written)]


@pytest.mark.usefixtures("impatient")
def test_a_compaction_whose_outcome_is_unknown_fences_nobody(server: NatsServer) -> None:
    """What says that old batches are dropped may be stored although no answer came."""
    journal = filled(server, 5)
    server.send_signal(signal.SIGSTOP)
    assert journal.compact(4), "it is to be called again"
    server.send_signal(signal.SIGCONT)
    while (outcome := journal.append(6, [batch(6)])) is Append.UNKNOWN:
        pass
    assert outcome is Append.DURABLE
    while journal.compact(4):
        pass
    journal.close()
    assert contents(server) == [(position, batch(position)) for position in range(4, 7)]


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_what_a_former_owner_drops_late_is_not_missed(
    server: NatsServer, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its order to drop what is needed no longer arrives when another broker has read so often."""
    late: list[int] = []
    drop, read_some = Stream.drop, Stream.read

    async def is_on_the_way(stream: Stream, before: int) -> None:
        late.append(before)

    async def read_beside(stream: Stream, first: int, until: int, average_bytes: int) -> list[tuple[int, bytes]]:
        if first == 1 + reads:
            await drop(stream, late[0])
        return await read_some(stream, first, until, average_bytes)

    former = filled(server, 5)
    monkeypatch.setattr(Stream, "drop", is_on_the_way)
    while former.compact(4):
        pass
    former.close()
    monkeypatch.setattr(Stream, "read", read_beside)
    monkeypatch.setattr(nats_stream, "READ_MAX", 1)
    assert contents(server) == [(position, batch(position)) for position in (4, 5)]


def test_a_journal_of_which_messages_are_missing_is_damaged(server: NatsServer) -> None:
    journal = filled(server, 5)
    journal.close()
    asyncio.run(lose(server, 4))
    with pytest.raises(JournalDamaged, match="message 4 of the stream CBW_j is missing"):
        contents(server)


def test_a_server_that_was_killed_in_between_has_what_it_has_acknowledged(server: NatsServer) -> None:
    journal = filled(server, 49)
    server.stop()
    assert journal.append(50, [batch(50)]) is Append.UNKNOWN
    server.start()
    while (outcome := journal.append(50, [batch(50)])) is Append.UNKNOWN:
        pass
    assert outcome is Append.DURABLE
    journal.close()
    assert contents(server) == [(position, batch(position)) for position in range(1, 51)]


def test_a_stream_without_room(server: NatsServer) -> None:
    journal = journal_on(server)
    read(journal)
    asyncio.run(change(server, max_bytes=2 * MB))
    assert journal.append(1, [batch(1, MB // 2)]) is Append.DURABLE
    with pytest.raises(JournalFull, match="the stream CBW_j has no room"):
        for position in range(2, 9):
            assert journal.append(position, [batch(position, MB // 2)]) is Append.DURABLE
    position = journal.next_position
    assert position > 2
    asyncio.run(change(server, max_bytes=-1))
    assert journal.append(position, [batch(position, MB // 2), batch(position + 1)]) is Append.DURABLE
    journal.close()
    found = contents(server)
    assert found[:-1] == [(number, batch(number, MB // 2)) for number in range(1, position + 1)]
    assert found[-1] == (position + 1, batch(position + 1))


@pytest.mark.parametrize("is_told", [True, False])
def test_a_full_stream_is_made_smaller(server: NatsServer, is_told: bool) -> None:
    """Although what says so finds no room in it, and also if the broker ends before it has said so."""
    journal = filled(server, 5, MB // 2)
    asyncio.run(change(server, max_bytes=journal.size_bytes))
    with pytest.raises(JournalFull):
        journal.append(6, [batch(6)])
    assert journal.compact(3), "there is room now, which is to be told of"
    if is_told:
        while journal.compact(3):
            pass
        assert journal.append(6, [batch(6)]) is Append.DURABLE
    journal.close()
    assert contents(server)[:3] == [(position, batch(position, MB // 2)) for position in (3, 4, 5)]


def test_a_standby_waits_for_room_to_take_a_journal(server: NatsServer) -> None:
    """Which its owner had no room to give back."""
    former = journal_on(server)
    read(former)
    assert former.append(1, [batch(1)]) is Append.DURABLE
    asyncio.run(change(server, max_bytes=former.size_bytes))
    former.close()
    standby, told = journal_on(server), list[str]()

    def hear(text: str) -> None:
        told.append(text)
        asyncio.run(change(server, max_bytes=-1))

    assert standby.acquire(lambda: False, hear)
    assert [text for text in told if "no room" in text] == told[:1], "once, and then there was room"
    assert read(standby) == [(1, batch(1))]
    standby.close()


def test_a_stream_says_how_full_it_is(server: NatsServer) -> None:
    journal = journal_on(server)
    read(journal)
    assert journal.append(1, [batch(1, MB)]) is Append.DURABLE
    assert journal.filled == 0.0
    asyncio.run(change(server, max_bytes=4 * MB))
    while not 0.2 < journal.filled < 0.3:
        time.sleep(0.01)
    assert journal.append(2, [batch(2, MB)]) is Append.DURABLE
    assert 0.5 <= journal.filled < 0.6, "at once"
    asyncio.run(change(server, max_bytes=-1))
    while journal.filled:
        time.sleep(0.01)
    journal.close()


def test_a_stream_that_is_deleted(server: NatsServer) -> None:
    """There is nobody to be asked any more: it stays unknown, and whoever appends gives up after a while."""
    journal = journal_on(server)
    read(journal)
    asyncio.run(delete(server))
    assert journal.append(1, [batch(1)]) is Append.UNKNOWN
    journal.close()


@pytest.mark.parametrize("number", range(8))
def test_of_two_brokers_of_one_name_that_start_together_one_has_the_journal(server: NatsServer, number: int) -> None:
    """What they append is no more alike than they are."""
    begin = threading.Barrier(2)

    def has_it(journal: NatsJournal) -> bool:
        begin.wait()
        try:
            read(journal)
        except JournalInUse:
            return False
        return True

    both = journal_on(server), journal_on(server)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(has_it, both)) == [False, True]
    for journal in both:
        journal.close()


def test_the_owner_knows_who_stands_by(server: NatsServer) -> None:
    owner, standby = journal_on(server), NatsJournal(NatsPlace.of(f"nats://{server.address}/j"), "BRO_standby")
    assert owner.describe() == {
        "kind": "nats", "place": server.address, "name": "j", "owner": None, "epoch": None, "standbys": [],
    }  # fmt: skip
    read(owner)
    is_over = threading.Event()
    waiting = threading.Thread(target=standby.acquire, args=(is_over.is_set, lambda _: None))
    waiting.start()
    deadline = time.monotonic() + 30
    while (
        owner.describe()["standbys"] != ["BRO_standby"] or standby.describe()["owner"] is None
    ) and time.monotonic() < deadline:  # the owner hears of the standby before that hears the owner's answer
        time.sleep(0.01)
    told = owner.describe()
    assert (told["owner"], told["epoch"], told["standbys"]) == ("BRO", 1, ["BRO_standby"])
    told = standby.describe()
    assert (told["owner"], told["epoch"], told["standbys"]) == ("BRO", None, [])
    owner.append(1, [batch(1)])
    owner.close()
    waiting.join()
    told = standby.describe()
    assert (told["owner"], told["epoch"]) == ("BRO_standby", 4), "behind ours, a batch, and that we have ended"
    standby.close()


def test_who_only_looks_does_not_stand_by(server: NatsServer) -> None:
    owner, other = journal_on(server), journal_on(server)
    read(owner)
    assert health_of(owner.place).owner == "BRO"
    with pytest.raises(JournalInUse):
        other.open()
    assert owner.describe()["standbys"] == []
    owner.close()


@pytest.mark.usefixtures("impatient")
def test_nobody_is_there(server: NatsServer) -> None:
    address = server.address
    server.stop()
    with pytest.raises(JournalUnreachable, match=f"no NATS server at {address}"):
        journal_on(server).open()


def test_a_server_that_is_too_old(tmp_path: Path) -> None:
    if not TOO_OLD.is_file():
        pytest.skip("Debian's nats-server is not installed")
    with (
        NatsServer(tmp_path, program=str(TOO_OLD)) as server,
        pytest.raises(JournalTooOldServer, match=r"has version 2\.\d+\.\d+, in which two brokers"),
    ):
        journal_on(server).open()


def test_a_stream_of_somebody_else(server: NatsServer) -> None:
    async def fill() -> None:
        client = await nats.connect(f"nats://{server.address}")
        await client.jetstream().add_stream(api.StreamConfig(name="CBW_j", subjects=["other"]))
        await client.jetstream().publish("other", b"hello")
        await client.close()

    asyncio.run(fill())
    with pytest.raises((JournalUnreachable, JournalBroken), match="CBW_j"):
        journal_on(server).open()

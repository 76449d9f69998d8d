"""Logs of any length are judged in bounded memory, in the order of time, however late some records came."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.logs.numbers import Numbers
from cbw.verify import traces
from cbw.verify.checks import judge
from cbw.verify.scenario import merged
from cbw.verify.traces import ordered

START = 1_700_000_000.0


def life(number: int, at: float, *, answer: str = "") -> list[Record]:
    """The records of a request, as they come through the logger."""
    request, client, worker = f"C1/{number}", "C1", f"W{number % 4}"
    of_client = partial(Record, role="client", sender=client, request=request, client=client, boot="c")
    of_broker = partial(Record, role="broker", sender="BRO", request=request, client=client, service="s", boot="b")
    of_worker = partial(
        Record, role="worker", sender=worker, request=request, service="s", worker=worker, task=number + 1, boot=worker
    )
    return [
        of_client(at, catalogue.SENT, service="s", text=request, seq=2 * number + 1),
        of_broker(at + 0.001, catalogue.ACCEPTED, seq=3 * number + 1),
        of_broker(at + 0.002, catalogue.HANDED_OUT, worker=worker, task=number + 1, attempt=1, seq=3 * number + 2),
        of_worker(at + 0.003, catalogue.BEGUN, seq=number + 1),
        of_worker(at + 0.004, catalogue.ERROR if number % 10 == 0 else catalogue.DONE, seq=number + 1),
        of_broker(at + 0.005, catalogue.ANSWERED, worker=worker, task=number + 1, attempt=1, seq=3 * number + 3),
        of_client(at + 0.006, catalogue.GOT, text=answer or f"{request} {worker}", seq=2 * number + 2),
    ]


def write(path: Path, records: Iterator[Record] | list[Record]) -> Path:
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for record in records:
            file.write(encode(record) + b"\n")
    return path


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "UNORDERED_MAX", 100)


@pytest.mark.parametrize("seed", range(5))
def test_in_order_however_late(tmp_path: Path, seed: int) -> None:
    """Some senders are seconds late, one was cut off from the logger for most of the time."""
    draw = random.Random(seed)
    records = [record for number in range(400) for record in life(number, START + number / 100)]
    delays = {sender: draw.uniform(0, 2) for sender in ("BRO", "C1", "W0", "W1", "W2")} | {"W3": 3.5}
    arrived = sorted(records, key=lambda record: record.at + delays[record.sender])
    found = list(ordered(str(write(tmp_path / "logs", arrived))))
    assert [record.at for record in found] == sorted(record.at for record in records)
    assert sorted(map(str, found)) == sorted(map(str, records))
    assert all(verdict.passed for verdict in judge(merged([str(tmp_path / "logs")])))


def test_the_rotated_files_belong_to_it_and_text_does_not(tmp_path: Path) -> None:
    lines = [msgspec.json.encode(record) for number in range(60) for record in life(number, START + number / 100)]
    lines[7:7] = [b"a line of text", b'{"level":30,"msg":"of some other program"}', b'{"at":1,"event":"torn']
    for count, name in enumerate(("logs.20250101T000000.000000.gz", "logs.20250102T000000.000000", "logs")):
        data = b"\n".join(lines[count * 141 : (count + 1) * 141]) + b"\n"
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert len(list(ordered(str(tmp_path / "logs")))) == 60 * 7
    assert len(list(ordered(str(tmp_path / "logs.20250102T000000.000000")))) == 141


@pytest.mark.parametrize("text", [b'{"at":1,"event":"got"} {"at":2,"event":"got"}', b'{"at":1,\n"event":"got"}'])
def test_no_lines_of_text_make_a_record_together(tmp_path: Path, text: bytes) -> None:
    """Two records in a line, or one in two lines: JSON allows both, and anybody may send lines of text."""
    path = write(tmp_path / "logs", life(1, START))
    path.write_bytes(path.read_bytes() + text + b"\n")
    assert len(list(ordered(str(path)))) == 7


def test_a_fault_in_a_log_is_found(tmp_path: Path) -> None:
    records = [record for number in range(400) for record in life(number, START + number / 100)]
    wrong = life(400, START + 2, answer="C1/17 W1")
    twice = life(7, START + 0.07)[-1]
    twice.seq, twice.at = 801, START + 5
    for fault in ([*wrong], [twice]):
        path = write(tmp_path / "logs", records + fault)
        verdict = judge(merged([str(path)]))[0]
        assert (verdict.name, verdict.passed, verdict.figures["wrong"]) == ("own-replies", False, 1)


def test_what_a_log_lacks_is_nobodys_fault(tmp_path: Path) -> None:
    """The oldest files are gone: of some requests only the end is left."""
    records = [record for number in range(400) for record in life(number, START + number / 100)]
    verdict = judge(merged([str(write(tmp_path / "logs", records[703:]))]))[0]
    assert verdict.passed
    assert (verdict.figures["untold"], verdict.figures["judged"]) == (1, 299)


@pytest.mark.parametrize("content", [b"nonsense\n", b"{}\n", b'{"a":1}\n\n'])
def test_what_is_no_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trace").write_bytes(content)
    with pytest.raises(UsageError, match="no trace"):
        list(ordered(str(tmp_path / "trace")))


def test_a_trace_that_has_only_been_begun(tmp_path: Path) -> None:
    for content in (b"", b'{"at":17.3,"eve'):
        (tmp_path / "trace").write_bytes(content)
        assert list(ordered(str(tmp_path / "trace"))) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Five times as many requests, one in ten of which fails: the same memory."""
    peaks = []
    for count in (3_000, 15_000):
        path = write(tmp_path / "logs", (r for number in range(count) for r in life(number, START + number / 100)))
        tracemalloc.start()
        verdicts = judge(merged([str(path)]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert verdicts[0].figures["judged"] == count
    assert peaks[1] < peaks[0] + 300_000, peaks


def test_numbers() -> None:
    draw = random.Random(5)
    for _ in range(200):
        told = [draw.randint(1, 40) for _ in range(draw.randint(0, 60))]
        numbers, seen = Numbers("S"), set(told)
        for number in told:
            numbers.add(number)
        assert (numbers.count, numbers.twice) == (len(seen), len(told) - len(seen))
        assert numbers.missing == (max(seen) - min(seen) + 1 - len(seen) if seen else 0)
        assert numbers.is_whole == (bool(seen) and seen == set(range(1, max(seen) + 1)))

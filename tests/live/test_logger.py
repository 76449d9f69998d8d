"""The logger as a process: killed, out of room, beside another one; nothing is lost without being counted."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

import cbw
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import NotReady
from cbw.logger.logfile import files_of
from cbw.logger.logger import Logger
from cbw.observe.sender import LogSender
from cbw.transport import link, sockets
from tests.ports import free_port

from .conftest import HOST, Start, StartBroker, broker_of
from .program import PATIENCE_S, SOON_S, Program, wait_until
from .test_status import listens

StartLogger = Callable[..., tuple[Program, int]]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The log's file."""
    return tmp_path / "logs" / "logs"


@pytest.fixture
def start_logger(start: Start, logs: Path) -> StartLogger:
    """``start_logger("--fsync", "always", port=0)``: a logger that listens, and its text port."""

    def start_one(*options: object, port: int = 0) -> tuple[Program, int]:
        logger = start("logger", port, logs, *options)
        line = logger.wait_for("text on port")
        return logger, int(line.split("text on port ")[1].split(",")[0])

    return start_one


@contextlib.contextmanager
def sending(port: int, name: str = "S", **options: Any) -> Iterator[LogSender]:
    sender = LogSender(name, HOST, port + 1, spool_bytes=options.get("spool_bytes", 64 << 20))
    try:
        yield sender
    finally:
        sender.close()


def records(path: Path) -> list[dict[str, Any]]:
    """All records of the log, rotated files first."""
    lines: list[bytes] = []
    for file in files_of(path):
        data = file.read_bytes()
        lines += (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def sent(path: Path, boot: str) -> list[int]:
    """The numbers of the records of ``boot``, as they stand in the log."""
    return [record["seq"] for record in records(path) if record.get("boot") == boot]


def record(number: int) -> Record:
    return Record(time.time(), catalogue.LOG, role="app", sender="S", request=f"C1/{number}")


def test_lines_of_text_from_any_push_socket(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger()
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://{HOST}:{port}")
        for line in (b"one", "dos ñ".encode(), b"a\nb", b"\xff"):
            push.send(line)
        push.send_multipart([b"two", b"frames"])
        wait_until(lambda: logs.read_text().count("\n") >= 6, "five lines and the logger's own")
    assert logs.read_text().splitlines()[1:] == ["one", "dos ñ", "a\\nb", "\\xff", "two frames"]
    assert logger.terminate() < SOON_S


def test_a_killed_logger_loses_and_repeats_nothing(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger()
    with sending(port) as sender:
        count = kills = 0

        def is_repaired() -> bool:
            return logs.read_bytes().count(b'"repaired"') == kills

        for _ in range(4):
            for _ in range(60):
                sender.put([record(count + number) for number in range(100)])
                count += 100
                time.sleep(0.003)
            logger.signal(signal.SIGKILL)
            logger.exit_code()
            with logs.open("ab") as file:
                file.write(b'{"at":1,"event":"torn')
            logger, port = start_logger(port=port)
            kills += 1
            wait_until(is_repaired, "it has read the log")
        wait_until(lambda: sender.status()["acknowledged"] == count, f"{count} records: {sender.status()}")
        assert sent(logs, sender.boot) == list(range(1, count + 1))
        assert sender.status()["dropped"] == 0
    events = Counter(line["event"] for line in records(logs))
    assert events["repaired"] == 4 and events["started"] == 5 and not events["gap"]


def test_what_a_full_spool_drops_is_a_counted_gap(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger()
    with sending(port, spool_bytes=1 << 16) as sender:
        sender.put([record(0)])
        wait_until(lambda: sender.status()["acknowledged"] == 1, "the first record")
        logger.kill()
        for number in range(30):
            sender.put([record(number) for number in range(number * 100, number * 100 + 100)])
            time.sleep(0.03)
        wait_until(lambda: sender.status()["dropped"] > 0, "the spool is full")
        logger, _ = start_logger(port=port)
        wait_until(lambda: sender.status()["waiting"] == 0, f"the rest: {sender.status()}")
        dropped = sender.status()["dropped"]  # only now: its thread may have been late
        (gap,) = (line for line in records(logs) if line["event"] == "gap")
        assert gap["count"] == dropped == 3001 - len(sent(logs, sender.boot))


def test_two_loggers_share_a_file(start_logger: StartLogger, logs: Path) -> None:
    (first, one), (_, other) = start_logger("--rotate-bytes", 100_000), start_logger("--rotate-bytes", 100_000)
    with sending(one, "A") as a, sending(other, "B") as b:
        for _ in range(100):
            a.put([record(n) for n in range(20)])
            b.put([record(n) for n in range(20)])
            time.sleep(0.005)
        wait_until(lambda: a.status()["acknowledged"] == b.status()["acknowledged"] == 2000, "all records")
    assert sent(logs, a.boot) == sent(logs, b.boot) == list(range(1, 2001))
    assert len(files_of(logs)) > 2
    assert first.is_running


def test_a_sender_moves_from_one_logger_to_another(start_logger: StartLogger, logs: Path) -> None:
    """Both write one file, so the second knows what the first has written."""
    first, port = start_logger()
    with sending(port) as sender:
        sender.put([record(number) for number in range(50)])
        wait_until(lambda: sender.status()["acknowledged"] == 50, "the first fifty")
        _, other = start_logger()
        first.terminate()
        with zmq.Context() as context:  # stands in for a name that now means the other one
            front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
            with front, back:
                front.bind(f"tcp://{HOST}:{port + 1}")
                back.connect(f"tcp://{HOST}:{other + 1}")
                sender.put([record(number) for number in range(50, 100)])
                until = time.monotonic() + PATIENCE_S
                while sender.status()["acknowledged"] < 100 and time.monotonic() < until:
                    peer = b""
                    if front.poll(50):
                        peer, *frames = front.recv_multipart()
                        back.send_multipart(frames)
                    if back.poll(700) and peer:
                        front.send_multipart([peer, *back.recv_multipart()])
        assert sender.status()["acknowledged"] == 100
    assert sent(logs, sender.boot) == list(range(1, 101))


def test_rotation_compresses_keeps_and_forgets(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger("--rotate-bytes", 1 << 16, "--keep", 2)
    with sending(port) as sender:
        for number in range(200):
            sender.put([record(n) for n in range(number * 20, number * 20 + 20)])
            time.sleep(0.003)
        wait_until(lambda: sender.status()["acknowledged"] == 4000, f"all records: {sender.status()}")
    wait_until(lambda: [path.suffix for path in files_of(logs)][:-1] == [".gz", ".gz"], f"two: {files_of(logs)}")
    numbers = sent(logs, sender.boot)
    assert numbers == list(range(numbers[0], 4001))
    logger.kill()
    _, port = start_logger("--rotate-bytes", 1 << 16)
    assert not any(line["event"] in ("gap", "duplicates") for line in records(logs))


def test_sighup_opens_the_file_anew(start_logger: StartLogger, logs: Path) -> None:
    """Or emptied it. The new file is enough to go on from, also for a logger that is started later."""
    logger, port = start_logger()
    with sending(port) as sender:
        sender.put([record(1), record(2)])
        wait_until(lambda: sender.status()["acknowledged"] == 2, "two records")
        logs.rename(logs.with_name("moved"))
        logger.signal(signal.SIGHUP)
        wait_until(lambda: logs.exists() and logs.stat().st_size, "a new file")
        logger.kill()
        logger, port = start_logger(port=port)
        sender.put([record(3)])
        wait_until(lambda: sender.status()["acknowledged"] == 3, "a record")
        os.truncate(logs, 0)
        sender.put([record(4)])
        wait_until(lambda: sender.status()["acknowledged"] == 4, "another one")
        logger.kill()
        start_logger(port=port)
        sender.put([record(5)])
        wait_until(lambda: sender.status()["acknowledged"] == 5, "the last one")
    assert sent(logs, sender.boot) == [4, 5]
    assert not any(line["event"] == "gap" for line in records(logs))


def test_a_logger_that_is_stopped_reads_what_is_here(logs: Path) -> None:
    """Nobody else keeps lines of text."""
    logger = Logger(0, logs, listen=HOST)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://{HOST}:{logger.text_port}")
        for number in range(900):
            push.send(b"%d" % number)
        wait_until(lambda: logger._texts.has_input, "the lines are here")
        time.sleep(1)  # until all are
        logger.stop()
        logger.run()
    assert [line for line in logs.read_text().splitlines() if line[0] != "{"] == [f"{n}" for n in range(900)]


def test_a_lost_folder_is_made_again(start_logger: StartLogger, logs: Path) -> None:
    _, port = start_logger()
    with sending(port) as sender:
        logs.parent.rename(logs.parent.with_name("moved"))
        sender.put([record(1)])
        wait_until(lambda: sender.status()["acknowledged"] == 1, "a record")
    assert sent(logs, sender.boot) == [1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 384 kB: all that a sender has fits on it, if nothing else is there."""
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def full(start: Start, small_disk: Path) -> Iterator[tuple[Program, int, LogSender, Path]]:
    """A logger whose disk has room for half of what a sender has for it, its port, the sender, and what takes the room."""
    logger = start("logger", 0, small_disk / "logs")
    port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 281_000)
    with sending(port) as sender:
        for _ in range(20):
            sender.put([record(number) for number in range(100)])
            time.sleep(0.02)
        logger.wait_for("cannot write the log", "No space left")
        yield logger, port, sender, ballast


def test_a_full_disk_is_survived_and_accounted_for(start: Start, small_disk: Path) -> None:
    path = small_disk / "logs"
    with full(start, small_disk) as (logger, _, sender, ballast):
        assert path.read_bytes().endswith(b"\n")
        ballast.unlink()
        path.rename(small_disk / "gone")
        (small_disk / "gone").unlink()
        logger.signal(signal.SIGHUP)
        logger.wait_for("can be written again")
        wait_until(lambda: sender.status()["waiting"] == 0, f"the rest: {sender.status()}")
        numbers = sent(path, sender.boot)
        assert numbers == list(range(numbers[0], 2001))
        assert sender.status()["dropped"] == 0


def test_a_logger_that_is_killed_while_the_disk_is_full(start: Start, small_disk: Path) -> None:
    """It has acknowledged only what is in the file: senders still have the rest."""
    path = small_disk / "logs"
    with full(start, small_disk) as (logger, port, sender, ballast):
        time.sleep(1)
        logger.kill()
        assert sender.status()["acknowledged"] <= len(sent(path, sender.boot)) < 2000
        ballast.unlink()
        moved = Path(shutil.copy(path, small_disk.parent))  # to a disk with room
        start("logger", port, moved)
        wait_until(lambda: sender.status()["waiting"] == 0, f"the rest: {sender.status()}")
        assert sent(moved, sender.boot) == list(range(1, 2001))
    assert not any(line["event"] in ("gap", "lost") for line in records(moved))


def test_text_lines_lost_to_a_full_disk_are_counted(start: Start, small_disk: Path) -> None:
    path = small_disk / "logs"
    logger = start("logger", 0, path)
    port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    line, count = b"x" * 999, 12_000  # 12 MB; 8 MiB are kept
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://{HOST}:{port}")
        for _ in range(count):
            push.send(line)
        push.send(b"last")
        logger.wait_for("cannot write the log")
        time.sleep(1.5)  # until all have arrived
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        wait_until(lambda: b"\nlast\n" in path.read_bytes(), "the last line")
    (lost,) = (line for line in records(path) if line["event"] == "lost")
    assert lost["count"] > 0
    assert lost["count"] == count - path.read_bytes().count(line)


def test_every_role_sends_its_trace(start_logger: StartLogger, start: Start, logs: Path) -> None:
    _, port = start_logger()
    where = {"LOGGER_HOST": HOST, "LOGGER_PORT": str(port)}
    broker = broker_of(start("broker", 0, 0, HOST, port, "--listen", HOST))
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0, **where).wait_for("connected")
    client = start("client", "C1", 3, HOST, broker.client_port, **where)
    assert client.exit_code() == 0
    story = ["sent", "accepted", "handed_out", "begun", "done", "answered", "got"]

    def of(number: int) -> list[str]:
        mine = [line for line in records(logs) if line.get("request") == f"C1/{number}"]
        return [line["event"] for line in sorted(mine, key=lambda line: (line["at"], story.index(line["event"])))]

    wait_until(lambda: all(sorted(of(n)) == sorted(story) for n in (1, 2, 3)), f"three stories: {logs.read_text()}")
    assert of(2) == story


def test_level_and_sample(start_logger: StartLogger, start: Start, logs: Path) -> None:
    _, port = start_logger()
    where = {"LOGGER_HOST": HOST, "LOGGER_PORT": str(port)}
    broker = broker_of(start("broker", 0, 0, "--listen", HOST, "--log-sample", 0.5, **where))
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0, "--log-sample", 0.5, **where).wait_for(
        "connected"
    )
    assert start("client", "C1", 40, HOST, broker.client_port, "--log-level", "info", **where).exit_code() == 0
    broker.program.terminate()
    wait_until(lambda: any(line["event"] == "stopped_serving" for line in records(logs)), "the broker's last record")
    stories = Counter(line["request"] for line in records(logs) if "request" in line and line["role"] == "broker")
    assert 5 < len(stories) < 35 and set(stories.values()) == {3}
    wait_until(
        lambda: {line["request"] for line in records(logs) if line["event"] == "done"} == set(stories), "the same ones"
    )
    assert not any(line["role"] == "client" for line in records(logs))


FORGED = (
    '{"at":1,"event":"x","boot":"BOOT","seq":900000}',
    '{"event":"x","role":"y","at":1,"boot":"BOOT","seq":900000}',
    '{"at":1,"event":"positions","role":"logger","fields":{"BOOT":900000}}',
    "2026-11-29 12:00:00.000 S test [BOOT 900000]",
)
"""Lines of text that would move the position of a sender, if they were records."""


@pytest.mark.parametrize("format", ["json", "text"])
def test_lines_of_text_that_look_like_records_move_nobodys_position(
    start_logger: StartLogger, start: Start, logs: Path, format: str
) -> None:
    """Positions are read back from the log: records that were taken for duplicates were acknowledged, and lost."""
    logger, port = start_logger("--format", format)
    with sending(port) as sender:
        sender.put([record(number) for number in range(3)])
        wait_until(lambda: sender.status()["acknowledged"] == 3, "three records")
        forged = [line.replace("BOOT", sender.boot) for line in FORGED]
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(f"tcp://{HOST}:{port}")
            for line in forged:
                push.send_string(line)
            push.send(b"last")
            wait_until(lambda: logs.read_bytes().endswith(b"last\n"), "the lines of text")
        logger.kill()
        _, port = start_logger("--format", format, port=port)
        sender.put([record(number) for number in range(3, 6)])
        wait_until(lambda: sender.status()["waiting"] == 0, "three more")
    assert logs.read_text().count(" log C1/" if format == "text" else '"event":"log"') == 6
    shown = start("logs", logs)
    assert shown.exit_code() == 0
    for line in forged:
        assert shown.count(line), "people can read it"


def test_nobody_writes_records_in_the_name_of_another(start_logger: StartLogger, logs: Path) -> None:
    """Neither with another's boot, nor number, nor name in the lines; nor with another's boot in the header."""
    logger, port = start_logger()
    with sending(port) as sender:
        sender.put([record(number) for number in range(3)])
        wait_until(lambda: sender.status()["acknowledged"] == 3, "three records")
        line = b'{"at":1,"event":"x","sender":"%b","boot":"%b","seq":%d}\n'
        boot = sender.boot.encode()
        mine, theirs = ["me", "mine", 1, 1, 1], ["me", sender.boot, 900_000, 1, 900_000]
        lies = (b"me", boot, 900_000), (b"me", b"mine", 900_000), (b"S", b"mine", 1)
        forged = [(mine, line % lie) for lie in lies]
        forged += [([*theirs, *proof], line % (b"me", boot, 900_000)) for proof in ([], [False, "guess"])]
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.connect(f"tcp://{HOST}:{port + 1}")
            for header, payload in forged:
                dealer.send_multipart([b"CBWL1", msgspec.msgpack.encode([70, *header]), payload])
                assert dealer.poll(int(PATIENCE_S * 1000))
                assert msgspec.msgpack.decode(dealer.recv_multipart()[1])[0] == 72, "refused"
        wait_until(lambda: logs.read_bytes().count(b'"bad_message"') == len(forged), "all are told")
        logger.kill()
        start_logger(port=port)
        sender.put([record(number) for number in range(3, 6)])
        wait_until(lambda: sender.status()["waiting"] == 0, "three more")
        assert sent(logs, sender.boot) == [1, 2, 3, 4, 5, 6]
    assert sum(line["event"] == "bad_message" for line in records(logs)) == len(forged)


@contextlib.contextmanager
def shop_that_logs(port: int) -> Iterator[logging.Logger]:
    """The logger of a user's program, with our handler, which nobody else finds: pytest puts what is logged into its reports, and
    parallel runs cannot send one with half a character.
    """
    handler = cbw.LogHandler(HOST, port, name="SHOP")
    shop = logging.Logger("shop")
    shop.addHandler(handler)
    try:
        yield shop
    finally:
        shop.removeHandler(handler)
        handler.close()


def test_any_program_logs_through_the_standard_library(start_logger: StartLogger, logs: Path) -> None:
    _, port = start_logger()
    with shop_that_logs(port) as shop:
        shop.error("no %s left", "apples", extra={"basket": 7})
        try:
            raise ValueError("rotten")
        except ValueError:
            shop.exception("bad")
    first, second = (line for line in records(logs) if line["event"] == "log")
    assert (first["text"], first["level"], first["sender"]) == ("no apples left", "error", "SHOP")
    assert first["fields"] == {"logger": "shop", "basket": 7}
    assert "ValueError: rotten" in second["text"]


class Unprintable:
    """A value of a user's, with an idea of its own of how it is printed."""

    def __repr__(self) -> str:
        return "caf\udce9"


def test_records_that_have_no_line_as_they_are(start_logger: StartLogger, logs: Path) -> None:
    """Names of files that are no UTF-8, megabytes, values that JSON does not know. None keeps back those after it."""
    _, port = start_logger()
    with shop_that_logs(port) as shop:
        shop.error("no %s left", "caf\udce9", extra={"file": "caf\udce9", "basket": 7})
        shop.error("x" * 9_000_000, extra={"basket": 7})
        shop.error("odd", extra={"thing": Unprintable(), "keys": {(1, 2): 3}, "number": float("nan")})
        for _ in range(1000):
            shop.error("y" * 10_000)
        shop.error("last")
    first, big, odd, *others, last = (line for line in records(logs) if line["event"] == "log")
    assert (first["text"], first["fields"]["file"], first["fields"]["basket"]) == (
        "no caf\\udce9 left",
        "caf\\udce9",
        7,
    )
    assert big["text"].endswith("x… (9000000 characters)")
    assert big["fields"]["basket"] == 7
    assert odd["fields"]["thing"] == "caf\\udce9"
    assert [line["text"] for line in others] == ["y" * 10_000] * 1000
    assert last["text"] == "last"


def test_text_format_goes_on_after_a_kill(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger("--format", "text", "--fsync", "always")
    with sending(port) as sender:
        sender.put([record(number) for number in range(10)])
        wait_until(lambda: sender.status()["acknowledged"] == 10, "ten records")
        logger.kill()
        _, port = start_logger("--format", "text", port=port)
        sender.put([record(number) for number in range(10, 20)])
        wait_until(lambda: sender.status()["acknowledged"] == 20, "twenty records")
    lines = [line for line in logs.read_text().splitlines() if f"[{sender.boot} " in line]
    assert [int(line.rpartition(" ")[2].rstrip("]")) for line in lines] == list(range(1, 21))
    assert " S log C1/7 " in lines[7]


def test_a_lone_role_ends_quickly_whether_the_logger_is_there_or_not(
    start: Start, start_broker: StartBroker, start_logger: StartLogger
) -> None:
    _, port = start_logger()
    with_one = broker_of(start("broker", 0, 0, "--listen", HOST, "--logger-host", HOST, "--logger-port", port))
    without = broker_of(start("broker", 0, 0, "--listen", HOST, "--logger-host", HOST, "--logger-port", 1))
    time.sleep(0.5)
    for broker in (with_one, without):
        assert broker.program.terminate() < SOON_S


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda place: place.mkdir(), ("is a directory", "Give a file")),
        (lambda place: (place.parent.rmdir(), place.parent.touch()), ("is no directory",)),
    ],
)
def test_a_place_that_cannot_be(
    start: Start, tmp_path: Path, prepare: Callable[[Path], object], words: tuple[str, ...]
) -> None:
    (tmp_path / "folder").mkdir()
    place = tmp_path / "folder" / "logs"
    prepare(place)
    logger = start("logger", 0, place)
    assert logger.exit_code() == 3
    for word in words:
        assert logger.count(word), logger


def test_a_port_in_use(start: Start, start_logger: StartLogger, tmp_path: Path) -> None:
    _, port = start_logger()
    second = start("logger", port, tmp_path / "other")
    assert second.exit_code() == 3 and second.count(f"port {port} is in use")


def test_garbage_on_the_record_port(start_logger: StartLogger, logs: Path) -> None:
    _, port = start_logger()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.connect(f"tcp://{HOST}:{port + 1}")
        for frames in ([b""], [b"CBWL1"], [b"CBWL1", b"x", b"y"], [b"CBWL9", b"", b""], [b"x" * 100_000]):
            dealer.send_multipart(frames)
            assert dealer.poll(int(PATIENCE_S * 1000)) and dealer.recv_multipart()[0] == b"CBWL1"
    with socket.create_connection((HOST, port + 1)) as one:
        one.sendall(b"\x01\0\x02\0x")  # ZMTP 1.0, of whose connections libzmq tells nothing
        assert one.recv(100)
    with sending(port) as sender:
        sender.put([record(1)])
        wait_until(lambda: sender.status()["acknowledged"] == 1, "a record, all the same")
    wait_until(lambda: logs.read_bytes().count(b'"bad_message"') >= 6, "all are told")
    assert sum(line["event"] == "bad_message" for line in records(logs)) == 6


def test_a_signal_handler_that_logs(start_logger: StartLogger) -> None:
    """It may interrupt a thread that has the sender's lock, which it must not wait for."""
    _, port = start_logger()
    with sending(port, spool_bytes=256 << 20) as sender:
        heard = []

        def on_signal(_number: int, _frame: object) -> None:
            heard.append(0)
            sender.put([Record(time.monotonic(), catalogue.LOG, role="app", sender="S", text="interrupted")])

        previous = signal.signal(signal.SIGUSR1, on_signal)
        is_over = threading.Event()

        def disturb() -> None:
            while not is_over.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.0002)

        disturber = threading.Thread(target=disturb)
        try:
            disturber.start()
            for _ in range(3000):
                sender.put([Record(time.monotonic(), catalogue.LOG, role="app", sender="S") for _ in range(20)])
        finally:
            is_over.set()
            disturber.join()
            signal.signal(signal.SIGUSR1, previous)
        assert heard
        assert sender.status()["records"] == 3000 * 20 + len(heard)
        wait_until(lambda: sender.status()["acknowledged"] == 3000 * 20 + len(heard), "all are on the disk")


def test_a_logger_that_cannot_be_reached_again_for_want_of_descriptors(
    start_logger: StartLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that delivers tries on."""
    port = free_port()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as mute, sending(port) as sender:
        mute.bind(f"tcp://{HOST}:{port + 1}")
        mute.linger = 0
        refused: list[int] = []

        def make(*arguments: Any) -> zmq.Socket[bytes]:
            if len(refused) < 3:
                refused.append(0)
                raise NotReady("no socket is to be had")
            return new_socket(*arguments)

        new_socket = sockets.new_socket
        sender.put([Record(time.monotonic(), catalogue.LOG, role="app", sender="S")])
        assert mute.poll(int(PATIENCE_S * 1000)), "it is connected"
        monkeypatch.setattr(link, "new_socket", make)
        wait_until(lambda: len(refused) == 3, "it has given up the mute one, and could not connect anew")
        mute.close()
        wait_until(lambda: not listens(port + 1), "its port is free")
        start_logger(port=port)
        wait_until(lambda: sender.status()["acknowledged"] == 1, "it is delivered")

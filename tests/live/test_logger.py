"""The logger as a process: killed, interrupted, beside another one, told nonsense; nothing is lost without being counted."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import NotReady
from cbw.logger.logger import Logger
from cbw.transport import link, sockets
from tests.ports import free_port

from .conftest import HOST, Start, StartBroker, StartLogger, broker_of
from .logged import record, records, sending, sent
from .program import PATIENCE_S, SOON_S, wait_until
from .test_status import listens


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


def test_a_lone_role_ends_quickly_whether_the_logger_is_there_or_not(
    start: Start, start_broker: StartBroker, start_logger: StartLogger
) -> None:
    _, port = start_logger()
    with_one = broker_of(start("broker", 0, 0, "--listen", HOST, "--logger-host", HOST, "--logger-port", port))
    without = broker_of(start("broker", 0, 0, "--listen", HOST, "--logger-host", HOST, "--logger-port", 1))
    time.sleep(0.5)
    for broker in (with_one, without):
        assert broker.program.terminate() < SOON_S


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

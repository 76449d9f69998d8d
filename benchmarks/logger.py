"""The logger: records a second against syslog-ng, and what a killed logger loses and repeats. ``python -m benchmarks.logger``."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Row, print_rows
from benchmarks.program import HOST, free_port, running
from cbw.bench import started
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.logger.logfile import files_of
from cbw.observe.sender import LogSender

SENDERS = 2
SECONDS = 6.0
BATCH = 256
AHEAD_MAX = 200_000
"""Records that a sender has waiting at most: so that memory stays bounded and the rate is the logger's."""
TRIALS = 20
TRIAL_RECORDS = 20_000
"""One second at 20 k records/s, with the logger killed in the middle."""
FIGURES = ("logger, structured records", f"logger SIGKILLed under 20 k records/s, {TRIALS} trials")


def rows() -> Iterator[Row]:
    """Throughput, then safety."""
    throughput_figure, safety_figure = FIGURES
    ours = throughput()
    peer = syslog_ng()
    said = f"syslog-ng, lines over TCP: {peer:,.0f}/s" if peer else "syslog-ng is not installed"
    yield Row(throughput_figure, f"{ours:,.0f} records/s", said, f"{ours / peer:.2f}" if peer else "-")
    lost, repeated = kills()
    yield Row(safety_figure, f"lost {lost}, duplicated {repeated}", "0 and 0")


def throughput() -> float:
    """Records a second that are on disk (``--fsync interval``), from processes that send as fast as it takes them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        started(loggers=1, log_file=f"{folder}/logs") as system,
        multiprocessing.get_context("spawn").Pool(SENDERS) as pool,
    ):
        return sum(pool.map(_flood, [system.log_port] * SENDERS))


def _flood(port: int) -> float:
    sender = LogSender("BENCH", HOST, port + 1, spool_bytes=1 << 30)
    number = 0
    began_at = time.monotonic()
    while time.monotonic() - began_at < SECONDS:
        if sender.status()["waiting"] > AHEAD_MAX:
            time.sleep(0.001)
            continue
        now = time.time()
        sender.put([_record(now, number + step) for step in range(BATCH)])
        number += BATCH
    while sender.status()["waiting"]:
        time.sleep(0.001)
    rate = number / (time.monotonic() - began_at)
    sender.close()
    return rate


def _record(now: float, number: int) -> Record:
    return Record(
        now,
        catalogue.ANSWERED,
        role="broker",
        sender="BRO_bench",
        request=f"CLI_1/{number}",
        client="CLI_1",
        worker="WOR_1",
        task=number,
        attempt=1,
    )


def syslog_ng() -> float:
    """Lines a second of the same length through syslog-ng into a file, from as many processes; 0 if it is not there."""
    if shutil.which("syslog-ng") is None:
        return 0.0
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "conf").write_text(
            "@version: 3.38\n"
            f'source s {{ network(ip("{HOST}") port({port}) transport("tcp") flags(no-parse) '
            "max-connections(10) log-iw-size(100000)); };\n"
            f'destination d {{ file("{folder}/out" template("${{MSG}}\\n")); }};\n'
            "log { source(s); destination(d); flags(flow-control); };\n"
        )
        paths = ["--cfgfile=conf", "--persist-file=p", "--control=c", "--pidfile=i"]
        command = ["syslog-ng", "-F", *(path.replace("=", f"={folder}/") for path in paths)]
        with running(command, port):
            began_at = time.monotonic()
            with multiprocessing.get_context("spawn").Pool(SENDERS) as pool:
                sent = sum(pool.map(_flood_lines, [port] * SENDERS))
            out = Path(folder, "out")
            while not out.exists() or out.stat().st_size < sent:
                time.sleep(0.002)
            return sent / _LINE_BYTES / (time.monotonic() - began_at - _SPAWN_S)


_LINE = json.dumps(
    {"at": 1700000000.123456, "event": "answered", "role": "broker", "request": "CLI_1/1234567"}
).encode()
_LINE = _LINE.ljust(190, b"x") + b"\n"
_LINE_BYTES = len(_LINE)
_SPAWN_S = 0.3
"""What starting the sending processes takes, in favour of the peer."""


def _flood_lines(port: int) -> int:
    payload = _LINE * BATCH
    sent = 0
    with socket.create_connection((HOST, port)) as peer:
        began_at = time.monotonic()
        while time.monotonic() - began_at < SECONDS:
            peer.sendall(payload)
            sent += len(payload)
    return sent


def kills() -> tuple[int, int]:
    """Records lost and records duplicated over all trials."""
    lost = repeated = 0
    for _ in range(TRIALS):
        with tempfile.TemporaryDirectory() as folder:
            numbers = _numbers_after_a_kill(folder)
        lost += TRIAL_RECORDS - len(set(numbers))
        repeated += len(numbers) - len(set(numbers))
    return lost, repeated


def _numbers_after_a_kill(folder: str) -> list[int]:
    """Send records to a logger that is killed and started again meanwhile; the numbers of those in its log."""
    with started(loggers=1, log_file=f"{folder}/logs") as system:
        sender = LogSender("BENCH", HOST, system.log_port + 1, spool_bytes=1 << 28)
        for step in range(TRIAL_RECORDS // 200):
            sender.put([_record(time.time(), step * 200 + one) for one in range(200)])
            time.sleep(0.01)
            if step == TRIAL_RECORDS // 400:
                system.restart_logger()
        until = time.monotonic() + 30
        while sender.status()["waiting"] and time.monotonic() < until:
            time.sleep(0.01)
        sender.close()
    return _numbers(folder, sender.boot)


def _numbers(folder: str, boot: str) -> list[int]:
    data = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files_of(f"{folder}/logs")
    )
    return [int(number) for number in re.findall(rb'"boot":"%b","seq":(\d+)\}' % boot.encode(), data)]


if __name__ == "__main__":
    print_rows(rows())

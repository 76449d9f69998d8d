"""The logger: records a second against syslog-ng, and what a killed logger loses and repeats. ``python -m benchmarks.logger``."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cbw.core.events import Record
from cbw.logfile import files_of
from cbw.sender import LogSender

SENDERS = 2
SECONDS = 6.0
BATCH = 256
AHEAD_MAX = 200_000
"""Records that a sender has waiting at most: so that memory stays bounded and the rate is the logger's."""
TRIALS = 20
TRIAL_RECORDS = 20_000
"""One second at 20 k records/s, with the logger killed in the middle."""
_HERE = "127.0.0.1"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Throughput, then safety."""
    ours = throughput()
    peer = syslog_ng()
    said = f"syslog-ng, lines over TCP: {peer:,.0f}/s" if peer else "syslog-ng is not installed"
    yield "logger, structured records", f"{ours:,.0f} records/s", said, f"{ours / peer:.2f}" if peer else "-"
    lost, repeated = kills()
    text = f"lost {lost}, duplicated {repeated}"
    yield f"logger SIGKILLed under 20 k records/s, {TRIALS} trials", text, "0 and 0", "-"


class _Logger:
    """A logger process on a file in ``folder``."""

    def __init__(self, folder: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "cbw", "logger", str(port), f"{folder}/logs", "--keep", "1000"]
        environment = {**os.environ, "CBW_STATUS_PORT": "0", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        found = re.search(r"text on port (\d+)", self.process.stdout.readline())
        assert found is not None
        self.port = int(found[1])

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def throughput() -> float:
    """Records a second that are on disk (``--fsync interval``), from processes that send as fast as it takes them."""
    with tempfile.TemporaryDirectory() as folder:
        logger = _Logger(folder)
        try:
            with multiprocessing.get_context("spawn").Pool(SENDERS) as pool:
                return sum(pool.map(_flood, [logger.port] * SENDERS))
        finally:
            logger.end(signal.SIGTERM)


def _flood(port: int) -> float:
    sender = LogSender("BENCH", _HERE, port + 1, spool_bytes=1 << 30)
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
    return Record(now, "answered", "broker", "BRO_bench", f"CLI_1/{number}", "CLI_1", "", "WOR_1", number, 1)


def syslog_ng() -> float:
    """Lines a second of the same length through syslog-ng into a file, from as many processes; 0 if it is not there."""
    if shutil.which("syslog-ng") is None:
        return 0.0
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind((_HERE, 0))
        port = free.getsockname()[1]
        free.close()
        Path(folder, "conf").write_text(
            "@version: 3.38\n"
            f'source s {{ network(ip("{_HERE}") port({port}) transport("tcp") flags(no-parse) '
            "max-connections(10) log-iw-size(100000)); };\n"
            f'destination d {{ file("{folder}/out" template("${{MSG}}\\n")); }};\n'
            "log { source(s); destination(d); flags(flow-control); };\n"
        )
        paths = [
            f"--cfgfile={folder}/conf",
            f"--persist-file={folder}/p",
            f"--control={folder}/c",
            f"--pidfile={folder}/i",
        ]
        process = subprocess.Popen(["syslog-ng", "-F", *paths], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while socket.socket().connect_ex((_HERE, port)):
                time.sleep(0.05)
            began_at = time.monotonic()
            with multiprocessing.get_context("spawn").Pool(SENDERS) as pool:
                sent = sum(pool.map(_flood_lines, [port] * SENDERS))
            out = Path(folder, "out")
            size = 0
            while not out.exists() or size < sent:
                size = out.stat().st_size if out.exists() else 0
                time.sleep(0.002)
            return sent / _LINE_BYTES / (time.monotonic() - began_at - _SPAWN_S)
        finally:
            process.kill()
            process.wait()


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
    with socket.create_connection((_HERE, port)) as peer:
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
            logger = _Logger(folder)
            sender = LogSender("BENCH", _HERE, logger.port + 1, spool_bytes=1 << 28)
            for step in range(TRIAL_RECORDS // 200):
                sender.put([_record(time.time(), step * 200 + one) for one in range(200)])
                time.sleep(0.01)
                if step == TRIAL_RECORDS // 400:
                    logger.end(signal.SIGKILL)
                    logger = _Logger(folder, logger.port)
            until = time.monotonic() + 30
            while sender.status()["waiting"] and time.monotonic() < until:
                time.sleep(0.01)
            sender.close()
            logger.end(signal.SIGTERM)
            numbers = _numbers(folder, sender.boot)
            lost += TRIAL_RECORDS - len(set(numbers))
            repeated += len(numbers) - len(set(numbers))
    return lost, repeated


def _numbers(folder: str, boot: str) -> list[int]:
    data = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files_of(f"{folder}/logs")
    )
    return [int(number) for number in re.findall(rb'"boot":"%b","seq":(\d+)\}' % boot.encode(), data)]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")

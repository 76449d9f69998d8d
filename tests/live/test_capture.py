"""What a stranger with Wireshark sees of a whole system: the loopback interface is recorded beside real processes."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

import cbw
from cbw.keys.folder import LinkKeys
from cbw.keys.key_file import read_pair
from cbw.transport.curve import link_options

from .conftest import HOST, Start, broker_of
from .program import PATIENCE_S, wait_until

SAID = {
    "body": b"a body of forty characters, said once...",
    "answer": b"A BODY OF FORTY CHARACTERS, SAID ONCE...",
    "service": b"price-of-gold",
    "client": b"CLIENT_BY_NAME",
    "worker": b"WORKER_BY_NAME",
    "error": b"nothing there",
    "plain body": b"the body of a REQ program",
    "log text": b"a line of text for the log",
}
"""What goes over the wire in :func:`overheard`."""
"""What goes over the wire in :func:`a_system_at_work`."""


class Capture:
    """A running dumpcap, which captures for Wireshark: it writes the packets of the loopback interface on ``ports`` to a file."""

    def __init__(self, path: Path, ports: list[int]) -> None:
        if shutil.which("tshark") is None or shutil.which("dumpcap") is None:
            pytest.skip("tshark is not installed (apt-get install tshark), or this user may not run its dumpcap")
        self._path = path
        self._marks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._marks.bind((HOST, 0))
        wanted = " or ".join(f"port {port}" for port in (*ports, self._marks.getsockname()[1]))
        # -B 16: a buffer of 16 MiB, so that no packet is dropped while the capture gets no processor.
        self._process = subprocess.Popen(
            ["dumpcap", "-q", "-i", "lo", "-B", "16", "-f", wanted, "-w", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self._mark(b"the capture has begun")
        except BaseException:
            self.close()
            raise

    def _mark(self, text: bytes) -> None:
        """Send a packet until it is in the file, and with it everything that was sent before."""

        def is_written() -> bool:
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                why = self._process.stderr.read()
                if "permission" in why:
                    pytest.skip(f"this user may not capture packets: {why}")
                raise AssertionError(f"dumpcap has ended: {why}")
            self._marks.sendto(text, self._marks.getsockname())
            return self._path.exists() and text in self._path.read_bytes()

        wait_until(is_written, f"dumpcap has written {text!r}")

    def streams(self) -> bytes:
        """End the capture; what each TCP connection has carried in each direction, put together again as Wireshark does."""
        self._mark(b"the capture is over")
        self.close()
        fields = ("tcp.stream", "tcp.srcport", "tcp.payload")
        command = ["tshark", "-r", str(self._path), "-Y", "tcp.len > 0 && !tcp.analysis.retransmission", "-T", "fields"]
        command += [word for field in fields for word in ("-e", field)]
        read = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout
        streams: dict[tuple[str, str], bytearray] = {}
        for line in read.splitlines():
            stream, port, payload = line.split("\t")
            streams.setdefault((stream, port), bytearray()).extend(bytes.fromhex(payload))
        return b"\n".join(streams.values())

    def close(self) -> None:
        """End dumpcap."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_S)
        self._marks.close()


@contextmanager
def capture(path: Path, ports: list[int]) -> Iterator[Capture]:
    """A capture that has begun."""
    captured = Capture(path, ports)
    try:
        yield captured
    finally:
        captured.close()


def overheard(start: Start, folder: Path, keys: Path | None) -> bytes:
    """Everything that is on the wire while a broker, a worker, a logger and clients say what :data:`SAID` holds."""
    own = ["--keys", keys] if keys is not None else []
    log = folder / "logs"
    logger = start("logger", 0, log, "--listen", HOST, *own)
    log_port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    broker = broker_of(start("broker", 0, 0, HOST, log_port, "--listen", HOST, "--verbose", *own))
    name, service = SAID["worker"].decode(), SAID["service"].decode()
    handlers = ["--handler=handlers:echo", f"--handler={service}=handlers:upper", "--handler=fail=handlers:fail"]
    ports = [broker.client_port, broker.worker_port, log_port, log_port + 1]
    with capture(folder / "packets.pcapng", ports) as packets:
        start("worker", name, HOST, broker.worker_port, *handlers, *own)
        broker.program.wait_for("worker ready", name)
        with cbw.Client(broker.address, id=SAID["client"].decode(), keys=keys or "", timeout=PATIENCE_S) as client:
            assert client.call(SAID["body"], service=service) == SAID["answer"]
            with pytest.raises(cbw.HandlerFailed, match=SAID["error"].decode()):
                client.call(b"raise", service="fail")
        with plain(zmq.REQ, broker.client_port, keys, "client", "broker") as req:
            req.send(SAID["plain body"])
            assert req.poll(int(PATIENCE_S * 1000)) and req.recv() == SAID["plain body"]
        with plain(zmq.PUSH, log_port, keys, "client", "logger") as push:
            push.send(SAID["log text"])
            logged = [SAID[what] for what in ("log text", "worker", "client", "service")]
            wait_until(lambda: all(text in log.read_bytes() for text in logged), "the log has it all")
        return packets.streams()


@contextmanager
def plain(kind: int, port: int, keys: Path | None, own: str, server: str) -> Iterator[zmq.Socket[bytes]]:
    """A socket of a program that knows only ZeroMQ."""
    with zmq.Context() as context, context.socket(kind) as link:
        link.linger = 0
        if keys is not None:
            expected = read_pair(keys / f"{server}.key_secret").public
            for option, value in link_options(LinkKeys(read_pair(keys / f"{own}.key_secret"), expected)):
                link.setsockopt(option, value)
        link.connect(f"tcp://{HOST}:{port}")
        yield link


def test_without_keys_everything_can_be_read(start: Start, tmp_path: Path) -> None:
    heard = overheard(start, tmp_path, None)
    assert [what for what, text in SAID.items() if text not in heard] == []


def test_with_keys_nothing_can_be_read(start: Start, keys: Path, tmp_path: Path) -> None:
    heard = overheard(start, tmp_path, keys)
    assert heard.count(b"CURVE") >= 8, "both ends of worker, Client, REQ and PUSH begin with it"
    assert [what for what, text in SAID.items() if text in heard] == []
    secrets = [read_pair(path).secret.encode() for path in keys.glob("*.key_secret")]
    assert len(secrets) == 5 and not any(secret in heard for secret in secrets)

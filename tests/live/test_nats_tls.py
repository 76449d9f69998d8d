"""A broker and NATS servers that want TLS: each side shows a certificate, and believes those of one authority only."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nats_server import NatsServer

from .conftest import HOST, Connect, Start, StartWorker, broker_of
from .listener import listening
from .program import PATIENCE_S

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")


class Authority:
    """Signs certificates, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            "req", "-x509", *NEW_KEY, "-subj", "/CN=authority", "-keyout", self._key, "-out", self.certificate
        )

    def sign(self, name: str) -> tuple[Path, Path]:
        """A new certificate for ``name`` at 127.0.0.1, and its key."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-addext", "subjectAltName=IP:127.0.0.1")
        self._openssl("req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", *signed, "-keyout", key, "-out", certificate)
        return certificate, key

    def _openssl(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    certificate, key = authority.sign("server")
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.certificate}", verify: true }}'
    with NatsServer(tmp_path_factory.mktemp("nats"), tls) as running:
        yield running


def place(server: NatsServer, trusted: Authority, shown: Authority | None) -> str:
    """The journal, for a broker that trusts one authority and shows a certificate of another."""
    own = ""
    if shown is not None:
        certificate, key = shown.sign("broker")
        own = f"&certificate={certificate}&key={key}"
    return f"nats://{server.address}/tls?ca={trusted.certificate}{own}"


def test_with_certificates_it_keeps_its_journal_there(
    authority: Authority, server: NatsServer, start: Start, start_worker: StartWorker, connect: Connect
) -> None:
    journal = place(server, authority, authority)
    broker = broker_of(start("broker", 0, 0, "--journal", journal))
    start_worker("W1", "echo", at=broker)
    assert connect(broker).call("kept") == b"kept"
    doctor = start("doctor", "--journal", journal, "--json")
    assert doctor.exit_code() == 0, doctor
    found = {finding["check"]: finding for finding in json.loads("\n".join(doctor.lines))["findings"]}
    assert found["servers"]["text"].startswith("nats-server 2.")


FAULTS = {
    "a server of a stranger": "CERTIFICATE_VERIFY_FAILED",
    "no certificate": "CERTIFICATE_REQUIRED",
    "a certificate of a stranger": "UNKNOWN_CA",
}
"""Faults of a connection, and what the broker says of each."""


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_right_ones_it_says_so_and_waits(
    fault: str, authority: Authority, stranger: Authority, server: NatsServer, start: Start
) -> None:
    trusted = stranger if fault == "a server of a stranger" else authority
    shown = None if fault == "no certificate" else stranger if fault == "a certificate of a stranger" else authority
    broker = start("broker", 0, 0, "--journal", place(server, trusted, shown))
    broker.wait_for("waits for its journal", FAULTS[fault], within_s=PATIENCE_S)


@pytest.mark.parametrize("is_polite", [True, False])
def test_a_server_that_hangs_up_on_the_first_words(authority: Authority, start: Start, *, is_polite: bool) -> None:
    """As one does that wants a certificate: whether its reason is read before the end is a matter of luck. It is tried again."""
    certificate, key = authority.sign("hasty")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    calls = threading.Semaphore(0)

    def hang_up(peer: socket.socket) -> None:
        calls.release()
        peer.sendall(b'INFO {"version":"2.14.1","max_payload":1048576,"tls_required":true}\r\n')
        with tls.wrap_socket(peer, server_side=True) as talk:
            talk.recv(1000)
            if is_polite:
                talk.unwrap()

    with listening(hang_up) as port:
        broker = start("broker", 0, 0, "--journal", f"nats://{HOST}:{port}/tls?ca={authority.certificate}")
        broker.wait_for("waits for its journal", f"no NATS server at {HOST}:{port}", within_s=PATIENCE_S)
        for _ in range(5):
            assert calls.acquire(timeout=PATIENCE_S), "it tries again"
        broker.signal(signal.SIGTERM)
        assert broker.exit_code() == 0

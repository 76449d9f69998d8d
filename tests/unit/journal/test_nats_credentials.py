"""Files of credentials: what is taken of them, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from cbw.errors import UsageError
from cbw.journal.nats_credentials import NatsCredentials
from tests.nats_accounts import Accounts

NSC = """-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJqd3QifQ.e30.c2ln
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY
------END USER NKEY SEED------
"""
"""The seed of a public example of nkeys, with its public key."""
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_signature_is_that_of_the_seed(tmp_path: Path) -> None:
    file = tmp_path / "nats.creds"
    file.write_text(NSC)
    credentials = NatsCredentials(str(file))
    assert credentials.jwt() == b"eyJ0eXAiOiJqd3QifQ.e30.c2ln"
    public = base64.b32decode(PUBLIC)[1:33]
    assert VerifyKey(public).verify(b"nonce", base64.b64decode(credentials.sign("nonce"))) == b"nonce"


def test_renewed_credentials_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "nats.creds"
    file.write_text(Accounts().credentials)
    credentials = NatsCredentials(str(file))
    before = credentials.jwt()
    file.write_text(Accounts().credentials)
    assert credentials.jwt() != before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no credentials",
        NSC.replace("SUACSSL", "SUACSSK"),
        NSC.replace("SUAC", "SAAC"),
        NSC.replace("3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", ""),
        NSC.partition("\n\n")[0],
    ],
)
def test_what_holds_none_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "nats.creds"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"nats\.creds holds no NATS credentials"):
        NatsCredentials(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the NATS credentials"):
        NatsCredentials(str(tmp_path / "nats.creds"))

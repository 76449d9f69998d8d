"""A user's credentials for NATS servers: a file with a JWT and the seed of a key, as ``nsc`` writes it.

nats-py can read such files, too, but only with the package nkeys, of which there are no wheels.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from nacl.signing import SigningKey

from cbw.errors import UsageError

_PART = re.compile(r"^-+BEGIN (?P<name>[\w ]+)-+\s+(?P<text>\S+)\s+-+END (?P=name)-+$", re.MULTILINE)
_SEED_BYTES = 2 + 32 + 2
"""A seed before it is written in base 32: what it is for, the seed, and a checksum."""
_OF_A_USER = b"SU"
"""How the text of a user's seed begins."""


class NatsCredentials:
    """The credentials in the file ``path``, which is read at each connection: they may have been renewed.

    Raises:
        UsageError: there are none in it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._read()

    def jwt(self) -> bytes:
        """Who the user is, and what the account allows, signed by the account."""
        return self._read()[0].encode()

    def sign(self, nonce: str) -> bytes:
        """The proof for a server that this is the user."""
        return base64.b64encode(self._read()[1].sign(nonce.encode()).signature)

    def _read(self) -> tuple[str, SigningKey]:
        try:
            text = Path(self._path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the NATS credentials {self._path}: {error}") from None
        parts = {match["name"].strip(): match["text"] for match in _PART.finditer(text)}
        try:
            return parts["NATS USER JWT"], _key(parts["USER NKEY SEED"].encode())
        except (KeyError, ValueError):
            raise UsageError(
                f"{self._path} holds no NATS credentials: a user's JWT and seed",
                advice="Make the file with nsc generate creds, and leave it as it is.",
            ) from None


def _key(seed: bytes) -> SigningKey:
    """The key of a user's ``seed``.

    Raises:
        ValueError: it is none, or was mistyped.
    """
    raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))
    if not seed.startswith(_OF_A_USER) or len(raw) != _SEED_BYTES:
        raise ValueError("not the seed of a user")
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("the checksum of the seed is another one")
    return SigningKey(raw[2:-2])

"""A NATS operator with one account, whose users show credentials, as ``nsc`` would make them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nacl.signing import SigningKey

OPERATOR, ACCOUNT, USER = (14 << 3, 0, 20 << 3)
"""First byte of a public key, by whose it is: O, A and U in base 32."""
_SEED = 18 << 3
"""S, the beginning of a seed."""
_LIMITS = {**dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1), "wildcards": True}
_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
"""Without these an account has no streams; the system's must not have any."""


def _text(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class _Holder:
    """Somebody with a key: an operator, an account or a user."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._key = SigningKey.generate()
        self.public = _text(bytes([kind]) + bytes(self._key.verify_key))

    @property
    def seed(self) -> str:
        prefix = bytes([_SEED | self._kind >> 5, (self._kind & 31) << 3])
        return _text(prefix + bytes(self._key))

    def says(self, of: _Holder, name: str, claims: Mapping[str, Any]) -> str:
        """A JWT in which this one says something of another."""
        body = {
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": name,
            "sub": of.public,
            "nats": {**claims, "version": 2},
        }
        digest = hashlib.sha512(json.dumps(body).encode()).digest()[:32]
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(body).encode())}"
        return f"{signed}.{_part(self._key.sign(signed.encode()).signature)}"


class Accounts:
    """``configuration`` is what a server needs of it; ``credentials`` is the file of a user of the account."""

    def __init__(self) -> None:
        operator, account, system, user = _Holder(OPERATOR), _Holder(ACCOUNT), _Holder(ACCOUNT), _Holder(USER)
        preloaded = "".join(
            f"{one.public}: {operator.says(one, name, {'type': 'account', 'limits': limits})}\n"
            for name, one, limits in (("shop", account, _LIMITS | _JETSTREAM), ("SYS", system, _LIMITS))
        )
        self.configuration = (
            f"operator: {operator.says(operator, 'op', {'type': 'operator'})}\n"
            f"system_account: {system.public}\nresolver: MEMORY\nresolver_preload: {{\n{preloaded}}}\n"
        )
        jwt = account.says(user, "cbw", {"type": "user", "subs": -1, "data": -1, "payload": -1})
        self.credentials = (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\nNKEY Seed printed below can be used to sign.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )

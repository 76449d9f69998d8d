"""The folder that ``--keys`` names: which key a role takes from it, and whose keys it knows.

A role needs its own secret key, and the public keys of those that it connects to; a broker and a logger also need the file
``allowed``. So each machine can have a folder with no more than that.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from cbw.errors import UsageError
from cbw.keys.allowed import ALLOWED, Allowed
from cbw.keys.key_file import PUBLIC_SUFFIX, SECRET_SUFFIX, KeyPair, read_pair, read_public
from cbw.settings import KEYS


class LinkKeys(msgspec.Struct, frozen=True):
    """What a connection needs: its own keys, and the public key of the role that it connects to."""

    own: KeyPair
    server: str


class KeyFolder:
    """The folder ``path``; or the folder of the secret key file ``path``, which is then the role's own.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self._own = path if path.suffix == SECRET_SUFFIX else None
        self.path = path.parent if self._own else path
        if not self.path.is_dir():
            raise UsageError(f"no folder of keys at {self.path}", advice=f"Make one: cbw keys new {self.path}")

    @staticmethod
    def at(keys: str | Path | None) -> KeyFolder | None:
        """The folder that ``keys`` names, or else ``CBW_KEYS``; None: there is none, so nothing is encrypted.

        Raises:
            UsageError: there is no such folder.
        """
        keys = os.environ.get(KEYS.environment, "") if keys is None else keys
        return KeyFolder(Path(keys)) if keys != "" else None

    def pair(self, *roles: str) -> KeyPair:
        """The key that one of ``roles`` has here; see :meth:`secret_of`.

        Raises:
            UsageError: there is none, or not only one; or it cannot be read.
        """
        return read_pair(self.secret_of(*roles))

    def secret_of(self, *roles: str) -> Path:
        """The secret key file of the first of ``roles`` that has one here; otherwise the only one that is here.

        Raises:
            UsageError: there is none, or not only one.
        """
        found = [self._own] if self._own else []
        found = found or [path for role in roles if (path := self.path / f"{role}{SECRET_SUFFIX}").exists()][:1]
        found = found or sorted(self.path.glob(f"*{SECRET_SUFFIX}"))
        if len(found) != 1:
            count = f"{len(found)} others" if found else "no other"
            text = f"which key in {self.path} is that of this {roles[0]}? There is no {roles[0]}{SECRET_SUFFIX}, and {count}"
            raise UsageError(text, advice=f"Name it: --keys {self.path}/NAME{SECRET_SUFFIX} ({KEYS.environment})")
        return found[0]

    def public(self, name: str) -> str:
        """The public key of ``name``.

        Raises:
            UsageError: it is not here, or cannot be read.
        """
        secret = self.path / f"{name}{SECRET_SUFFIX}"
        public = self.path / f"{name}{PUBLIC_SUFFIX}"
        return read_public(secret if secret.exists() and not public.exists() else public)

    def allowed(self) -> Allowed:
        """Whose keys are let in.

        Raises:
            UsageError: the file cannot be read, or a line is wrong.
        """
        return Allowed(self.path / ALLOWED)


def link_keys(keys: str | Path | None, server: str, *roles: str) -> LinkKeys | None:
    """What one of ``roles`` needs to connect to ``server``; None: no keys are used. ``keys`` is as for :meth:`KeyFolder.at`.

    Raises:
        UsageError: a key is missing, or cannot be read.
    """
    folder = KeyFolder.at(keys)
    return LinkKeys(folder.pair(*roles), folder.public(server)) if folder is not None else None

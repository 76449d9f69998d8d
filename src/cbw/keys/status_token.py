"""The token of the status pages: who shows it may read them (``Authorization: Bearer``, RFC 6750)."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from cbw.errors import UsageError
from cbw.keys.secret_file import read_file, write_secret

STATUS_TOKEN = "status.token"
"""The name of its file in a folder of keys."""
TOKEN_BYTES = 32
"""Random bytes of a new token: as many as a key has."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,1000}=*", re.ASCII)
"""What RFC 6750 lets stand in a header. Shorter ones can be guessed: the pages are not slow to answer."""


def write_token(folder: Path) -> None:
    """Make a new token in a folder of keys."""
    write_secret(folder / STATUS_TOKEN, secrets.token_urlsafe(TOKEN_BYTES) + "\n")


def read_token(path: Path) -> str:
    """The token in the file ``path``, without blanks around it, as Prometheus reads it too.

    Raises:
        UsageError: the file cannot be read, others may read it, or what is in it is no token.
    """
    token = read_file(path, "token", "`cbw keys new` makes one: status.token, in the folder of keys.").strip()
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            f"{path}: no token in it",
            advice="A token is 16 letters and digits or more, which nobody can guess: openssl rand -hex 32",
        )
    return token

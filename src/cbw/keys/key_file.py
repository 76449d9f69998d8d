"""Key files, in the format of pyzmq's certificates: ``NAME.key`` with a public key, ``NAME.key_secret`` with both halves.

A secret key that others can read is none, so such a file is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cbw.errors import UsageError
from cbw.keys.secret_file import read_file, write_file

PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"
Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", re.ASCII)
"""A key as text (RFC 32): 32 bytes."""
_VALUE = re.compile(r'\s*(public-key|secret-key)\s*=\s*"([^"]*)"\s*')
_HEADER = {
    PUBLIC_SUFFIX: "#   Public key of {name}. Give it to whoever is to know {name}.\n",
    SECRET_SUFFIX: "#   Secret key of {name}. Show it to nobody, and keep its mode at 0600.\n",
}


class KeyPair(msgspec.Struct, frozen=True):
    """Both halves of a key, in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """The public half alone: the other must not get into a log or a traceback."""
        return f"KeyPair({self.public!r})"


def read_public(path: Path) -> str:
    """The public key in a key file of either kind.

    Raises:
        UsageError: the file cannot be read, or has no such key.
    """
    return _value(path, _text(path, is_secret=path.suffix == SECRET_SUFFIX), "public-key")


def read_pair(path: Path) -> KeyPair:
    """Both halves from a secret key file.

    Raises:
        UsageError: the file cannot be read, others may read it, or a half is missing.
    """
    text = _text(path, is_secret=True)
    return KeyPair(_value(path, text, "public-key"), _value(path, text, "secret-key"))


def write_pair(folder: Path, name: str, pair: KeyPair) -> None:
    """Write both files of ``name``, the secret one with mode 0600. Files of that name are replaced."""
    for suffix, mode in ((PUBLIC_SUFFIX, 0o644), (SECRET_SUFFIX, 0o600)):
        lines = [_HEADER[suffix].format(name=name), "metadata\n", "curve\n", f'    public-key = "{pair.public}"\n']
        if suffix == SECRET_SUFFIX:
            lines.append(f'    secret-key = "{pair.secret}"\n')
        write_file(folder / f"{name}{suffix}", "".join(lines), mode)


def _text(path: Path, *, is_secret: bool) -> str:
    advice = "Give --keys the folder that `cbw keys new` made, or one with this role's part of it."
    return read_file(path, "key", advice, is_secret=is_secret)


def _value(path: Path, text: str, name: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        found = _VALUE.fullmatch(line)
        if found and found[1] == name:
            if not Z85.fullmatch(found[2]):
                raise UsageError(f"{path}:{number}: the {name} is not 40 characters of Z85")
            return found[2]
    raise UsageError(f"{path}: no {name} in it", advice="A key file is made by `cbw keys`, or by zmq.auth of pyzmq.")

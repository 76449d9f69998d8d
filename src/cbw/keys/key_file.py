"""Key files, in the format of pyzmq's certificates: ``NAME.key`` with a public key, ``NAME.key_secret`` with both halves.

A secret key that others can read is none, so such a file is refused.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import msgspec

from cbw.errors import UsageError

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
        path = folder / f"{name}{suffix}"
        path.unlink(missing_ok=True)  # so that the mode is that of a new file
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(lines)


def _text(path: Path, *, is_secret: bool) -> str:
    try:
        with path.open() as file:
            if is_secret:
                _check_mode(path, os.fstat(file.fileno()))
            return file.read(1 << 16)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        advice = "Give --keys the folder that `cbw keys new` made, or one with this role's part of it."
        raise UsageError(f"cannot read the key {path}: {reason}", advice=advice) from None


def _check_mode(path: Path, status: os.stat_result) -> None:
    """Only its owner may read it. One that was mounted for us, and belongs to root, may also be read by our group."""
    mode = stat.S_IMODE(status.st_mode)
    is_mounted_for_us = status.st_uid not in (os.geteuid(),) and not mode & 0o037
    if mode & 0o077 and not is_mounted_for_us:
        text = f"others may read the secret key {path}: its mode is {mode:04o}"
        raise UsageError(text, advice=f"chmod 600 {path}, and make a new key if anybody may have read it.")


def _value(path: Path, text: str, name: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        found = _VALUE.fullmatch(line)
        if found and found[1] == name:
            if not Z85.fullmatch(found[2]):
                raise UsageError(f"{path}:{number}: the {name} is not 40 characters of Z85")
            return found[2]
    raise UsageError(f"{path}: no {name} in it", advice="A key file is made by `cbw keys`, or by zmq.auth of pyzmq.")

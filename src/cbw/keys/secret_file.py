"""Files that nobody else may read: one that others can read holds no secret, and is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cbw.errors import UsageError

_BYTES_MAX = 1 << 16
"""What is read of a file at most: a key or a token has under 1 kB."""


def read_file(path: Path, what: str, advice: str, *, is_secret: bool = True) -> str:
    """The text of the file ``path``, which is ``what``.

    Raises:
        UsageError: the file cannot be read (``advice`` says what to do then), or it is secret and others may read it.
    """
    try:
        with path.open() as file:
            if is_secret:
                _check_mode(path, what, os.fstat(file.fileno()))
            return file.read(_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"cannot read the {what} {path}: {reason}", advice=advice) from None


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in the place of one of that name."""
    write_file(path, text, 0o600)


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file with this mode, in the place of one of that name."""
    path.unlink(missing_ok=True)  # so that the mode is that of a new file
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def _check_mode(path: Path, what: str, status: os.stat_result) -> None:
    """Only its owner may read it. One that was mounted for us, and belongs to root, may also be read by our group."""
    mode = stat.S_IMODE(status.st_mode)
    is_mounted_for_us = status.st_uid not in (os.geteuid(),) and not mode & 0o037
    if mode & 0o077 and not is_mounted_for_us:
        text = f"others may read the secret {what} {path}: its mode is {mode:04o}"
        raise UsageError(text, advice=f"chmod 600 {path}, and make a new {what} if anybody may have read it.")

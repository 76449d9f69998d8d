"""The file ``allowed``: whose keys a broker or a logger lets in.

One line a key: its role, its public key in Z85, its name, and perhaps the services that it is good for (``""`` is the nameless
one). ``#`` begins a comment line. The file is read again when it changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cbw.core.key import ROLES, Key
from cbw.errors import UsageError
from cbw.keys.key_file import Z85

ALLOWED = "allowed"
"""The file's name."""
NAMELESS = '""'
"""How the nameless service is written."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
"""What a key may be called: files are called like it."""
_HEAD = "# Whose keys are let in: role, public key, name, and the services it is good for (none: all). See cbw keys.\n"


def parse(path: Path, text: str) -> dict[str, Key]:
    """The keys in ``text``, by their public halves.

    Raises:
        UsageError: a line is wrong; the error names it.
    """
    keys: dict[str, Key] = {}
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _key_of(words)
            if key.public in keys or key.name in names:
                raise ValueError(f"the {'name' if key.name in names else 'key'} of {key.name} is here twice")
        except ValueError as error:
            raise UsageError(
                f"{path}:{number}: {error}", advice="A line is: ROLE PUBLIC_KEY NAME [SERVICE]..."
            ) from None
        keys[key.public] = key
        names.add(key.name)
    return keys


def _key_of(words: list[str]) -> Key:
    if len(words) < 3:
        raise ValueError(f"{len(words)} words, where role, public key and name are needed")
    role, public, name, *services = words
    if role not in ROLES:
        raise ValueError(f"{role[:40]!r} is no role; there are {', '.join(ROLES)}")
    if not Z85.fullmatch(public):
        raise ValueError(f"the public key of {name[:100]} is not 40 characters of Z85")
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:100]!r} cannot be a name: up to 100 letters, digits, '_', '-' and '.'")
    return Key(role, public, name, tuple("" if service == NAMELESS else service for service in services))


def render(keys: Iterable[Key]) -> str:
    """The text of a file with these keys."""
    return _HEAD + "".join(
        " ".join([f"{key.role:<6}", key.public, key.name, *(service or NAMELESS for service in key.services)]) + "\n"
        for key in keys
    )


def write(path: Path, keys: Iterable[Key]) -> None:
    """Write the file in place, because a container into which it is mounted sees no other file of its name.

    Whoever reads it meanwhile finds the old keys or the new ones.

    Raises:
        OSError: it cannot be written.
    """
    with _locked(path) as descriptor:
        _write(descriptor, keys)


def change(path: Path, changed: Callable[[list[Key]], list[Key]]) -> None:
    """Write the keys that ``changed`` makes of those in the file. Changes at the same time wait for each other: none is lost.

    Raises:
        OSError: it cannot be written.
        UsageError: it cannot be read, or a line is wrong.
    """
    with _locked(path) as descriptor:
        _write(descriptor, changed(Allowed(path).keys))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, made if it is missing, and locked against other changes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, keys: Iterable[Key]) -> None:
    text = render(keys).encode()
    os.pwrite(descriptor, text.ljust(os.fstat(descriptor).st_size, b"\n"), 0)  # one write, over all of the old text
    os.ftruncate(descriptor, len(text))


class Allowed:
    """The keys in the file ``path``, as it is now.

    Raises:
        UsageError: the file cannot be read, or a line is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why the file as it is now is not followed; empty: it is."""
        self._version: tuple[int, ...] = self._look()
        self._keys: Mapping[str, Key] = parse(path, self._read())

    def get(self, public: str) -> Key | None:
        """The key with this public half; None: it is not allowed."""
        return self._keys.get(public)

    @property
    def keys(self) -> list[Key]:
        """All of them, in the order of the file."""
        return list(self._keys.values())

    def refresh(self) -> set[str]:
        """Read the file again if it has changed. Returns the public halves of keys that are gone or allow something else now.

        A file that cannot be read changes nothing; :attr:`problem` then says why.
        """
        try:
            version = self._look()
            if version == self._version:
                return set()
            self._version = version
            before, self._keys = self._keys, parse(self.path, self._read())
        except UsageError as error:
            self.problem = str(error)
            self._version = ()
            return set()
        self.problem = ""
        return {public for public, key in before.items() if self._keys.get(public) != key}

    def _look(self) -> tuple[int, ...]:
        try:
            status = self.path.stat()
        except OSError as error:
            raise self._unreadable(error) from None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> str:
        try:
            return self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError | UnicodeDecodeError) -> UsageError:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return UsageError(
            f"cannot read {self.path}: {reason}", advice="It says whose keys are let in; `cbw keys new` makes it."
        )

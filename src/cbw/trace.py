"""One record of what a role did, rendered twice: a JSON line for programs, a line of text for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from cbw.core.events import Record
from cbw.errors import UsageError

ROUTINE = frozenset(
    {"accepted", "handed_out", "answered", "begun", "done", "sent", "got", "client_hello", "client_gone"}
    | {"started", "credit_changed"}
)
"""Events that every request, client or start makes: shown to people only if they ask (``--verbose``)."""
_encode = msgspec.json.Encoder().encode


class Trace:
    """Where the records of one role go: a file of JSON lines, the terminal, both or neither.

    Times in the file are seconds since 1970; the cores' monotonic ones are moved by an offset taken once, so the lines
    of one role never go back in time.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, path: str | None = None, *, is_printing: bool = True, is_verbose: bool = False) -> None:
        self._offset = time.time() - time.monotonic()
        self._file: IO[bytes] | None = None
        self.path = path
        self._is_printing = is_printing
        self.is_verbose = is_verbose
        if path is not None:
            try:
                self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed by close()
            except OSError as error:
                raise UsageError(
                    f"cannot write the trace to {path}: {error.strerror}", advice="Check --trace."
                ) from None

    @property
    def wants_all(self) -> bool:
        """Whether routine records are wanted at all; if not, nobody need make them."""
        return self._file is not None or self.is_verbose

    def write(self, records: Iterable[Record]) -> None:
        """Write ``records``, whole lines in one write. A full disk costs the trace, never the role."""
        lines = []
        for record in records:
            if self._is_printing and (self.is_verbose or record.event not in ROUTINE):
                print(text_of(record, self._offset), flush=True)
            if self._file is not None:
                record.at += self._offset
                lines.append(_encode(record))
        if lines and self._file is not None:
            lines.append(b"")
            try:
                self._file.write(b"\n".join(lines))
            except OSError as error:
                print(f"the trace ends here: {error.strerror}", file=sys.stderr)
                self._file = None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def text_of(record: Record, offset: float = 0.0) -> str:
    """One line for people: time, who, what happened, to what."""
    at = record.at + offset
    clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
    words = [clock, record.sender, record.event.replace("_", " ")]
    for name in ("request", "client", "worker", "service", "text"):
        value = getattr(record, name)
        if value and not (name == "client" and record.request):
            words.append(f"({value})" if name == "text" else value if name == "request" else f"{name} {value}")
    if record.attempt > 1:
        words.append(f"attempt {record.attempt}")
    return " ".join(words)


def read(path: str) -> Iterable[Record]:
    """The records of a trace file, one at a time.

    Raises:
        UsageError: no such file, or a line that is no record.
    """
    decode = msgspec.json.Decoder(Record).decode
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield decode(line)
                    except msgspec.DecodeError as error:
                        if not line.endswith(b"\n"):
                            return  # the role was killed while it wrote its last line
                        raise UsageError(f"{path}:{number} is no trace record: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from None

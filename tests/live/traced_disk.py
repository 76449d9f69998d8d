"""What a disk may hold after a power loss: replays the system calls by which a process has written its files.

What was synced is there. Of what was written since, any sectors may be there or not, in any order. Names are always there:
making, renaming and deleting files is taken to be durable at once.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TRACE = "trace=openat,close,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink"
"""What strace has to trace; it must write whole strings, in hexadecimal (-xx -s 100000)."""

_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\)\s+= (\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Call(NamedTuple):
    """A system call: its name, the file, and what it writes, where; or to which size it cuts the file, as ``at``."""

    name: str
    path: str
    data: bytes = b""
    at: int = 0


def calls(trace: Path) -> Iterator[Call]:
    """Those of a process with one thread."""
    paths = {1: "stdout"}
    for line in trace.read_text().splitlines():
        if (found := _CALL.match(line)) is None:
            continue  # it failed, or is no call
        name, arguments, result = found[1], found[2], int(found[3])
        strings = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(arguments)]
        parts = arguments.split(", ")
        first, last = parts[0], parts[-1]
        match name:
            case "openat":
                paths[result] = strings[0].decode(errors="replace")
            case "close":
                paths.pop(int(first), None)
            case "rename":
                source, target = (text.decode(errors="replace") for text in strings)
                paths = {number: target if path == source else path for number, path in paths.items()}
                yield Call(name, source, strings[1])
            case "unlink":
                yield Call(name, strings[0].decode(errors="replace"))
            case "ftruncate":
                yield Call(name, paths[int(first)], at=int(last))
            case "pwrite64":
                yield Call(name, paths[int(first)], strings[0], int(last))
            case "write" if paths.get(int(first)) == "stdout":
                yield Call(name, "stdout", strings[0])
            case "fsync" | "fdatasync":
                yield Call(name, paths[int(first)])


class Disk:
    """The files that a process has written, by their paths."""

    def __init__(self) -> None:
        self._synced: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._changes: defaultdict[str, list[Call]] = defaultdict(list)  # since the last sync

    def apply(self, call: Call) -> None:
        """Change the files as the call does."""
        match call.name:
            case "pwrite64" | "ftruncate":
                self._changes[call.path].append(call)
            case "fsync" | "fdatasync":
                for change in self._changes.pop(call.path, []):
                    _change(self._synced[call.path], change)
            case "rename":
                target = call.data.decode()
                self._synced[target] = self._synced.pop(call.path, bytearray())
                self._changes[target] = self._changes.pop(call.path, [])
            case "unlink":
                self._synced.pop(call.path, None)
                self._changes.pop(call.path, None)

    def after_power_loss(self, draw: random.Random) -> Iterator[tuple[str, bytes]]:
        """The path and the content of each file."""
        sector_bytes = draw.choice([512, 4096, 1 << 30])
        share = draw.choice([0.0, 0.3, 0.7, 0.95, 1.0])
        for path in {**self._synced, **self._changes}:
            content = bytearray(self._synced[path])
            for change in self._changes[path]:
                for part in _sectors(change, sector_bytes):
                    if draw.random() < share:
                        _change(content, part)
            yield path, bytes(content)


def _change(content: bytearray, call: Call) -> None:
    end = call.at + len(call.data)
    content.extend(bytes(max(0, end - len(content))))
    if call.name == "ftruncate":
        del content[call.at :]
    else:
        content[call.at : end] = call.data


def _sectors(call: Call, sector_bytes: int) -> Iterator[Call]:
    """The call in parts, each of which the disk writes as a whole."""
    if call.name == "ftruncate":
        yield call
    at, end = call.at, call.at + len(call.data)
    while at < end:
        stop = min(end, (at // sector_bytes + 1) * sector_bytes)
        yield call._replace(data=call.data[at - call.at : stop - call.at], at=at)
        at = stop

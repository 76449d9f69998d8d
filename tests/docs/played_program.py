"""Stands in the place of ``docker`` and ``cbw`` while commands are typed: records what they do, or does what was recorded.

A program that is called again with the same words does what it did the next time; the last time is repeated. It may be recorded
that it hangs. ``cbw logs`` is never played: it reads a log, which is a recording itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("docker", "cbw")
PLAYER = """#!/bin/bash
if [ "{program} $1" = "cbw logs" ]; then exec {cbw} "$@"; fi
call=$(printf '%s\\0' {program} "$@" | sha1sum)
call={folder}/${{call%% *}}
if [ ! -d "$call" ]; then
    echo "{program} $*" >> {folder}/unrecorded
    exit 127
fi
number=$(<"$call/count")
if [ -e "$call/$number.code" ]; then echo $((number + 1)) > "$call/count"; else number=$((number - 1)); fi
cat "$call/$number.out"
cat "$call/$number.err" >&2
code=$(<"$call/$number.code")
if [ "$code" = None ]; then exec {sleep} infinity; fi
exit "$code"
"""
"""In bash, as Python would take longer to start than all the rest."""


class Call(NamedTuple):
    """A program with its words, what it wrote to both outputs, and its exit code; None: it hangs."""

    words: list[str]
    out: str
    err: str
    code: int | None


def read_calls(file: Path) -> list[Call]:
    return [Call(*json.loads(line)) for line in file.read_text().splitlines()]


def write_calls(file: Path, calls: Sequence[Call]) -> None:
    file.write_text("".join(json.dumps(call, ensure_ascii=False) + "\n" for call in calls))


def make_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def recorder(folder: Path, file: Path) -> str:
    """Programs in ``folder`` that add each call to ``file``. What ``PATH`` has to begin with."""
    folder.mkdir()
    for program in PROGRAMS:
        command = shlex.join([sys.executable, __file__, str(folder), str(file), program])
        make_program(folder / program, f'#!/bin/sh\nexec {command} "$@"\n')
    return str(folder)


def player(folder: Path, calls: Sequence[Call]) -> str:
    """Programs in ``folder`` that make ``calls``. What ``PATH`` has to begin with. See :func:`unrecorded` afterwards."""
    folder.mkdir()
    counts: Counter[str] = Counter()
    for words, out, err, code in calls:
        name = hashlib.sha1("".join(f"{word}\0" for word in words).encode()).hexdigest()
        call, number = folder / name, counts[name]
        counts[name] += 1
        call.mkdir(exist_ok=True)
        (call / "count").write_text("0")
        for kind, text in (("out", out), ("err", err), ("code", str(code))):
            (call / f"{number}.{kind}").write_text(text)
    cbw, sleep = Path(sys.executable).with_name("cbw"), shutil.which("sleep")
    for program in PROGRAMS:
        make_program(folder / program, PLAYER.format(program=program, folder=folder, cbw=cbw, sleep=sleep))
    return str(folder)


def unrecorded(folder: Path) -> str:
    """The calls of the programs of :func:`player` that were not recorded."""
    path = folder / "unrecorded"
    return path.read_text() if path.exists() else ""


def main(folder: str, file: str, *words: str) -> int:
    """What the programs of :func:`recorder` do."""
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if one != folder)
    environment = {**os.environ, "PATH": path}  # what a program starts itself is no call of the page
    command = [shutil.which(words[0], path=path) or words[0], *words[1:]]
    if words[:2] == ("cbw", "logs"):
        os.execve(command[0], command, environment)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    with Path(file).open("a") as record:  # in one piece, as programs of one pipe run at once
        record.write(json.dumps(Call([*words], done.stdout, done.stderr, done.returncode)) + "\n")
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The tables of Majordomo and Paranoid Pirate in ``wire.md``, read frame by frame with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.messages import Answer, Beat, Goodbye, Message, Status, Task, WorkerHello
from cbw.core.plain_messages import Partial, PlainPartial, PlainReply, PlainRequest
from cbw.wire import majordomo_01, majordomo_02, paranoid_pirate

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "wire.md"
WORDS = {'""': b"", "service": b"echo", "address": b"7", "body…": b"hi"}


def frames(row: str, column: int, *, columns: int = 3) -> list[bytes]:
    """The frames that the table of so many ``columns`` shows in one of them, in the row that begins like this."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith(f"| {row} |")]
    (cells,) = (cells for cells in lines if len(cells) == columns + 1)
    found = re.fullmatch(r"`(.+)`", cells[column])
    assert found, cells
    return [
        WORDS[word] if word in WORDS else bytes.fromhex(word) if len(word) == 2 else word.encode()
        for word in found[1].split(", ")
    ]


@pytest.mark.parametrize(
    ("column", "dialect"), [(1, majordomo_01.WORKER), (2, majordomo_02.WORKER), (3, paranoid_pirate.WORKER)]
)
def test_workers(column: int, dialect: WorkerDialect) -> None:
    read: dict[str, Message] = {
        "worker: registration": WorkerHello("W", "W", ["" if column == 3 else "echo"], 1, 1),
        "worker: answer": Answer(7, Status.OK, b"hi"),
        "heartbeat, both ways": Beat(),
    }
    written: dict[str, Message] = {"worker: task": Task(7, "echo", b"hi", None, 1), "heartbeat, both ways": Beat()}
    if column < 3:
        read["disconnect, both ways"] = written["disconnect, both ways"] = Goodbye()
    if column == 2:
        read["worker: part of an answer"] = Partial(7, b"hi")
    for row, message in read.items():
        assert dialect.read(b"W", frames(row, column)) == [message], row
    for row, message in written.items():
        assert list(dialect.write_one(message)) == frames(row, column), row


@pytest.mark.parametrize(
    ("column", "columns", "dialect"),
    [(1, 3, majordomo_01.CLIENT), (2, 3, majordomo_02.CLIENT), (1, 1, majordomo_02.MAJORTOMO_CLIENT)],
)
def test_clients(column: int, columns: int, dialect: ClientDialect) -> None:
    (request,) = dialect.read(b"C", frames("client: request", column, columns=columns))
    assert isinstance(request, PlainRequest) and request.service == "echo" and request.body == b"hi"
    reply = PlainReply(request.envelope, Answer(1, Status.OK, b"hi"))
    assert dialect.write_one(reply) == frames("client: reply", column, columns=columns)
    if dialect.takes_partials:
        part = PlainPartial(request.envelope, b"hi")
        assert dialect.write_one(part) == frames("client: part of a reply", column, columns=columns)

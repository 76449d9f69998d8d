"""Programs of users that log through the standard library, also what has no line as it is."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import cbw

from .conftest import HOST, StartLogger
from .logged import records


@contextlib.contextmanager
def shop_that_logs(port: int) -> Iterator[logging.Logger]:
    """The logger of a user's program, with our handler, which nobody else finds: pytest puts what is logged into its reports, and
    parallel runs cannot send one with half a character.
    """
    handler = cbw.LogHandler(HOST, port, name="SHOP")
    shop = logging.Logger("shop")
    shop.addHandler(handler)
    try:
        yield shop
    finally:
        shop.removeHandler(handler)
        handler.close()


def test_any_program_logs_through_the_standard_library(start_logger: StartLogger, logs: Path) -> None:
    _, port = start_logger()
    with shop_that_logs(port) as shop:
        shop.error("no %s left", "apples", extra={"basket": 7})
        try:
            raise ValueError("rotten")
        except ValueError:
            shop.exception("bad")
    first, second = (line for line in records(logs) if line["event"] == "log")
    assert (first["text"], first["level"], first["sender"]) == ("no apples left", "error", "SHOP")
    assert first["fields"] == {"logger": "shop", "basket": 7}
    assert "ValueError: rotten" in second["text"]


class Unprintable:
    """A value of a user's, with an idea of its own of how it is printed."""

    def __repr__(self) -> str:
        return "caf\udce9"


def test_records_that_have_no_line_as_they_are(start_logger: StartLogger, logs: Path) -> None:
    """Names of files that are no UTF-8, megabytes, values that JSON does not know. None keeps back those after it."""
    _, port = start_logger()
    with shop_that_logs(port) as shop:
        shop.error("no %s left", "caf\udce9", extra={"file": "caf\udce9", "basket": 7})
        shop.error("x" * 9_000_000, extra={"basket": 7})
        shop.error("odd", extra={"thing": Unprintable(), "keys": {(1, 2): 3}, "number": float("nan")})
        for _ in range(1000):
            shop.error("y" * 10_000)
        shop.error("last")
    first, big, odd, *others, last = (line for line in records(logs) if line["event"] == "log")
    assert (first["text"], first["fields"]["file"], first["fields"]["basket"]) == (
        "no caf\\udce9 left",
        "caf\\udce9",
        7,
    )
    assert big["text"].endswith("x… (9000000 characters)")
    assert big["fields"]["basket"] == 7
    assert odd["fields"]["thing"] == "caf\\udce9"
    assert [line["text"] for line in others] == ["y" * 10_000] * 1000
    assert last["text"] == "last"

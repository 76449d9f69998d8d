"""Batches of records at the bytes: nobody can write in the name of another, whatever JSON allows."""

from __future__ import annotations

import pytest

from cbw.core.batch import BatchHeader, boot_of
from cbw.errors import BadMessage
from cbw.logger.line import JSON
from cbw.wire import log

MINE = BatchHeader("me", "mine", 1, 1, 1)


def read(payload: bytes, count: int = 1) -> bytes:
    header = BatchHeader("me", "mine", 1, count, 1)
    return log.read_batch(log.encode_batch(header, payload))[1]


def test_lines_that_agree_with_their_header() -> None:
    payload = (
        b'{"at":1,"event":"x","sender":"me","boot":"mine","seq":1}\n'
        b'{"sender":"me","fields":{"boot":"yours","seq":9},"text":",\\"boot\\":\\"yours\\",\\"seq\\":9}","boot":"mine","seq":2}\n'
    )
    assert read(payload, 2) == payload
    assert JSON.positions_in(payload, is_beginning=False) == {"mine": 2}


@pytest.mark.parametrize(
    "line",
    [
        b'{"sender":"me","boot":"yours","seq":1}',
        b'{"sender":"me","boot":"mine","seq":9}',
        b'{"sender":"you","boot":"mine","seq":1}',
        b'{"boot":"mine","seq":1}',
        b'{"sender":"me"}',
        b'{"sender":"me","boot":"mine","seq":1,"boot":"yours","seq":9}',
        b'{"sender":"me","boot":"mine","seq":1,"send\\u0065r":"you"}',
        b'[{"sender":"me","boot":"mine","seq":1}]',
        b'{"sender":"me","boot":"mine","seq":"1"}',
        b'{"sender":"me","boot":"mine","seq":1} {"sender":"me","boot":"yours","seq":1}',
        b'{"sender":"me","boot":"mine","seq":1',
        b"",
        b" ",
    ],
)
def test_a_line_in_the_name_of_another_or_of_nobody(line: bytes) -> None:
    with pytest.raises(BadMessage):
        read(line + b"\n")


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        # one object in two lines, of which the second would be read back as a record of another
        (b'{"sender":"me","boot":"mine","seq":1,"x":\n{"a":1,"boot":"yours","seq":9}\n}\n', 3),
        (b'{"sender":"me","boot":"mine","seq":1,"x":\n{"a":1,"boot":"yours","seq":9}}\n', 2),
        # two objects in one line
        (b'{"sender":"me","boot":"mine","seq":1}{"sender":"me","boot":"mine","seq":2}\n', 1),
        (b'{"sender":"me","boot":"mine","seq":1}{"sender":"me","boot":"mine","seq":2}\n\n', 2),
        (
            b'{"sender":"me","x":\n{"a":1,"boot":"yours","seq":9}\n,"boot":"mine","seq":1}'
            b'{"sender":"me","boot":"mine","seq":2}{"sender":"me","boot":"mine","seq":3}\n',
            3,
        ),
        # more or fewer lines than announced, or one without its end
        (b'{"sender":"me","boot":"mine","seq":1}\n', 2),
        (b'{"sender":"me","boot":"mine","seq":1}\n{"sender":"me","boot":"mine","seq":2}\n', 1),
        (b'{"sender":"me","boot":"mine","seq":1}', 1),
        (b'{"sender":"me","boot":"mine","seq":1}\n{"at":1}', 1),
    ],
)
def test_lines_that_are_not_one_object_each(payload: bytes, count: int) -> None:
    with pytest.raises(BadMessage):
        read(payload, count)


def test_a_name_that_only_ends_like_boot_moves_nothing() -> None:
    payload = b'{"sender":"me","boot":"mine","seq":1,"\\"boot":"yours","\\"seq":9}\n'
    assert JSON.positions_in(read(payload), is_beginning=False) == {}
    trick = b'{"sender":"me","boot":"mine","seq":1,"\\"boot":"yours","seq":1}\n'
    assert JSON.positions_in(read(trick), is_beginning=False) == {}


def test_a_refusal_says_which_record_is_wrong() -> None:
    lines = b'{"sender":"me","boot":"mine","seq":1}\n{"sender":"you","boot":"yours","seq":9}\n'
    with pytest.raises(BadMessage, match=r"record 9 of 'you' \(boot 'yours'\) in the place of record 2 of 'me'"):
        read(lines, 2)


def test_a_boot_that_is_a_hash_must_be_proved() -> None:
    boot = boot_of("secret")
    line = b'{"at":1,"event":"x","sender":"S","boot":"%b","seq":1}\n' % boot.encode()
    header = BatchHeader("S", boot, 1, 1, 1, proof="secret")
    assert log.read_batch(log.encode_batch(header, line)) == (header, line)
    for proof in ("", "guess", boot, "s" * 65):
        with pytest.raises(BadMessage, match="proof"):
            log.read_batch(log.encode_batch(BatchHeader("S", boot, 1, 1, 1, proof=proof), line))


def test_a_boot_of_another_form_needs_no_proof() -> None:
    line = b'{"at":1,"event":"x","sender":"S","boot":"0123456789abcdef","seq":1}\n'
    header = BatchHeader("S", "0123456789abcdef", 1, 1, 1)
    assert log.read_batch(log.encode_batch(header, line)) == (header, line)

"""What people type behind ``cbw call SERVICE``."""

from __future__ import annotations

import pytest

from cbw.cli.call import request_body
from cbw.errors import UsageError


@pytest.mark.parametrize(
    ("values", "body"),
    [
        (["article=tea", "count:=3"], b'{"article":"tea","count":3}'),
        (["note="], b'{"note":""}'),
        (["equation=a=b"], b'{"equation":"a=b"}'),
        (["lines:=[1, null]"], b'{"lines":[1,null]}'),
        (["stra\u00dfe=lang"], '{"stra\u00dfe":"lang"}'.encode()),
        (["text=two\nlines"], b'{"text":"two\\nlines"}'),
        (['{"article": "tea"}'], b'{"article": "tea"}'),
        (["tea"], b"tea"),
        (["3=x"], b"3=x"),
        ([""], b""),
    ],
)
def test_values(values: list[str], body: bytes) -> None:
    assert request_body(values) == body


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["a=1", "b"], "what is 'b'"),
        (["a=1", "a=2"], "the argument a is there twice"),
        (["a:=one"], "'a:=one' is no JSON"),
    ],
)
def test_values_that_make_no_sense(values: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        request_body(values)

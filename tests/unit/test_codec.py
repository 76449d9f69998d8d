"""Values that come back: what one end sends as a type the other reads as that type."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import uuid
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw import codec
from cbw.errors import NotEncodable, UsageError

Name = NewType("Name", str)
Short = Annotated[str, msgspec.Meta(max_length=20)]


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclasses.dataclass
class Line:
    article: str
    count: int | None = None


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    width: int
    title: str | None


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
T = TypeVar("T")
SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bytes, st.binary()),
    (str, TEXTS),
    (Name, TEXTS),
    (Short, TEXTS),
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, FLOATS),
    (bool, st.booleans()),
    (None, st.none()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (Literal["a", None], st.sampled_from(["a", None])),
    (object, st.sampled_from(["a", 1, None, {"a": None}])),
    (T, st.sampled_from(["a", 1, None])),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (datetime.date, st.dates()),
    (datetime.datetime, st.datetimes(timezones=st.just(datetime.UTC))),
    (Line, st.builds(Line, TEXTS, st.none() | st.integers(0, 9))),
    (Point, st.builds(Point, FLOATS, FLOATS)),
    (Options, st.fixed_dictionaries({}, optional={"width": st.integers(0, 9), "title": st.none() | TEXTS})),
]
JSON = [pair for pair in SIMPLE if pair[0] is not bytes and pair[0] is not None]


@st.composite
def typed(draw: st.DrawFn) -> tuple[Any, Any]:
    """A type, and one of its values."""
    kind, values = draw(st.sampled_from(SIMPLE))
    if draw(st.booleans()):
        return kind, draw(values)
    kind, values = draw(st.sampled_from(JSON))
    for _ in range(draw(st.integers(1, 2))):
        form = draw(st.sampled_from(["list", "dict", "tuple", "optional"]))
        if form == "list":
            kind, values = list[kind], st.lists(values, max_size=3)  # type: ignore[valid-type]
        elif form == "dict":
            kind, values = dict[str, kind], st.dictionaries(TEXTS, values, max_size=3)  # type: ignore[valid-type]
        elif form == "tuple":
            kind, values = tuple[kind, int], st.tuples(values, st.integers(0, 9))  # type: ignore[valid-type]
        else:
            kind, values = Optional[kind], st.none() | values  # noqa: UP045 - made at run time
    return kind, draw(values)


@given(typed())
def test_a_value_comes_back_as_what_it_was(pair: tuple[Any, Any]) -> None:
    kind, value = pair
    assert codec.decode(codec.encode_as(value, kind), kind) == value


@pytest.mark.parametrize(
    ("kind", "sent", "value"),
    [
        (int | None, None, None),
        (int | None, 5, 5),
        (str | None, "abc", "abc"),
        (str | None, None, None),
        (Literal["a", "b"], "a", "a"),
        (Colour, "red", Colour.RED),
        (Level, "low", Level.LOW),
        (Name, "u1", "u1"),
        (Short, "abc", "abc"),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (datetime.date, "2024-01-02", datetime.date(2024, 1, 2)),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (bytes | None, None, None),
        (bytes | None, b"\xff", b"\xff"),
        (Any, "tea", "tea"),
        (Any, None, None),
        (Any, {"a": 1}, {"a": 1}),
    ],
)
def test_a_value_is_taken_from_those_who_do_not_know_the_type(kind: Any, sent: Any, value: Any) -> None:
    assert codec.decode(codec.encode(sent), kind) == value


@pytest.mark.parametrize(
    ("kind", "body"),
    [(int, b"tea"), (int, b""), (Colour, b"green"), (uuid.UUID, b"none"), (str, b"\xff"), (Line, b'{"count": 1}')],
)
def test_a_body_that_is_no_such_value(kind: Any, body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        codec.decode(body, kind)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [1, -math.inf],
        {"x": {"y": math.nan}},
        Point(math.nan),
        [Line("x"), math.inf],
        object(),
        1j,
        "x\udcff",
        ["x\udcff"],
    ],
)
def test_what_has_no_form_is_not_sent(value: Any) -> None:
    with pytest.raises(NotEncodable, match="cannot be sent") as refused:
        codec.encode(value)
    assert isinstance(refused.value, UsageError) and isinstance(refused.value, TypeError)


def test_a_function_that_is_no_task_is_told_so() -> None:
    with pytest.raises(NotEncodable, match=r"a value of type function cannot be sent: it is no task of a cbw\.Service"):
        codec.encode(test_null_is_not_taken_for_a_number_that_is_none)


def test_null_is_not_taken_for_a_number_that_is_none() -> None:
    assert codec.encode({"x": None, "null": [1.5, None]}) == b'{"x":null,"null":[1.5,null]}'


def test_numbers_of_other_libraries_are_numbers() -> None:
    assert codec.encode([fractions.Fraction(1, 2)]) == b"[0.5]"


class _Model:
    """As pydantic's: what is asked of one."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def model_validate(cls, value: Any) -> _Model:
        if not isinstance(value, dict) or "name" not in value:
            raise ValueError("a name is needed")
        return cls(value["name"])

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return {"name": self.name, "mode": mode}


def test_models_of_pydantic() -> None:
    assert codec.encode(_Model("tea")) == b'{"name":"tea","mode":"json"}'
    assert [model.name for model in codec.decode(b'[{"name": "tea"}]', list[_Model])] == ["tea"]
    with pytest.raises(msgspec.ValidationError, match="a name is needed"):
        codec.decode(b"{}", _Model)


class _Plain:
    pass


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (_Plain, "_Plain"),
        (list[_Plain], "_Plain"),
        (str | bytes, "str-like"),
        (dict[str, _Plain | None], "_Plain"),
        (Line, ""),
    ],
)
def test_types_that_no_body_can_be_read_as(kind: Any, why: str) -> None:
    found = codec.why_unusable(kind)
    assert why in found and bool(found) is bool(why)

"""What a handler gets of a body, by its signature alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import pytest

from cbw import codec
from cbw.contract.context import Context
from cbw.contract.signature import Signature
from cbw.errors import UsageError
from cbw.worker.handler import Handler


@dataclasses.dataclass
class Order:
    article: str
    count: int = 1


class Size(TypedDict):
    size: int


def price(article: str) -> None: ...
def price_of_some(article: str, count: int = 1) -> None: ...
def greet(name: str = "world") -> None: ...
def maybe(number: int | None = 7) -> None: ...
def double(number: int) -> None: ...
def scaled(number: int, factor: int = 2) -> None: ...
def options(*, width: int = 100, height: int = 50) -> None: ...
def drawn(shape: str, *, width: int = 100) -> None: ...
def tagged(tags: list[str] = ["x"]) -> None: ...  # noqa: B006
def place(order: Order) -> None: ...
def place_soon(order: Order, urgent: bool = False) -> None: ...
def resize(size: Size) -> None: ...
def store(data: dict[str, int]) -> None: ...
def store_once(data: dict[str, int], once: bool = False) -> None: ...
def nothing() -> None: ...
def raw(body: bytes) -> None: ...
def untyped(body): ...  # type: ignore[no-untyped-def]
def add(a, b): ...  # type: ignore[no-untyped-def]
def tried(article: str, attempt: Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "sent", "arguments"),
    [
        (price, "tea", {"article": "tea"}),
        (price, {"article": "tea"}, {"article": "tea"}),
        (price, "", {"article": ""}),
        (price, "{tea", {"article": "{tea"}),
        (price_of_some, "tea", {"article": "tea", "count": 1}),
        (price_of_some, {"article": "tea", "count": 3}, {"article": "tea", "count": 3}),
        (greet, "", {"name": ""}),
        (greet, {}, {"name": "world"}),
        (greet, "bob", {"name": "bob"}),
        (maybe, None, {"number": None}),
        (maybe, {}, {"number": 7}),
        (double, 5, {"number": 5}),
        (double, {"number": 5}, {"number": 5}),
        (scaled, 5, {"number": 5, "factor": 2}),
        (scaled, {"number": 5, "factor": 3}, {"number": 5, "factor": 3}),
        (options, {"width": 7}, {"width": 7, "height": 50}),
        (options, None, {"width": 100, "height": 50}),
        (drawn, "circle", {"shape": "circle", "width": 100}),
        (drawn, {"shape": "circle", "width": 5}, {"shape": "circle", "width": 5}),
        (tagged, None, {"tags": ["x"]}),
        (tagged, ["a"], {"tags": ["a"]}),
        (tagged, {"tags": ["a"]}, {"tags": ["a"]}),
        (place, {"article": "tea"}, {"order": Order("tea")}),
        (place, {"order": {"article": "tea", "count": 2}}, {"order": Order("tea", 2)}),
        (place_soon, {"article": "tea"}, {"order": Order("tea"), "urgent": False}),
        (place_soon, {"order": {"article": "tea"}, "urgent": True}, {"order": Order("tea"), "urgent": True}),
        (resize, {"size": 3}, {"size": {"size": 3}}),
        (store, {"data": 1, "x": 2}, {"data": {"data": 1, "x": 2}}),
        (store_once, {"data": {"x": 2}, "once": True}, {"data": {"x": 2}, "once": True}),
        (nothing, None, {}),
        (nothing, {}, {}),
        (raw, {"x": 1}, {"body": b'{"x":1}'}),
        (untyped, "tea", {"body": b"tea"}),
        (add, {"a": 1, "b": "two"}, {"a": 1, "b": "two"}),
        (tried, "tea", {"article": "tea", "attempt": "the attempt"}),
        (functools.partial(scaled, factor=9), 5, {"number": 5, "factor": 9}),
    ],
)
def test_arguments(function: Callable[..., Any], sent: Any, arguments: dict[str, Any]) -> None:
    assert Signature(function).arguments(codec.encode(sent), "the attempt") == arguments


@pytest.mark.parametrize(
    ("function", "sent"),
    [
        (nothing, "something"),
        (options, {"no": "such"}),
        (options, 5),
        (price, {"name": "tea"}),
        (price_of_some, {"count": 2}),
        (scaled, {"number": "5"}),
        (double, "five"),
        (double, b""),
        (place, {"order": {"articel": "tea"}}),
        (place_soon, {"urgent": True}),
        (store_once, {"x": 2}),
        (add, {"a": 1}),
    ],
)
def test_a_body_that_does_not_fit(function: Callable[..., Any], sent: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        Signature(function).arguments(codec.encode(sent), None)


def test_a_default_value_is_not_shared() -> None:
    signature = Signature(tagged)
    signature.arguments(b"", None)["tags"].append("y")
    assert signature.arguments(b"", None) == {"tags": ["x"]}


class Plain:
    pass


def wants_plain(item: Plain) -> None: ...
def wants_many(items: list[Plain], count: int) -> None: ...
def wants_either(text: str | bytes) -> None: ...
def wants_any_number(*numbers: int) -> None: ...
def wants_any_names(**names: int) -> None: ...
def wants_no_name(item: int, /) -> None: ...
def wants_unknown(item: Unknown) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (wants_plain, "parameter item is Plain, which no body can be read as"),
        (wants_many, "parameter items is list.*Plain"),
        (wants_either, "parameter text is str | bytes"),
        (wants_any_number, "parameter numbers is variadic positional, and the arguments of a request have names"),
        (wants_any_names, "parameter names is variadic keyword, and"),
        (wants_no_name, "parameter item is positional-only, and"),
        (wants_unknown, "Unknown"),
    ],
)
def test_a_function_that_cannot_be_called(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(UsageError, match=f"{function.__name__} cannot be a handler: .*{text}"):
        Signature(function)


def text_of(_: bytes) -> str: ...  # type: ignore[empty-body]
def maybe_text_of(_: bytes) -> str | None: ...
def number_of(_: bytes) -> int: ...  # type: ignore[empty-body]
def anything_of(_: bytes) -> Any: ...
def plain_of(_: bytes) -> Plain: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "result", "body"),
    [
        (text_of, "tea", b"tea"),
        (maybe_text_of, "tea", b'"tea"'),
        (maybe_text_of, None, b""),
        (number_of, 5, b"5"),
        (anything_of, "tea", b"tea"),
        (plain_of, "tea", b"tea"),
        (untyped, {"x": 1}, b'{"x":1}'),
        (nothing, None, b""),
    ],
)
def test_the_body_of_a_result(function: Callable[..., Any], result: Any, body: bytes) -> None:
    assert Signature(function).body_of(result) == body


def keeping_its_name(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return inner


@keeping_its_name
async def later(text: str) -> str:
    return text


def test_an_async_function_below_a_plain_decorator_is_async() -> None:
    assert Handler("", later).is_async
    assert Signature(later).arguments(b"tea", None) == {"text": "tea"}


def test_arguments_are_bound_as_python_does() -> None:
    def order(article: str, count: int = 1, *, note: str = "") -> None: ...

    signature = Signature(order)
    assert signature.body_for(["tea"], {}) == b'{"article":"tea"}'
    assert signature.body_for(["tea", 2], {"note": "x"}) == b'{"article":"tea","count":2,"note":"x"}'
    assert signature.body_for([], {"count": 2, "article": "tea"}) == b'{"count":2,"article":"tea"}'
    wrong: list[tuple[list[Any], dict[str, Any], str]] = [
        ([], {}, "missing a required argument: 'article'"),
        (["tea", 2, "x"], {}, "too many positional arguments"),
        (["tea"], {"article": "tea"}, "multiple values for argument 'article'"),
        (["tea"], {"colour": "red"}, "got an unexpected keyword argument 'colour'"),
    ]
    for positional, by_name, why in wrong:
        with pytest.raises(TypeError, match=f"order: {why}"):
            signature.body_for(positional, by_name)

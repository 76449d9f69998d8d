"""What a handler gets of a body, by its signature alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Optional, TypedDict

import msgspec
import pytest
from annotated_types import Gt

import cbw
from cbw import codec
from cbw.contract.context import Context
from cbw.contract.signature import Signature
from cbw.errors import UsageError
from cbw.testing import System
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
def wants_maybe(item: Optional[Plain]) -> None: ...  # noqa: UP045 - as many write it
def wants_any_number(*numbers: int) -> None: ...
def wants_any_names(**names: int) -> None: ...
def wants_no_name(item: int, /) -> None: ...
def wants_unknown(item: Unknown) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (wants_plain, "parameter item is Plain, which no body can be read as"),
        (wants_many, r"parameter items is list\[.*Plain"),
        (wants_either, r"parameter text is str \| bytes"),
        (wants_maybe, r"parameter item is typing.Optional\[.*Plain"),
        (wants_any_number, "parameter numbers is variadic positional, and the arguments of a request have names"),
        (wants_any_names, "parameter names is variadic keyword, and"),
        (wants_no_name, "parameter item is positional-only, and"),
        (wants_unknown, "Unknown"),
    ],
)
def test_a_function_that_cannot_be_called(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(UsageError, match=f"{function.__name__} cannot be a handler: .*{text}"):
        Signature(function)


def positive(number: Annotated[int, Gt(0)]) -> None: ...
def positives(numbers: list[Annotated[int, Gt(0)]] | None, note: str = "") -> None: ...


@pytest.mark.parametrize("function", [positive, positives])
def test_a_limit_that_nobody_would_check_is_refused(function: Callable[..., Any]) -> None:
    """FastAPI checks it, so who comes from there believes that it holds."""
    with pytest.raises(UsageError, match=r"Gt\(gt=0\) of parameter numbers? would not be checked"):
        Signature(function)


def test_limits_of_pydantic_are_refused_outside_of_models_only() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Positive", number=(pydantic.PositiveInt, ...))

    def handler(value: Any) -> None: ...

    for kind in (pydantic.PositiveInt, Annotated[int, pydantic.Field(gt=0)], pydantic.constr(min_length=2)):
        handler.__annotations__["value"] = kind
        with pytest.raises(UsageError, match="of parameter value would not be checked"):
            Signature(handler)
    for kind in (Annotated[int, pydantic.Field(description="how many")], Annotated[int, "how many"], model):
        handler.__annotations__["value"] = kind
        Signature(handler)


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


class Later:
    """Async, and an object: as a handler with settings of its own is written."""

    async def __call__(self, number: int) -> int:
        return number

    async def both(self, number: int, factor: int) -> int:
        return number * factor


class Counted:
    def __call__(self, number: int) -> Iterator[int]:
        yield number


FORMS: dict[str, Callable[..., Any]] = {
    "an object": Later(),
    "a partial of an object": functools.partial(Later()),
    "a partial of a method": functools.partial(Later().both, factor=1),
    "an object below a decorator": keeping_its_name(Later()),
    "a partial below a decorator": keeping_its_name(functools.partial(Later().both, factor=1)),
    "a partial of what is below a decorator": functools.partial(keeping_its_name(Later().both), factor=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_called_in_the_end_says_the_types_and_whether_it_is_async(form: str) -> None:
    task = cbw.Service("s").task(name="later")(FORMS[form])
    for function in (FORMS[form], task):
        assert Handler("", function).is_async
        assert not Handler("", function).is_stream
    assert task.signature.arguments(b'{"number":5}', None)["number"] == 5
    with System() as system:
        system.worker({task.name: task})
        assert system.call(task, number=5) == 5
        with pytest.raises(cbw.BadRequest, match="int"):
            system.call({"number": "5"}, task.name)


def test_an_object_that_yields_gives_its_answer_in_parts() -> None:
    task = cbw.Service("s").task(name="counted")(Counted())
    assert Handler("", task).is_stream
    with System() as system:
        system.worker({task.name: task})
        assert list(system.stream(task, 5)) == [5]


def test_a_class_takes_what_its_init_does_and_returns_itself() -> None:
    with System() as system:
        task = cbw.Service("s").task()(Order)
        system.worker({task.name: task})
        assert system.call(task, "tea") == Order("tea")
        with pytest.raises(cbw.BadRequest, match="int"):
            system.call({"article": "tea", "count": "3"}, task.name)


def maybe_told(article: str, context: Context | None = None) -> bool:
    return context is not None


def told(article: str, context: Annotated[Context, "of the request"]) -> bool:
    return context is not None


@pytest.mark.parametrize("function", [maybe_told, told])
def test_a_context_may_be_optional_so_that_tests_can_call_the_function_without(function: Callable[..., Any]) -> None:
    with System() as system:
        task = cbw.Service("s").task()(function)
        system.worker({task.name: task})
        assert system.call(task, "tea") is True
    assert maybe_told("tea") is False


def test_a_result_that_is_none_against_its_annotation_is_an_error() -> None:
    """It was the empty text to who called it, or something that could not be read."""
    for function in (text_of, number_of):
        name = function.__annotations__["return"]
        with pytest.raises(TypeError, match=f"{function.__name__} returned None, and is annotated to return {name}"):
            Signature(function).body_of(None)


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

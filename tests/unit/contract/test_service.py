"""Services and their tasks, without a broker."""

from __future__ import annotations

import asyncio
import datetime
import enum
import pickle
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbw
from cbw import codec
from cbw.contract.service import Contract
from cbw.errors import UsageError
from cbw.testing import System
from cbw.worker.app import services_of
from cbw.worker.handler import Handler


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "12"


@dataclass
class Line:
    article: str = "tea"
    count: int = 1


class Size(TypedDict):
    size: int


@dataclass
class Ordered:
    order: int


shop = cbw.Service("shop")


@shop.task()
def price(article: str, count: int = 1) -> int:
    return len(article) * count


@shop.task()
async def later(article: str) -> str:
    return article


@shop.task()
def told(context: cbw.Context, article: str, *, urgent: bool = False) -> str:
    return f"{context.service} {article} {urgent}"


@shop.task()
def maybe(number: int | None = 7) -> int | None:
    return number


@shop.task()
def either(value: str | int | None) -> str | int | None:
    return value


@shop.task()
def colour(value: Colour) -> Colour:
    return value


@shop.task()
def choose(value: Literal["a", "b"]) -> Literal["a", "b"]:
    return value


@shop.task()
def line(line: Line = Line("coffee", 2)) -> Line:  # noqa: B008
    return line


@shop.task()
def one_of_some(first: Line = Line("coffee", 2), *, urgent: bool = False) -> tuple[Line, bool]:  # noqa: B008
    return first, urgent


@shop.task()
def ordered(order: Ordered) -> int:
    return order.order


@shop.task()
def store(data: dict[str, int]) -> dict[str, int]:
    return data


@shop.task()
def resize(size: Size) -> Size:
    return size


@shop.task()
def raw(body: bytes) -> bytes:
    return body


@shop.task()
def parts(head: bytes, tail: bytes = b"") -> bytes:
    return head + tail


@shop.task()
def when(day: datetime.date, number: uuid.UUID | None = None) -> tuple[datetime.date, uuid.UUID | None]:
    return day, number


@shop.task()
def anything(value: object, others: list[object] | None = None) -> dict[str, object]:
    return {"value": value, "others": others}


@shop.task()
def nothing() -> None:
    return None


@shop.task()
def untyped(body):  # type: ignore[no-untyped-def]
    return body


TEXTS = st.text(max_size=8) | st.sampled_from(["", "{}", "null", "12", '{"article": "x"}', '"tea"'])
NUMBERS = st.integers(-(2**53), 2**53)
LINES = st.builds(Line, TEXTS, NUMBERS)
CALLS: dict[Contract[..., Any, ..., Any], st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    price: st.tuples(st.tuples(TEXTS), st.fixed_dictionaries({}, optional={"count": NUMBERS})),
    later: st.tuples(st.tuples(TEXTS), st.just({})),
    maybe: st.tuples(st.tuples() | st.tuples(NUMBERS | st.none()), st.just({})),
    either: st.tuples(st.tuples(TEXTS | NUMBERS | st.none()), st.just({})),
    colour: st.tuples(st.tuples(st.sampled_from(Colour)), st.just({})),
    choose: st.tuples(st.tuples(st.sampled_from(["a", "b"])), st.just({})),
    line: st.tuples(st.tuples() | st.tuples(LINES), st.just({})),
    one_of_some: st.tuples(
        st.tuples() | st.tuples(LINES), st.fixed_dictionaries({}, optional={"urgent": st.booleans()})
    ),
    ordered: st.tuples(st.tuples(st.builds(Ordered, NUMBERS)), st.just({})),
    store: st.tuples(st.tuples(st.dictionaries(TEXTS | st.just("data"), NUMBERS)), st.just({})),
    resize: st.tuples(st.tuples(st.fixed_dictionaries({"size": NUMBERS})), st.just({})),
    raw: st.tuples(st.tuples(st.binary(max_size=8)), st.just({})),
    parts: st.tuples(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), st.just({})),
    when: st.tuples(st.tuples(st.dates(), st.uuids() | st.none()), st.just({})),
    anything: st.tuples(st.tuples(TEXTS | NUMBERS, st.lists(TEXTS | st.none())), st.just({})),
    nothing: st.tuples(st.tuples(), st.just({})),
}


@given(st.sampled_from(list(CALLS)).flatmap(lambda task: st.tuples(st.just(task), CALLS[task])))
def test_what_is_called_is_what_the_function_is_given_and_what_it_returns_comes_back(
    call: tuple[Contract[..., Any, ..., Any], tuple[tuple[Any, ...], dict[str, Any]]],
) -> None:
    task, (args, kwargs) = call
    signature = task.signature
    arguments = signature.arguments(task.body_for(*args, **kwargs), None)
    result = task(*args, **kwargs)
    got = task(**arguments)
    if asyncio.iscoroutine(result):
        result, got = asyncio.run(result), asyncio.run(got)
    assert got == result
    assert codec.decode(signature.body_of(result), signature.returns) == result


def test_an_argument_that_has_no_form_is_named_by_its_type() -> None:
    with pytest.raises(cbw.NotEncodable, match="a value of type float cannot be sent: JSON has no form for nan"):
        price.body_for("tea", count=float("nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"\xff", "tea", "", None, 5, {"body": 1}])
def test_a_function_without_a_type_gets_the_same_from_callers_with_and_without_the_module(value: Any) -> None:
    assert untyped.body_for(value) == codec.encode(value)
    assert untyped.signature.arguments(codec.encode(value), None) == {"body": codec.encode(value)}


def test_the_answer_of_a_function_that_returns_nothing_is_nothing() -> None:
    assert codec.decode(untyped.signature.body_of(None), untyped.signature.returns) is None
    assert msgspec.json.decode(nothing.signature.described)["signature"] == "() -> None"


def test_a_task_is_called_as_the_function_that_it_is() -> None:
    assert price("tea", count=2) == 6
    assert price.name == "shop.price"
    assert list(shop.tasks)[:2] == ["shop.price", "shop.later"]
    assert repr(price) == "<shop.price: price>"


def test_a_task_goes_to_other_processes_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(price)) is price


def test_a_context_is_no_argument_of_a_caller() -> None:
    assert told.body_for("tea", urgent=True) == b'{"article":"tea","urgent":true}'
    with pytest.raises(TypeError, match="told: got an unexpected keyword argument 'context'"):
        told.body_for("tea", context=None)  # type: ignore[call-arg]


def test_options_go_with_a_copy() -> None:
    quick = price.with_options(timeout=2, priority=9).with_options(priority=1)
    assert (quick.options, price.options) == ({"timeout": 2, "priority": 1}, {})
    assert quick.body_for("tea") == price.body_for("tea")
    with pytest.raises(TypeError, match="no 'patience'; it has timeout, priority"):
        price.with_options(patience=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["", "cbw", "cbw.dead", "mmi", "x" * 201, 7])
def test_a_service_has_a_good_name(name: Any) -> None:
    with pytest.raises(UsageError):
        cbw.Service(name)


def test_a_decorator_without_parentheses_is_told_so() -> None:
    """As in Celery, where they may be left out."""
    with pytest.raises(UsageError, match="parentheses"):
        cbw.Service("s").task(price)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="parentheses"):
        cbw.Worker().service(price)  # type: ignore[arg-type]


def test_two_tasks_of_one_name_are_refused() -> None:
    service = cbw.Service("s")
    service.task(name="one")(lambda: None)
    with pytest.raises(UsageError, match=r"s\.one is a task already"):
        service.task(name="one")(lambda: None)
    with pytest.raises(UsageError, match="price is a task already"):
        service.task()(price)
    with pytest.raises(UsageError, match="too long"):
        service.task(name="x" * 200)(lambda: None)
    with pytest.raises(UsageError, match="retries"):
        service.task(retries=-1)


class Opaque:
    """Of which nothing can be read."""


def takes(value: Opaque) -> None: ...
def gives() -> Opaque: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "said"),
    [(takes, "parameter value is Opaque"), (gives, "no answer can be read as its result")],
)
def test_what_cannot_be_read_is_refused_when_a_worker_is_made(function: Callable[..., Any], said: str) -> None:
    service = cbw.Service("s")
    service.task()(function)
    with pytest.raises(UsageError, match=said):
        cbw.Worker().add_service(service)


def test_a_worker_serves_each_task_once() -> None:
    worker = cbw.Worker()
    worker.add_service(shop)
    with pytest.raises(UsageError, match=r"'shop\.price' has a handler already"):
        worker.add_service(shop)
    with pytest.raises(UsageError, match="the service 'empty' has no tasks"):
        worker.add_service(cbw.Service("empty"))


def test_a_concurrency_is_a_number() -> None:
    service = cbw.Service("s")
    service.task(concurrency=0)(lambda: None)
    with pytest.raises(UsageError, match="concurrency is 0"):
        cbw.Worker().add_service(service)


def test_a_task_may_have_a_time_limit() -> None:
    service = cbw.Service("s")
    service.task(name="one", time_limit_s=2.5, retry_on=(cbw.TimeLimit,))(lambda: None)
    contract = service.tasks["s.one"]
    worker = cbw.Worker()
    worker.add_service(service)
    assert contract.handling["time_limit_s"] == Handler("s.one", contract, time_limit_s=2.5).time_limit_s == 2.5
    assert worker._handlers["s.one"].time_limit_s == 2.5
    with pytest.raises(UsageError, match="time_limit_s is 0; it must be a number of seconds above 0"):
        service.task(time_limit_s=0)


def test_a_call_of_a_task_may_require_a_worker() -> None:
    with System() as system:
        with pytest.raises(cbw.Expired) as unserved:
            system.call(price.with_options(require_worker=True), "tea")
        assert (unserved.value.kind, unserved.value.service) == ("no_worker", "shop.price")
        system.worker(shop)
        assert system.call(price.with_options(require_worker=True), "tea") == 3


@pytest.mark.parametrize("require_worker", [False, True])
def test_headers_arrive_whether_a_worker_is_required_or_not(require_worker: bool) -> None:
    def tell(context: cbw.Context) -> dict[str, str]:
        return dict(context.headers)

    with System() as system:
        system.worker({"tell": tell})
        options: dict[str, Any] = {"headers": {"traceparent": "00-1"}, "require_worker": require_worker}
        assert system.call(b"", "tell", returns=dict[str, str], **options) == {"traceparent": "00-1"}
        client = system.client()
        assert client.result(client.start(b"", "tell", **options), returns=dict[str, str]) == {"traceparent": "00-1"}


def test_a_system_in_memory_serves_and_calls_a_service() -> None:
    with System() as system:
        system.worker(shop)
        assert system.call(price, "tea", count=2) == 6
        assert system.call(later, "tea") == "tea"
        assert system.submit(price, "tea").result() == 3
        assert system.client().call(told, "tea") == "shop.told tea False"


def test_app_py_is_found_if_it_imports_cbw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert services_of((), is_alone=True) == []
    Path("app.py").write_text("raise SystemExit('another program that says cbw')\n")
    assert services_of((), is_alone=True) == []
    Path("app.py").write_text("import cbw\none = cbw.Service('one')\nsame = one\ntwo = cbw.Service('two')\n")
    assert services_of((), is_alone=False) == []
    assert [service.name for service in services_of((), is_alone=True)] == ["one", "two"]

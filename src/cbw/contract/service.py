"""Services as callers and workers share them: the functions themselves say what is sent and what comes back.

A worker serves a :class:`Service`; a caller imports the same functions and gives them to ``client.call``. The name of a
service is put before those of its tasks: ``price`` of ``Service("shop")`` is the service ``shop.price`` of the broker.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import EllipsisType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from cbw.codecs.interface import Codec
from cbw.contract.batching import checked_batch, one_of
from cbw.contract.context import Context
from cbw.contract.retrying import BACKOFF_S, RETRIES, Retrying
from cbw.contract.signature import Signature, name_of
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import OWN_PREFIXES
from cbw.errors import UsageError
from cbw.wire.refusal import checked_service

P = ParamSpec("P")
"""What a caller gives."""
Q = ParamSpec("Q")
"""What the function itself is given: the same, and perhaps a context before it."""
R = TypeVar("R", covariant=True)
"""What a caller gets."""
S = TypeVar("S", covariant=True)
"""What the function itself returns: the same, or a coroutine of it."""
Y = TypeVar("Y")
"""What a generator yields: a part of its answer."""
A = TypeVar("A")
"""One of what a function takes a list of."""
G = TypeVar("G", bound=Callable[[], Iterator[Any]] | Callable[[], AsyncIterator[Any]])


class RequestOptions(TypedDict, total=False):
    """What a caller can say of a request: keywords of :meth:`cbw.Client.call`."""

    timeout: float | EllipsisType | None
    priority: int
    delay_s: float
    require_worker: bool
    headers: Mapping[str, str] | None
    on_progress: Callable[[Any], Any] | None


class StreamOptions(RequestOptions, total=False):
    """The options of a request, and what only :meth:`cbw.Client.stream` takes."""

    restart: bool


class CallOptions(StreamOptions, total=False):
    """All options of :class:`StreamOptions`, and what only :meth:`cbw.Client.start` takes."""

    ticket: str
    deadline_s: float | None


class Contract(Generic[P, R, Q, S]):
    """A function of a :class:`Service`, as both sides see it. Calling it calls the function, here and now.

    ``name`` is that of its service at the broker. ``handling`` is how a worker serves it: keywords of :meth:`cbw.Worker.add`.
    ``codec`` makes its bodies; None: they are what the annotations say.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        function: Callable[Q, S],
        handling: Mapping[str, Any],
        codec: Codec | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.service = service
        self.name = name
        self.function = function
        self.handling = dict(handling)
        self.codec = codec
        self.options: CallOptions = {}

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> S:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.name}: {name_of(self.function)}>"

    def __reduce__(self) -> str:
        """Pickle a task as functions are pickled: by the name under which other processes import it."""
        return str(vars(self)["__qualname__"])

    @functools.cached_property
    def signature(self) -> Signature:
        """What a body holds, and what its answer. The annotations are looked up here, when all of their module is defined.

        Raises:
            UsageError: bodies of that kind cannot be read.
        """
        is_batch = self.handling.get("batch") is not None
        signature = Signature(one_of(self.function) if is_batch else self.function, self.codec)
        if signature.why_no_result:
            raise UsageError(
                f"{signature.name} cannot be a task: no answer can be read as its result: {signature.why_no_result}",
                advice="Use a built-in type, a dataclass, a TypedDict, a msgspec.Struct or a pydantic model.",
            )
        return signature

    def body_for(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """The body of a request with these arguments.

        Raises:
            TypeError: they are not those of the function.
            NotEncodable: there is no form for one of them.
            UsageError: the function cannot be a task.
        """
        return self.signature.body_for(args, kwargs)

    def one_result(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Tells type checkers what a caller gives and gets; never called.

        Raises:
            NotImplementedError: it was.
        """
        raise NotImplementedError(f"give {self!r} to a method of a client")

    def with_options(self, **options: Unpack[CallOptions]) -> Contract[P, R, Q, S]:
        """The task with options of its own in place of the client's defaults: keywords of the method that it is given to::

            client.call(price.with_options(timeout=2), "tea", count=3)

        Raises:
            TypeError: no method of a client has such an option.
        """
        if unknown := options.keys() - CallOptions.__annotations__:
            raise TypeError(
                f"with_options() has no {sorted(unknown)[0]!r}; it has {', '.join(CallOptions.__annotations__)}"
            )
        changed = Contract[P, R, Q, S](self.service, self.name, self.function, self.handling, self.codec)
        changed.options = {**self.options, **options}
        return changed


class Register(Protocol):
    """Makes a task of a function. It knows what callers give and get: no context, the result of a coroutine, and a list of what a
    generator yields.
    """

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Iterator[Y]], /
    ) -> Contract[P, list[Y], Concatenate[Context, P], Iterator[Y]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], AsyncIterator[Y]], /
    ) -> Contract[P, list[Y], Concatenate[Context, P], AsyncIterator[Y]]: ...
    @overload
    def __call__(self, function: Callable[P, Iterator[Y]], /) -> Contract[P, list[Y], P, Iterator[Y]]: ...
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[Y]], /) -> Contract[P, list[Y], P, AsyncIterator[Y]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Contract[P, R, Concatenate[Context, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> Contract[P, R, Concatenate[Context, P], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Contract[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Contract[P, R, P, R]: ...


class RegisterBatch(Protocol):
    """Makes a task of a function that takes a list: a caller gives one of its values, and gets one of its results."""

    @overload
    def __call__(
        self, function: Callable[[list[A]], Coroutine[Any, Any, list[Y | Exception]]], /
    ) -> Contract[[A], Y, [list[A]], Coroutine[Any, Any, list[Y | Exception]]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[A]], Coroutine[Any, Any, list[Y]]], /
    ) -> Contract[[A], Y, [list[A]], Coroutine[Any, Any, list[Y]]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[A]], list[Y | Exception]], /
    ) -> Contract[[A], Y, [list[A]], list[Y | Exception]]: ...
    @overload
    def __call__(self, function: Callable[[list[A]], list[Y]], /) -> Contract[[A], Y, [list[A]], list[Y]]: ...


class Service:
    """Functions that are served and called under one name.

    ::

        shop = cbw.Service("shop")

        @shop.task(concurrency=4)
        def price(article: str, count: int = 1) -> int:
            return PRICES[article] * count

    ``cbw worker --app contract:shop`` serves them, as does :meth:`cbw.Worker.add_service`. A caller imports them:
    ``client.call(price, "tea", count=3)`` sends a request to the service ``shop.price``, and is an ``int`` to type checkers.

    ``codec`` makes the bodies of all its tasks that have none of their own: :class:`cbw.Msgpack`, or one of yours (default: the
    annotations decide, mostly for JSON).

    Raises:
        UsageError: ``name`` is not valid, or is one of the broker's own.
    """

    def __init__(self, name: str, *, codec: Codec | None = None) -> None:
        if not checked_service(name) or f"{name}.".startswith(OWN_PREFIXES):
            raise UsageError(f"{name!r} cannot be a service of yours", advice="Give a name that is not cbw or mmi.")
        self.name = name
        self.codec = _checked_codec(codec)
        self.tasks: dict[str, Contract[..., Any, ..., Any]] = {}
        """Its functions, by their full names."""
        self.opens: Callable[[], Any] | None = None
        """Its lifespan."""

    def __repr__(self) -> str:
        return f"Service({self.name!r})"

    @overload
    def task(
        self,
        *,
        name: str = "",
        concurrency: int | None = None,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
        batch: None = None,
        wait_ms: float = 0.0,
        codec: Codec | None = None,
    ) -> Register: ...
    @overload
    def task(
        self,
        *,
        batch: int,
        wait_ms: float = 0.0,
        name: str = "",
        concurrency: int | None = None,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
        codec: Codec | None = None,
    ) -> RegisterBatch: ...
    def task(
        self,
        *functions: Callable[..., Any],
        name: str = "",
        concurrency: int | None = None,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
        batch: int | None = None,
        wait_ms: float = 0.0,
        codec: Codec | None = None,
    ) -> Any:
        """Decorator: the function is served as ``name`` (default: its own name) below the service's name.

        ``concurrency`` is how many of its requests a worker runs at once (default: it shares the worker's concurrency with all
        tasks that have none of their own). ``retries``, ``retry_on``, ``backoff_s``, ``time_limit_s``, ``batch`` and ``wait_ms``
        are those of :meth:`cbw.Worker.add`. ``codec`` makes the bodies of its requests and answers (default: the service's).

        The function can still be called as before. A plain decorator below this one wraps what is served.

        Raises:
            UsageError: ``name`` is not valid or was given before, or one of the others is not valid, or the decorator is written
                without parentheses.
        """
        if functions:
            raise UsageError("a task is made by a decorator with parentheses", advice="Write @service.task().")
        Retrying(retries, retry_on, backoff_s)  # says now what is wrong with them
        handling = {
            "retries": retries,
            "retry_on": retry_on,
            "backoff_s": backoff_s,
            "time_limit_s": checked_time_limit(time_limit_s),
            "concurrency": concurrency,
            "batch": checked_batch(batch, wait_ms),
            "wait_ms": wait_ms,
        }

        def register(function: Callable[..., Any]) -> Any:
            full = f"{self.name}.{name or name_of(function).rpartition('.')[2]}"
            if len(full) > NAME_CHARS_MAX:
                raise UsageError(f"{full!r} is too long", advice=f"Give at most {NAME_CHARS_MAX} characters in all.")
            if isinstance(function, Contract):
                raise UsageError(f"{name_of(function)} is a task already: {function.name}")
            if full in self.tasks:
                raise UsageError(f"{full} is a task already", advice="Give one of them another name=.")
            own = self.codec if codec is None else _checked_codec(codec)
            contract = self.tasks[full] = Contract(self, full, function, handling, own)
            return contract

        return register

    def lifespan(self, function: G) -> G:
        """Decorator: a generator, plain or async, that yields once: what its tasks find as ``Context.state``.

        It is begun in each process that serves the service, before the first task, and goes on after the last one, also at
        SIGTERM: to close what it has opened. An async one runs in the event loop of the async tasks. ::

            @shop.lifespan
            async def database():
                async with connect() as connection:
                    yield connection

        Raises:
            UsageError: it does not yield, takes arguments, or is the second one.
        """
        if self.opens is not None:
            raise UsageError(f"{self.name} has a lifespan already: {name_of(self.opens)}")
        if not (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
            advice = "Write a def or an async def with one yield, without @contextmanager."
            raise UsageError(f"{name_of(function)} cannot be a lifespan: it does not yield", advice=advice)
        if inspect.signature(function).parameters:
            raise UsageError(f"{name_of(function)} cannot be a lifespan: it takes arguments")
        self.opens = function
        return function


def _checked_codec(codec: Codec | None) -> Codec | None:
    if codec is not None and not isinstance(codec, Codec):
        advice = "Give an object, such as cbw.Msgpack(), of a class that is a cbw.Codec."
        raise UsageError(f"codec is {codec!r}; it must be a cbw.Codec", advice=advice)
    return codec


def checked_time_limit(seconds: float | None) -> float | None:
    """``seconds``, which a handler may take; None: as long as it likes.

    Raises:
        UsageError: it is no time.
    """
    if seconds is not None and not (isinstance(seconds, (int, float)) and 0 < seconds < math.inf):
        raise UsageError(f"time_limit_s is {seconds!r}; it must be a number of seconds above 0, or None")
    return seconds

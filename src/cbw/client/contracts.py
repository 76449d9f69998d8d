"""How the methods of a client take a task of a service, with its arguments, in the place of a body."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from cbw.client.options import check_returns
from cbw.contract.service import Contract

A = TypeVar("A", contravariant=True)
B = TypeVar("B", contravariant=True)
R = TypeVar("R", covariant=True)


class OfOne(Protocol[A, R]):
    """A task that can be called with one argument."""

    def one_result(self, first: A, /) -> R: ...


class OfTwo(Protocol[A, B, R]):
    """A task that can be called with two arguments."""

    def one_result(self, first: A, second: B, /) -> R: ...


def takes_contracts(method: Callable[..., Any]) -> Callable[..., Any]:
    """``method``, whose first arguments are a body and a service: given a task, all arguments are those of the task. The options
    of the request are then those of :meth:`.Contract.with_options`.
    """
    has_returns = "returns" in method.__annotations__

    @functools.wraps(method)
    def either(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and type(contract := arguments[0]) is Contract:
            signature = contract.signature
            body = signature.body_for(arguments[1:], options)
            if has_returns:
                return method(self, body, contract.name, returns=signature.returns, **contract.options)
            return method(self, body, contract.name, **contract.options)
        _check(options)
        return method(self, *arguments, **options)

    return either


def streams_contracts(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method take a task in place of a service's name; its ``returns`` is the type of one part of the answer."""

    @functools.wraps(method)
    def either(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and type(contract := arguments[0]) is Contract:
            signature = contract.signature
            body = signature.body_for(arguments[1:], options)
            returns = signature.part if signature.is_stream else signature.returns
            return method(self, body, contract.name, returns=returns, **contract.options)
        _check(options)
        return method(self, *arguments, **options)

    return either


def maps_contracts(method: Callable[..., Any]) -> Callable[..., Any]:
    """``method``, whose first arguments are bodies and a service: given a task, they are values of its arguments, as for
    :func:`map`.
    """

    @functools.wraps(method)
    def either(self: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and type(arguments[0]) is Contract:
            contract, *values = arguments
            own = {name: value for name, value in contract.options.items() if name != "on_progress"}
            options = {**own, **options, "returns": contract.signature.returns}
            return method(self, _bodies(contract, values), contract.name, **options)
        _check(options)
        return method(self, *arguments, **options)

    return either


def _check(options: dict[str, Any]) -> None:
    if "returns" in options:
        check_returns(options["returns"])


def _bodies(contract: Contract[..., Any, ..., Any], values: list[Iterable[Any]]) -> Iterable[bytes]:
    if not values:
        raise TypeError(f"map() of {contract.name} needs the values of its arguments")
    return (contract.body_for(*given) for given in zip(*values, strict=False))

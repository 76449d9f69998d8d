"""What a function takes and returns, and how the body of a request becomes its arguments.

The rule is decided by the signature, never by the body's value:

- A function whose only parameter is ``bytes``, or has no annotation or ``Any``, gets the body as it is.
- Any other gets its arguments by name, from one JSON object.
- If it has exactly one parameter, or exactly one without a default value, a body that is no JSON object is that argument. So is
  an object, if objects are among the values of that parameter's type. But if that type lists its keys (a dataclass, a
  ``TypedDict``, a ``Struct``) and the parameter's name is not one of them, an object with that name as a key holds the arguments.
- If it has a :class:`.Codec`, a body is what that makes of the only argument, or of an object of all arguments.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from cbw import codec
from cbw.codecs.interface import Codec
from cbw.contract.context import Context
from cbw.errors import NotEncodable, UsageError

_NOTHING = inspect.Parameter.empty
SIGNATURE_CHARS = 1000
"""Most characters of a signature, and of the first paragraph of a docstring, that are told of a function."""
DESCRIPTION_CHARS_MAX = 4000
"""Most characters of all that is told of a function: the broker keeps no more."""
GIVEN_MAX = 64
"""Ways to give the arguments that are remembered: programs have few, but keywords may come in any order."""


class Parameter(NamedTuple):
    """A parameter whose value comes from the body."""

    name: str
    kind: Any
    default: Any
    is_keyword: bool


class Signature:
    """What ``function`` takes and returns. A parameter annotated :class:`.Context` gets that, and nothing from the body.

    With ``own``, bodies of requests and answers are what that codec makes of them; None: what the annotations say.

    Raises:
        UsageError: the function cannot be called like that.
    """

    def __init__(self, function: Callable[..., Any], own: Codec | None = None) -> None:
        self.name = name_of(function)
        self.has_codec = own is not None
        self._context_name: str | None = None
        try:
            hints = typing.get_type_hints(annotated(function), include_extras=True)
            if isinstance(function, type):  # a call of it makes one
                hints["return"] = function
            self._signature = inspect.signature(function)
        except (TypeError, NameError, ValueError) as error:
            raise UsageError(f"{self.name} cannot be a handler: {error}") from None
        returns = hints.get("return", Any)
        self.is_stream = yields(function)
        """Whether it yields: its answer is sent in parts to who wants that, and is the list of them for others."""
        self.part = _yielded(returns) if self.is_stream else Any
        """The type of what it yields."""
        if self.is_stream:
            returns = Any if self.part is Any else list[self.part]  # type: ignore[name-defined]
        if own is not None:
            returns, self.part = Annotated[returns, own], Annotated[self.part, own]
        self.why_no_result = "" if returns is object else codec.why_unusable(returns)
        """Why no answer can be read as the type of the result; empty: one can."""
        self.returns = Any if returns is object or self.why_no_result else returns
        """The type of the result. One of a type that has no form of its own is whatever its value is."""
        self._result_shape = None if self.returns is Any else codec.shape_of(self.returns)
        parameters = self._parameters(hints)
        is_alone = len(parameters) == 1
        self.is_raw = own is None and is_alone and parameters[0].kind in (_NOTHING, bytes, Any)
        """Whether the body is passed on as it is."""
        self._all = [Parameter(name, Any if kind is _NOTHING else kind, *rest) for name, kind, *rest in parameters]
        if own is not None and is_alone:
            name, kind, *rest = self._all[0]
            self._all = [Parameter(name, Annotated[kind, own], *rest)]
        self._by_name = _struct_of(self.name, self._all)
        self._form = self._by_name if own is None else Annotated[self._by_name, own]
        """The type of all arguments together."""
        if not self.is_raw:
            self._check(own)
        self._read_all = None if own is not None else codec.json_decoder(self._by_name)
        self._subject = _subject_of(self._all) if own is None or is_alone else None
        self._subject_keys: frozenset[str] | None = frozenset()
        if self._subject is not None and not self.is_raw:
            self._shape = codec.shape_of(self._subject.kind)
            keys = self._shape.keys
            # Of these it takes any: alone it is every object, beside others it is known by its name.
            is_vague = keys is None or self._subject.name in keys
            self._subject_keys = keys if not is_vague else None if is_alone else frozenset()
        self._called = self._signature.replace(parameters=self._own)
        """As callers call it: without the context."""
        self._positional = [one.name for one in self._all if not one.is_keyword]
        self._given: dict[tuple[object, ...], tuple[str, ...]] = {}
        """Which arguments callers give, by how many have no name and the names of the others: the ways that were seen."""
        self._defaults = {one.name: one.default for one in self._all if one.default is not _NOTHING}
        self._hints = hints
        self._doc = inspect.getdoc(annotated(function)) or ""

    def _parameters(self, hints: dict[str, Any]) -> list[Parameter]:
        found = []
        for parameter in self._signature.parameters.values():
            kind = hints.get(parameter.name, _NOTHING)
            if _is_context(kind):
                self._context_name = parameter.name
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                kind = parameter.kind.description
                text = f"parameter {parameter.name} is {kind}, and the arguments of a request have names"
                raise UsageError(f"{self.name} cannot be a handler: {text}")
            else:
                is_keyword = parameter.kind is parameter.KEYWORD_ONLY
                found.append(Parameter(parameter.name, kind, parameter.default, is_keyword))
        return found

    def _check(self, own: Codec | None) -> None:
        is_alone = len(self._all) == 1
        for one in self._all:
            advice = "Use a built-in type, a dataclass, a TypedDict, a msgspec.Struct, a pydantic model, or take bytes."
            if is_alone:
                why = codec.why_unusable(one.kind)
            elif own is not None:
                why = own.why_unusable(one.kind)
            elif codec.own_codec(one.kind) is not None:
                why = "beside other arguments it would have to be JSON"
                advice = "Make it the only parameter, or give the task codec=cbw.Msgpack()."
            else:
                why = codec.why_no_json(one.kind)
            if not why and (constraint := _unchecked(one.kind)) is not None:
                raise UsageError(
                    f"{self.name} cannot be a handler: {constraint!r} of parameter {one.name} would not be checked",
                    advice="Write such limits with msgspec.Meta, or in a pydantic model: those of pydantic hold only there.",
                )
            if why:
                text = f"parameter {one.name} is {_shown(one.kind)}, which no body can be read as: {why}"
                raise UsageError(f"{self.name} cannot be a handler: {text}", advice=advice)

    @property
    def wants_context(self) -> bool:
        """Whether a parameter gets something that is not in the body."""
        return self._context_name is not None

    def arguments(self, body: Any, context: Any) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError: the body does not fit.
        """
        arguments = self._arguments(body)
        if self._context_name is not None:
            arguments[self._context_name] = context
        return arguments

    def _arguments(self, body: Any) -> dict[str, Any]:
        subject = self._subject
        if self.is_raw:
            assert subject is not None
            return {subject.name: body if type(body) is bytes else bytes(body)}
        if not self._all:
            if body and bytes(body) not in (b"{}", b"null"):
                raise msgspec.ValidationError("it takes no arguments")
            return {}
        if self.has_codec and subject is None:
            return msgspec.structs.asdict(codec.decode(body, self._form))
        if subject is None:
            return self._named(body or b"{}")
        shape = self._shape
        if not body and not (shape.has_none or shape.is_text or shape.is_bytes) and subject.default is not _NOTHING:
            return self._named(b"{}")
        if self._is_named(body):
            try:
                return self._named(body)
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:  # no JSON, so no object either
                if not shape.has_text:
                    raise
        others = {one.name: copy.deepcopy(one.default) for one in self._all if one is not subject}
        return others | {subject.name: codec.decode(body, subject.kind)}

    def _is_named(self, body: Any) -> bool:
        """Whether ``body``, if it is JSON, is an object that holds the arguments by name."""
        keys = self._subject_keys
        if keys is None or not (body[:1] == b"{" or bytes(body[:64]).lstrip().startswith(b"{")):
            return False
        if not keys:
            return True
        assert self._subject is not None
        try:
            return self._subject.name in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except msgspec.DecodeError:
            return False

    def _named(self, body: Any) -> dict[str, Any]:
        assert self._read_all is not None
        return msgspec.structs.asdict(self._read_all(body))

    @property
    def described(self) -> str:
        """What the function takes and returns, as JSON: ``signature`` as Python writes it, ``doc``, and the JSON Schemas
        ``arguments`` and ``result``. These are null where a body is taken or given as it is, or if they are very long.
        """
        own = [p.replace(annotation=self._hints.get(p.name, p.annotation)) for p in self._own]
        returns = self._hints.get("return", self._signature.return_annotation)
        if returns is type(None):  # as Python has made it of None
            returns = None
        said: dict[str, Any] = {
            "signature": str(self._signature.replace(parameters=own, return_annotation=returns))[:SIGNATURE_CHARS],
            "doc": self._doc.partition("\n\n")[0][:SIGNATURE_CHARS],
            "arguments": None if self.is_raw or self.has_codec else codec.schema_of(self._by_name),
            "result": None if self.has_codec or self.returns in (Any, bytes) else codec.schema_of(self.returns),
        }
        text = codec.encode_json(said).decode()
        if len(text) > DESCRIPTION_CHARS_MAX:
            text = codec.encode_json(said | {"arguments": None, "result": None}).decode()
        return text

    @property
    def _own(self) -> list[inspect.Parameter]:
        """The parameters that callers give."""
        return [p for p in self._signature.parameters.values() if p.name != self._context_name]

    def body_for(self, positional: Sequence[Any], by_name: Mapping[str, Any]) -> bytes:
        """The body of a request with these arguments, from which :meth:`arguments` makes them again.

        Raises:
            TypeError: they are not those of the function.
            NotEncodable: there is no form for one of them.
        """
        arguments = self._bound(positional, by_name)
        subject = self._subject
        if subject is not None and (self._subject_keys is None or self._subject_keys):
            # Left out, it could be mistaken for an empty one.
            arguments = self._defaults | arguments
        if self.is_raw or self._subject_keys is None:
            assert subject is not None
            return codec.encode_as(arguments[subject.name], subject.kind)
        if self.has_codec and self._all:
            return codec.encode_as(self._by_name(**arguments), self._form)
        return _encoded(arguments) if self._all else b""

    def _bound(self, positional: Sequence[Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that were given, by name. :meth:`inspect.Signature.bind`, which takes longer than all the rest, is asked
        once for each way to give them.
        """
        way: tuple[object, ...] = (len(positional), *by_name)
        names = self._given.get(way) or self._checked(way, positional, by_name)
        return dict(zip(names, (*positional, *by_name.values()), strict=True))

    def _checked(
        self, way: tuple[object, ...], positional: Sequence[Any], by_name: Mapping[str, Any]
    ) -> tuple[str, ...]:
        try:
            self._called.bind(*positional, **by_name)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        names = (*self._positional[: len(positional)], *by_name)
        if len(self._given) < GIVEN_MAX:
            self._given[way] = names
        return names

    def body_of_part(self, part: Any) -> bytes:
        """The body of a part of the answer, which was yielded.

        Raises:
            NotEncodable: JSON has no form for it.
        """
        return codec.encode_as(part, self.part)

    def body_of(self, result: Any) -> bytes:
        """The body of the answer with this ``result``.

        Raises:
            NotEncodable: JSON has no form for it.
            TypeError: it is None, and the annotation has no None: the empty body would be another value, or none.
        """
        shape = self._result_shape
        if result is None and shape is not None and shape.codec is None and not shape.has_none:
            raise TypeError(f"{self.name} returned None, and is annotated to return {_shown(self.returns)}")
        return codec.encode(result) if shape is None else codec.encode_shaped(result, shape)


def _unchecked(kind: Any) -> Any:
    """What pydantic or annotated_types ask of values of ``kind`` outside of a model, where nobody checks it; None: nothing."""
    if typing.get_origin(kind) is Annotated:
        for said in kind.__metadata__:
            package, name = type(said).__module__.partition(".")[0], type(said).__name__
            if name == "FieldInfo":
                package, said = "pydantic", next(iter(said.metadata), None)
            if package in ("pydantic", "annotated_types") and said is not None and name != "DocInfo":
                return said
    found = map(_unchecked, typing.get_args(kind))
    return next((one for one in found if one is not None), None)


def _is_context(kind: Any) -> bool:
    """Whether a parameter annotated so gets the context: also one that may be left out when the function itself is called."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _is_context(inside[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_is_context, inside)) and all(one is type(None) or _is_context(one) for one in inside)
    return kind is Context


def _encoded(arguments: Mapping[str, Any]) -> bytes:
    try:
        return codec.encode_json(arguments)
    except NotEncodable:
        for value in arguments.values():
            codec.encode_json(value)  # whose error names its type: the dict is ours
        raise


def _subject_of(parameters: list[Parameter]) -> Parameter | None:
    """The parameter that a body can be which names none."""
    if len(parameters) == 1:
        return parameters[0]
    needed = [one for one in parameters if one.default is _NOTHING]
    if len(needed) == 1:
        return needed[0]
    positional = [one for one in parameters if not one.is_keyword]
    return positional[0] if not needed and len(positional) == 1 else None


def _struct_of(name: str, parameters: list[Parameter]) -> Any:
    """A type whose JSON is an object of all arguments."""
    fields: list[tuple[str, Any, Any]] = []
    for one in parameters:
        default: Any = msgspec.NODEFAULT
        if one.default is not _NOTHING:
            default = msgspec.field(default_factory=functools.partial(copy.deepcopy, one.default))
        fields.append((one.name, one.kind, default))
    try:
        return msgspec.defstruct(
            f"{name}_body".replace("<", "").replace(">", ""), fields, kw_only=True, forbid_unknown_fields=True
        )
    except (TypeError, ValueError, NameError) as error:
        raise UsageError(f"{name} cannot be a handler: {error}") from None


def name_of(function: Callable[..., Any]) -> str:
    """What to call ``function`` in a text."""
    return getattr(function, "__qualname__", repr(function))


def _shown(kind: Any) -> str:
    """How to write ``kind`` in a text."""
    return kind.__qualname__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose annotations say the types of the parameters, and which is called in the end: inside partials and
    decorators that keep its name (``functools.wraps``); of an object its ``__call__``, of a class its ``__init__``.
    """
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, type):
            init: Callable[..., Any] = function.__init__  # type: ignore[misc]
            return init
        else:
            return function if inspect.isroutine(function) else type(function).__call__


def _called(function: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """What may say of what kind a call of ``function`` is: a decorator that is an object may do what the function does not."""
    while isinstance(function, functools.partial):
        function = function.func
    return annotated(function), type(function).__call__


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of ``function`` has to be awaited: also below plain decorators that keep its name (``functools.wraps``)."""
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in _called(function))


def yields(function: Callable[..., Any]) -> bool:
    """Whether a call of ``function`` makes a generator, plain or async: also below plain decorators that keep its name."""
    return any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _called(function))


def _yielded(returns: Any) -> Any:
    """The type of the values of a generator that is annotated like this: of ``Iterator[int]``, ``int``."""
    kinds = typing.get_args(returns)
    return kinds[0] if kinds and kinds[0] is not object else Any

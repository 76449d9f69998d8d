"""What our errors say, found in the source: each text as a message, in which ``{}`` stands for whatever is told in it."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cbw.errors
from cbw.errors import BadMessage, CbwError, Failure, Retry
from tests.syntax_trees import tree_of

SRC = Path(__file__).parents[2] / "src" / "cbw"
HOLE = "{}"
_NEVER_SHOWN = (BadMessage, Retry, Failure)
"""Raised to ourselves, or with the words of a user's handler."""
_ERRORS = {
    name
    for name, kind in inspect.getmembers(cbw.errors, inspect.isclass)
    if issubclass(kind, CbwError) and kind not in _NEVER_SHOWN
}
_TEXTS = {
    **dict.fromkeys(
        (*_ERRORS, "BadParameter", "ValueError", "bad_request", "not_found", "ctx.fail", "self.fail"), (0,)
    ),
    **dict.fromkeys(("error_body", "damaged", "OSError", "Listener"), (1,)),
    "Finding": (2, 3),
    "Verdict": (3,),
    **dict.fromkeys(("evidence.append", "complaints.append", "self._blame", "self._wrong.append"), (0,)),
}
"""Which arguments of what makes an error, or a part of one, are texts."""
_REASONS = ("Status", "Refusal")
"""What is behind one of these enumerations is the text that goes with it."""

Scope = ast.AST | None
Text = tuple[str, list[ast.expr]]
"""A message, and what is in its holes."""


class Source:
    """A module, and what it says in its errors."""

    def __init__(self, path: Path, constants: dict[str, ast.expr]) -> None:
        self.path = path
        self.tree = tree_of(path)
        self._constants = constants
        self._known_values: dict[ast.AST, dict[str, list[ast.expr]]] = {}
        self._functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}

    def spoken(self) -> Iterator[tuple[ast.expr, Scope]]:
        """Every expression that is the text or the advice of an error, with the function it is in."""
        yield from self._spoken_below(self.tree, None)

    def _spoken_below(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scope = node
        yield from ((text, scope) for text in _texts_of(node))
        for child in ast.iter_child_nodes(node):
            yield from self._spoken_below(child, scope)

    def literals(self) -> Iterator[tuple[ast.expr, Scope]]:
        """Every text in the module, with the function it is in."""
        yield from self._literals_below(self.tree, None)

    def _literals_below(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scope = node
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield node, scope
        for child in ast.iter_child_nodes(node):
            yield from self._literals_below(child, scope)

    def texts(self, node: ast.expr, scope: Scope) -> list[Text]:
        """What ``node`` may be; empty: nothing that is written here."""
        match node:
            case ast.Constant(str(value)):
                return [(value.replace("{", "(").replace("}", ")"), [])]
            case ast.JoinedStr(parts):
                holes = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
                return [("".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in parts), holes)]
            case ast.IfExp():
                return [*self.texts(node.body, scope), *self.texts(node.orelse, scope)]
            case ast.BoolOp(_, values):
                return [text for value in values for text in self.texts(value, scope)]
            case ast.BinOp(left, ast.Add(), right):
                pairs = itertools.product(self._or_hole(left, scope), self._or_hole(right, scope))
                return [(one + other, [*holes, *more]) for (one, holes), (other, more) in pairs]
            case ast.Name(name):
                return self._assigned(name, scope)
            case ast.Call(ast.Name(name)) if name in self._functions:
                function = self._functions[name]
                returned = [each.value for each in ast.walk(function) if isinstance(each, ast.Return) and each.value]
                return [text for value in returned for text in self.texts(value, function)]
        return []

    def _or_hole(self, node: ast.expr, scope: Scope) -> list[Text]:
        return self.texts(node, scope) or [(HOLE, [node])]

    def _assigned(self, name: str, scope: Scope) -> list[Text]:
        values = [] if scope is None else self._values(scope).get(name, [])
        found = [text for value in values for text in self.texts(value, scope)]
        constant = self._constants.get(name)
        return found or ([] if constant is None else self.texts(constant, None))

    def _values(self, scope: ast.AST) -> dict[str, list[ast.expr]]:
        """What the names of a function are given, unless it is made of what they were before."""
        if scope not in self._known_values:
            values = self._known_values[scope] = {}
            for each in ast.walk(scope):
                match each:
                    case ast.Assign([ast.Name(name)], value) | ast.AugAssign(ast.Name(name), _, value):
                        if not any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(value)):
                            values.setdefault(name, []).append(value)
        return self._known_values[scope]

    def expanded(self, text: Text, scope: Scope) -> list[str]:
        """``text`` with all that its holes may be, where that is written here."""
        message, holes = text
        options = [[one for one, _ in self.texts(hole, scope)] or [HOLE] for hole in holes]
        literals = message.split(HOLE)
        return [
            "".join(itertools.chain.from_iterable(itertools.zip_longest(literals, chosen, fillvalue="")))
            for chosen in itertools.product(*options)
        ]


def _texts_of(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Call(function, arguments, keywords):
            name = ast.unparse(function)
            places = _TEXTS.get(name, _TEXTS.get(name.rpartition(".")[2], ()))
            yield from (arguments[place] for place in places if place < len(arguments))
            yield from _behind_reason(arguments)
            if places:
                yield from (keyword.value for keyword in keywords if keyword.arg == "advice")
        case ast.Tuple(elements):
            yield from _behind_reason(elements)
        case ast.Assign([ast.Name("advice") | ast.Attribute(_, "advice")], value):
            yield value
        case ast.Assign([ast.Name("evidence" | "debts" | "invented")], ast.ListComp(text)):
            yield text
        case ast.FunctionDef("_summary" | "_story" | "_complaints", ast.arguments([], [ast.arg("self"), *_])):
            yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)
        case ast.Assign([ast.Name("UNSEEN")], ast.Tuple(texts)):
            yield from texts
        case _:
            pass


def _behind_reason(values: list[ast.expr]) -> Iterator[ast.expr]:
    for reason, text in itertools.pairwise(values):
        if isinstance(reason, ast.Attribute) and ast.unparse(reason.value).rpartition(".")[2] in _REASONS:
            yield text


@cache
def sources() -> tuple[Source, ...]:
    """All modules of the product."""
    paths = sorted(SRC.rglob("*.py"))
    constants = {
        node.targets[0].id: node.value
        for path in paths
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return tuple(Source(path, constants) for path in paths)


def shape(message: str) -> str:
    """``message`` without the names of its fields."""
    return re.sub(r"\{[^{}]*\}", HOLE, message)

"""Mutants: copies of a function of a core in which one small thing differs.

A mutation is one of: a statement is not there; a condition is the opposite, or lacks one of its clauses; a comparison,
an operator, a number or a truth value is its neighbour; the first becomes the last. Texts for people are left as they
are, and so are ``assert`` statements, which check and decide nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNWRAPPED = ("sorted", "reversed")
METHODS = {"appendleft": "append", "popleft": "pop"}
"""Of a ``deque``."""
NOT_MUTATED = ("trace", "count_bad", "note", "assert_never")
"""Calls that tell people something; their arguments, and whether they happen, are no decisions."""

Change = Callable[[Any], ast.AST]
"""Makes of a node, which it may change, what stands there instead."""


@dataclass(frozen=True)
class Mutant:
    """``function`` of ``path`` with one thing changed.

    ``text`` says what was changed, without the line, so that it names the same mutant after lines have moved.
    """

    path: Path
    function: str
    line: int
    text: str
    place: tuple[object, ...]
    change: Change

    @property
    def module(self) -> str:
        return module_of(self.path)

    @property
    def name(self) -> str:
        """A name that lasts from one version of the file to the next, as long as the statement does."""
        return f"{self.module} {self.function}: {self.text}"

    def code(self) -> CodeType | None:
        """What ``function`` is now; None: that would be no Python, such as a ``continue`` outside of its loop."""
        changed = ast.parse(self.path.read_text())
        _Replace(self.place, self.change).visit(changed)
        try:
            module = compile(ast.fix_missing_locations(changed), str(self.path), "exec", dont_inherit=True)
        except SyntaxError:
            return None
        return code_of(module, self.function)


def module_of(path: Path) -> str:
    """``cbw.core.agenda`` for ``src/cbw/core/agenda.py``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[len(parts) - 1 - parts[::-1].index("cbw") :])


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All mutants of the functions of a file, in the order of its lines."""
    for qualified, function in _functions(ast.parse(path.read_text()), ""):
        for statement in function.body:
            for node, owner, changes in _sites(statement):
                for text, change in changes:
                    if function.name == "__init__" and node is owner:
                        continue  # without an attribute, everything fails: that is too easy
                    yield Mutant(path, qualified, node.lineno, f"{text}, in {_shown(owner)}", _place(node), change)


def _functions(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node


def _shown(statement: ast.stmt) -> str:
    return repr(ast.unparse(statement).partition("\n")[0])


# --- what can be changed


def _sites(
    statement: ast.stmt,
) -> Iterator[tuple[ast.stmt | ast.expr, ast.stmt, list[tuple[str, Change]]]]:
    """Nodes of a statement, the innermost statements that they are in, and what can be changed at each."""
    if isinstance(statement, ast.Assert) or _is_docstring(statement) or _tells(statement):
        return
    if changes := list(_changes_of_statement(statement)):
        yield statement, statement, changes
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield from _sites(child)
        elif isinstance(child, ast.match_case | ast.ExceptHandler):
            for inner in child.body:
                yield from _sites(inner)
        elif isinstance(child, ast.expr) and child is not getattr(statement, "annotation", None):
            for node in _expressions(child):
                if changes := list(_changes_of_expression(node)):
                    yield node, statement, changes


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _tells(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr.lstrip("_") in NOT_MUTATED
    )


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    """``node`` and what is in it, without texts, types and messages to people."""
    if isinstance(node, ast.JoinedStr):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _expressions(child)
        elif isinstance(child, ast.keyword) and child.arg != "text":
            yield from _expressions(child.value)
        elif isinstance(child, ast.comprehension):
            for part in (child.iter, *child.ifs):
                yield from _expressions(part)


def _changes_of_statement(statement: ast.stmt) -> Iterator[tuple[str, Change]]:
    match statement:
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break() | ast.Raise():
            yield "nothing", lambda node: ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield "nothing", lambda node: ast.Pass()
        case ast.Return(value=None):
            yield "nothing", lambda node: ast.Pass()
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "None returned", lambda node: ast.Return(ast.Constant(None))
        case ast.If() | ast.While():
            yield "the opposite condition", _with_opposite_test


def _changes_of_expression(node: ast.expr) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.IfExp():
            yield "the opposite condition", _with_opposite_test
        case ast.BoolOp(values=values):
            for index, value in enumerate(values):
                yield f"without {ast.unparse(value)!r}", _without_clause(index)
            yield "and for or", lambda node: ast.BoolOp(_other_bool(node), node.values)
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            other = COMPARISONS[type(operator)]
            yield f"{other.__name__} for {type(operator).__name__}", _with("ops", lambda _: [other()])
        case ast.BinOp(op=operator) if type(operator) in OPERATORS:
            another = OPERATORS[type(operator)]
            yield f"{another.__name__} for {type(operator).__name__}", _with("op", lambda _: another())
        case ast.Constant(value=bool() as truth):
            yield f"{not truth} for {truth}", lambda node: ast.Constant(not truth)
        case ast.Constant(value=int() | float() as number):
            yield f"{number + 1} for {number}", lambda node: ast.Constant(number + 1)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "without the sign", lambda node: node.operand
        case ast.Call(func=ast.Name(id=name), args=[_, *_]) if name in UNWRAPPED:
            yield f"without {name}", lambda node: node.args[0]
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield f"{CALLS[name]} for {name}", _with("func", lambda _: ast.Name(CALLS[name], ast.Load()))
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in METHODS:
            replaced = METHODS[method]
            yield f"{replaced} for {method}", _with("func", lambda _: ast.Attribute(value, replaced, ast.Load()))


def _with(field: str, change: Callable[[ast.AST], object]) -> Change:
    def changed(node: ast.AST) -> ast.AST:
        setattr(node, field, change(getattr(node, field)))
        return node

    return changed


def _with_opposite_test(node: ast.If | ast.While | ast.IfExp) -> ast.AST:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _without_clause(index: int) -> Change:
    def changed(node: ast.BoolOp) -> ast.AST:
        rest = [value for place, value in enumerate(node.values) if place != index]
        return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    return changed


def _other_bool(node: ast.BoolOp) -> ast.boolop:
    return ast.And() if isinstance(node.op, ast.Or) else ast.Or()


# --- the code of it


class _Replace(ast.NodeTransformer):
    def __init__(self, place: tuple[object, ...], change: Change) -> None:
        self.place = place
        self.change = change

    def visit(self, node: ast.AST) -> ast.AST:
        if _place(node) == self.place:
            return ast.copy_location(self.change(node), node)
        return self.generic_visit(node)


def _place(node: ast.AST) -> tuple[object, ...]:
    ends = ("lineno", "col_offset", "end_lineno", "end_col_offset")
    return (type(node), *(getattr(node, end, None) for end in ends))


def code_of(module: CodeType, function: str) -> CodeType | None:
    """The code of a function in that of its module, by its qualified name."""
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == function:
                return constant
            if function.startswith(constant.co_qualname + "."):
                return code_of(constant, function)
    return None

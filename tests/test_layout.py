"""The house rules that no linter knows: who may import whom, what the core may touch, how big a file may grow.

A failure says what to do instead. A new module fails here until it has its row in :data:`MAY_IMPORT`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import cbw
from cbw import errors
from tests.syntax_trees import tree_of

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "cbw"

MAY_IMPORT = {
    "ground": "",
    "core": "",
    "wire": "core ground",
    "core.broker": "core wire ground",
    "core.client": "core",
    "core.worker": "core",
    "keys": "core ground",
    "transport": "core keys ground",
    "observe": "core wire keys transport ground",
    "contract": "core wire ground",
    "client": "core core.client wire keys transport observe contract ground",
    "worker": "core core.worker wire keys transport observe contract ground",
    "journal": "ground",
    "broker": "core core.broker transport observe journal ground",
    "logger": "core wire transport observe ground",
    "logs": "core logger ground",
    "tools": "core core.broker core.client core.worker wire keys transport observe contract client worker journal ground",
    "verify": "core transport observe contract client logs tools ground",
    "public": "core.broker observe contract client worker broker ground",
    "cli": "core core.broker wire keys transport observe client worker broker journal logger logs tools verify ground",
}
"""Which rooms each room may import from. Inside a room anything goes, but for circles."""

ROOM_OF = {
    **dict.fromkeys(("errors", "settings", "memory", "codec", "clock", "current", "signals", "visible"), "ground"),
    **dict.fromkeys(("addresses", "language", "service_links", "version"), "ground"),
    **dict.fromkeys(
        ("codecs", *(f"codecs.{name}" for name in ("arrow", "by_type", "interface", "msgpack", "npy"))), "ground"
    ),
    **dict.fromkeys(("local", "doctor", "journal_doctor", "testing", "bench"), "tools"),
    **dict.fromkeys(("broker", "desk", "standby"), "broker"),
    **dict.fromkeys(("cbw", "metrics"), "public"),
    "__main__": "cli",
}
"""The rooms of the modules that lie beside the folders; every other module is in the room that its folder is."""

PURE = {
    "__future__", "array", "bisect", "collections", "collections.abc", "dataclasses", "difflib", "enum", "functools", "hashlib",
    "heapq", "hmac", "itertools", "math", "msgspec", "operator", "typing",
}  # fmt: skip
"""All that the core may import from outside."""

INSTEAD = {
    "asyncio": "give the fact to the core and let the shell wait",
    "datetime": "take `now`, monotonic seconds, as a parameter",
    "logging": "append an events.Record to `records`; the shell writes it",
    "os": "take what you need as a parameter; the shell asks the system",
    "queue": "return a list; the shell hands it on",
    "random": "take the number as a parameter; the shell or the simulation draws it",
    "secrets": "take the number as a parameter; the shell draws it",
    "socket": "return an order; the shell sends",
    "threading": "the core runs in one thread; the shell locks",
    "time": "take `now`, monotonic seconds, as a parameter",
    "uuid": "take the id as a parameter; the shell makes it up",
    "zmq": "return an order; the shell sends",
}
"""What to do in the core instead of importing one of these."""

ONLY_IN = {
    "click": "cli",
    "rich": "cli",
    "docker": "verify",
    "requests": "verify",
    "PIL": "nowhere",
    "hypothesis": "nowhere",
    "pytest": "nowhere",
}
"""Where third-party packages may be imported; those not named here may be anywhere outside the core."""

MODULE_LINES_MAX = 500
"""Lines of a module, of tests too: a longer one holds more than one concept."""
FUNCTION_LINES_MAX = 60
"""Lines of a function, from its ``def`` to its end: more than a screen is not read at once."""

SHARED_NAMES = {
    "command": "each module of the command line has one, and main.py finds it by this name",
    "main": "__main__ is nothing but cli.main",
    "TRANSITIONS": "each core has a table of the states that can follow each other",
    "encode": "always written codec.encode, which makes a body, or native.encode, which makes frames",
    "serve": "always written metrics.serve; the handler of the workers of a verification, which the command line names",
    "CLIENT": "the settings of a client; its dialect in each module of wire",
    "WORKER": "the settings of a worker; its dialect in each module of wire",
}
"""Public names that several modules define, and why. Constants of one letter are type variables and are not meant."""

PUBLIC_UNDERSCORES = {"os._exit", "sys._current_frames"}
"""Documented attributes of the standard library that begin with an underscore."""

T = TypeVar("T")

VAGUE_NAMES = {"base", "common", "helper", "helpers", "misc", "tools", "util", "utils"}


def for_each(items: Iterable[T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """One test of a rule for all of them, which names each that breaks it: a test for each takes longer to report than to run."""

    def decorate(rule: Callable[[T], None]) -> Callable[[], None]:
        def test() -> None:
            broken = []
            for item in items:
                try:
                    rule(item)
                except AssertionError as error:
                    broken.append(str(error))
            assert not broken, "\n".join(broken)

        return test

    return decorate


def name_of(path: Path) -> str:
    """``core.broker`` for ``src/cbw/core/broker/core.py``."""
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return "cbw" if name == "__init__" else name.removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SRC.rglob("*.py"))}
CORE = {name: path for name, path in MODULES.items() if name.partition(".")[0] == "core"}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements in a node, at any depth. Expressions, which are most of a tree, are not looked into."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from statements(child)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """``(full module name, line)`` of everything that the file imports, inside functions too."""
    for node in statements(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                assert SRC not in path.parents, f"{path}:{node.lineno}: write the import in full: from cbw.… import …"
                continue
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix("cbw.") in MODULES else module, node.lineno


@cache
def own(path: Path) -> dict[str, int]:
    """The modules of cbw that the file imports, as the table writes them, and where."""
    found = {}
    for name, line in imported(path):
        if name == "cbw" or name.startswith("cbw."):
            found[name.removeprefix("cbw.")] = line
    return found


def room_of(name: str) -> str:
    """``core.broker`` for ``core.broker.requests``, ``tools`` for ``doctor``."""
    if name in ROOM_OF:
        return ROOM_OF[name]
    folder = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    assert folder in MAY_IMPORT, f"{name} lies in no room: put it into a folder, or into ROOM_OF"
    return folder


# --- who may import whom


@for_each(MODULES)
def test_imports_stay_within_what_the_room_may(name: str) -> None:
    room = room_of(name)
    allowed = {room, *MAY_IMPORT[room].split()}
    wrong = [f"line {line}: {other}" for other, line in own(MODULES[name]).items() if room_of(other) not in allowed]
    assert not wrong, f"{name} (room {room}) may not import {wrong}: move what it needs to a room below both"


def test_the_table_has_no_stale_rows() -> None:
    rooms = {room_of(name) for name in MODULES}
    assert rooms == MAY_IMPORT.keys(), f"rooms without modules: {sorted(MAY_IMPORT.keys() - rooms)}"
    used = {
        room: {room_of(other) for name in MODULES if room_of(name) == room for other in own(MODULES[name])}
        for room in rooms
    }
    unused = {
        room: sorted(set(row.split()) - used[room]) for room, row in MAY_IMPORT.items() if set(row.split()) - used[room]
    }
    assert not unused, f"nobody needs these permissions, take them away: {unused}"


def _no_circle(graph: dict[str, list[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, (
            f"a circle: {' -> '.join([*path[path.index(name) :], name])}; move what both need below"
        )
        if name not in done:
            for other in graph[name]:
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_no_rooms_and_no_modules_import_each_other_in_a_circle() -> None:
    _no_circle({room: row.split() for room, row in MAY_IMPORT.items()})
    _no_circle({name: list(own(path)) for name, path in MODULES.items()})


@for_each(MODULES)
def test_nobody_imports_the_command_line(name: str) -> None:
    if name == "__main__" or name.partition(".")[0] == "cli":
        return
    wrong = [other for other in own(MODULES[name]) if other.partition(".")[0] == "cli"]
    assert not wrong, f"{name} imports {wrong}: what the library needs of it belongs into the library"


@for_each(MODULES)
def test_third_party_packages_stay_where_they_belong(name: str) -> None:
    for module, line in imported(MODULES[name]):
        package = module.partition(".")[0]
        place = ONLY_IN.get(package)
        assert place in (None, name.partition(".")[0]), (
            f"{name}:{line} imports {package}, which belongs to {place} only"
        )


@for_each([name for name in MODULES if name.partition(".")[0] == "cli"])
def test_commands_print_through_one_module(name: str) -> None:
    if name in ("cli.output", "cli.tables"):
        return
    for node in ast.walk(tree_of(MODULES[name])):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        wrong = text in ("print", "click.echo", "click.secho", "click.style", "sys.stdout.buffer", "sys.stdout.write")
        assert not wrong, (
            f"{name}:{getattr(node, 'lineno', 0)} uses {text}: print with cbw.cli.output, which makes visible what peers say"
        )


# --- the core is pure


@for_each(CORE)
def test_the_core_imports_nothing_that_acts(name: str) -> None:
    for module, line in imported(CORE[name]):
        package = module.partition(".")[0]
        if package != "cbw" and module not in PURE:
            advice = INSTEAD.get(package, "pure modules only; if it is one, add it to PURE")
            raise AssertionError(f"{name}:{line} imports {module}: {advice}")


@for_each(CORE)
def test_the_core_neither_prints_nor_opens(name: str) -> None:
    for node in ast.walk(tree_of(CORE[name])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = node.func.id
            assert called not in ("print", "open", "input", "hash"), (
                f"{name}:{node.lineno} calls {called}(): return an order or a record, and key by something that repeats"
            )


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_set(node.left) or _is_set(node.right)
    is_called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return is_called or isinstance(node, ast.Set | ast.SetComp)


@for_each(CORE)
def test_the_core_loops_over_no_set(name: str) -> None:
    for node in ast.walk(tree_of(CORE[name])):
        if isinstance(node, ast.For | ast.comprehension):
            assert not _is_set(node.iter), (
                f"{name}:{node.iter.lineno} loops over a set, whose order differs from run to run and breaks replay by "
                "seed: use dict.fromkeys(…)"
            )


# --- sockets


@for_each(MODULES)
def test_only_transport_imports_zeromq(name: str) -> None:
    if room_of(name) == "transport":
        return
    for module, line in imported(MODULES[name]):
        assert module.partition(".")[0] != "zmq", (
            f"{name}:{line} imports zmq: only transport does, with the socket policy"
        )


# --- names and sizes


def test_names_say_what_is_in_a_file() -> None:
    folders = [SRC, ROOT / "tests", ROOT / "docs", ROOT / "examples", ROOT / "benchmarks"]
    files = [path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")]
    vague = [str(path) for path in files if {path.stem, *path.parts} & VAGUE_NAMES and "node_modules" not in path.parts]
    assert not vague, f"name these after the concept of the domain that they hold: {vague}"


PROGRAMS = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "docs", "examples", "supply")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)


@for_each(PROGRAMS)
def test_modules_and_functions_stay_short(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    lengths = [(name, len(path.read_text().splitlines()), MODULE_LINES_MAX)]
    for node in statements(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            lengths.append((f"{name}::{node.name}", lines, FUNCTION_LINES_MAX))
    for what, lines, limit in lengths:
        assert lines <= limit, f"{what} has {lines} lines, {limit} are allowed: give a part of it a name of its own"


@for_each(PROGRAMS)
def test_docstrings_stand_alone(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(text := node.value.value, str)
        ):
            needs_another = re.match(
                r"The same |So (many|long|often|late) |And |Also |Such |Likewise|As :|That of ", text
            )
            assert not needs_another, f"{path}:{node.lineno} needs the docstring before it: say what it speaks of"


# --- one name, one thing


def _defined(tree: ast.Module) -> Iterator[str]:
    """The public names that a module defines at its top level: classes, functions, constants."""
    for node in tree.body:
        names = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def _may_be_shared(name: str, modules: list[str]) -> bool:
    # Members of an enumeration in all but their type: they are always written catalogue.NAME.
    is_vocabulary = "core.catalogue" in modules
    # Modules of one shape name the same parts alike: native.CLIENT and lab.CLIENT, the events.Send of each core.
    are_dialects = all(room_of(module) == "wire" for module in modules)
    are_facts = all(re.fullmatch(r"core\.(\w+\.|log_)events", module) for module in modules)
    is_type_variable = len(name) == 1
    return is_vocabulary or are_dialects or are_facts or is_type_variable or name in SHARED_NAMES


def test_a_name_means_one_thing() -> None:
    modules: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for name in dict.fromkeys(_defined(tree_of(path))):
            modules.setdefault(name, []).append(module)
    twice = {name: found for name, found in modules.items() if len(found) > 1}
    shared = {name: found for name, found in twice.items() if not _may_be_shared(name, found)}
    assert not shared, f"these names mean several things, give each its own: {shared}"
    stale = sorted(SHARED_NAMES.keys() - twice.keys())
    assert not stale, f"these names mean one thing now, take them out of SHARED_NAMES: {stale}"


def _own_private_names(tree: ast.Module) -> set[str]:
    """The private attributes and methods of the classes that a module defines."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names.update(_defined_in_class(node))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def _defined_in_class(node: ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield part.name
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield part.target.id
        elif isinstance(part, ast.Assign):
            yield from (target.id for target in part.targets if isinstance(target, ast.Name))


def _is_self(node: ast.expr) -> bool:
    is_super = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super"
    return is_super or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


@for_each(MODULES)
def test_nobody_reaches_into_another_modules_objects(name: str) -> None:
    tree = tree_of(MODULES[name])
    own_names = _own_private_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            is_own = _is_self(node.value) or node.attr in own_names
            assert is_own or ast.unparse(node) in PUBLIC_UNDERSCORES, (
                f"{name}:{node.lineno} reaches into {ast.unparse(node)}: give its class a public method that does this"
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cbw"):
            private = [name for alias in node.names if (name := alias.name).startswith("_") and name != "__version__"]
            assert not private, f"{name}:{node.lineno} imports {private}: make public what another module needs"


# --- public names


def test_public_names_are_sorted_and_complete() -> None:
    names = cbw.__all__
    assert names == sorted(names), f"sort cbw.__all__: {sorted(names)}"
    assert len(names) == len(set(names)), "a public name twice"
    missing = [name for name in names if not hasattr(cbw, name)]
    assert not missing, f"cbw.__all__ promises {missing}, which are not there"
    given: set[str] = set()
    for node in ast.walk(tree_of(SRC / "__init__.py")):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cbw"):
            given |= {alias.asname or alias.name for alias in node.names}
    assert given <= set(names), f"imported by cbw/__init__.py, but not in cbw.__all__: {sorted(given - set(names))}"


def test_every_exception_that_a_user_can_meet_is_public() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CbwError)]
    hidden = [kind.__name__ for kind in kinds if kind is not errors.BadMessage and kind.__name__ not in cbw.__all__]
    assert not hidden, f"import these in cbw/__init__.py: {hidden}"


# --- tests of the core


def _tests_of_the_core() -> list[Path]:
    folders = [ROOT / "tests" / "unit" / "core", ROOT / "tests" / "sim"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@for_each(_tests_of_the_core())
def test_tests_of_the_core_do_not_sleep(path: Path) -> None:
    for module, line in imported(path):
        assert module not in ("zmq", "socket"), f"{path}:{line} imports {module}: give the core facts, read its orders"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called != "sleep", f"{path}:{node.lineno} sleeps: call the core again with a later `now`"

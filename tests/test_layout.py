"""The house rules that no linter knows: who may import whom, what the core may touch, how big a file may grow.

A failure says what to do instead. A new module fails here until it has its row in :data:`MAY_IMPORT`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import cbw
from cbw import errors

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "cbw"

MAY_IMPORT = {
    # known to all
    "errors": "",
    "settings": "errors",
    "codec": "",
    "clock": "",
    # decides: facts and the time in, orders out
    "core": "",
    "core.messages": "",
    "core.request": "",
    "core.events": "core.messages",
    "core.limits": "",
    "core.tables": "core.messages core.request",
    "core.dispatch": "core.request core.tables",
    "core.outbox": "core.events core.messages core.tables",
    "core.kept": "core.messages core.outbox core.tables",
    "core.backlog": "core.events",
    "core.connections": "",
    "core.clients": (
        "core.dispatch core.events core.kept core.limits core.messages core.outbox core.request core.tables"
    ),
    "core.hands": (
        "core.clients core.dispatch core.events core.limits core.messages core.outbox core.request core.tables"
    ),
    "core.plain_workers": (
        "core.dispatch core.events core.hands core.limits core.messages core.outbox core.request core.tables"
    ),
    "core.workers": (
        "core.clients core.dispatch core.events core.hands core.limits core.messages core.outbox core.plain_workers "
        "core.request core.tables"
    ),
    "core.latency": "",
    "core.overview": "core.broker core.latency core.tables",
    "core.broker": (
        "core.clients core.dispatch core.events core.latency core.limits core.messages "
        "core.outbox core.request core.tables core.workers"
    ),
    "core.hello": "core.messages",
    "core.client": "core.hello core.messages",
    "core.worker": "core.hello core.messages",
    "core.spool": "",
    "core.lines": "",
    "core.logger": "core.events core.lines",
    # bytes to messages and back
    "wire": "",
    "wire.native": "core.messages errors",
    "wire.plain": "core.messages errors",
    "wire.log": "core.limits core.lines errors",
    "wire.records": "core.events",
    # parts of the shells
    "fork": "",
    "signals": "",
    "place": "errors",
    "sleeper": "errors",
    "net": "core.connections errors fork place sleeper",
    "refusal": "core.limits core.messages errors",
    "sender": "clock core.events core.lines core.spool errors fork net sleeper wire.log wire.records",
    "vocabulary": "",
    "trace": "clock core.events errors sender settings vocabulary wire.records",
    "handler": "codec core.messages errors",
    "pool": "core.events core.messages handler",
    "processes": "core.messages errors handler pool signals trace",
    "session": "codec core.client core.events core.messages errors fork net refusal settings status trace wire.native",
    # the shells: one for each role
    "broker": (
        "core.backlog core.broker core.events core.messages core.overview errors net signals sleeper status trace "
        "wire.native wire.plain"
    ),
    "worker": (
        "core.events core.messages core.worker errors handler net pool processes refusal settings signals sleeper "
        "status trace wire.native"
    ),
    "client": "codec core.client core.messages errors fork session sleeper trace",
    "aio": "codec core.client core.messages session trace",
    # for users
    "cbw": "aio broker client core.limits errors handler log_handler trace worker",
    "testing": (
        "codec core.broker core.client core.events core.messages core.worker errors handler refusal session wire.native"
    ),
    # whole systems
    "metrics": "vocabulary",
    "status": "core.latency errors metrics",
    "logfile": "clock core.events errors",
    "logger": "clock core.lines core.logger errors logfile net settings sleeper status trace wire.log",
    "log_handler": "core.events errors refusal sender settings",
    "local": "errors settings signals trace",
    "bench": "client errors local settings",
    "logs": "",
    "logs.files": "errors logfile",
    "logs.times": "errors",
    "logs.search": "core.events errors logs.files",
    "logs.follow": "errors logfile logs.files",
    "logs.story": "core.events vocabulary",
    "logs.find": "core.events logs.files logs.search logs.story",
    "logs.stats": "core.events logs.files logs.search",
    "verify": "",
    "verify.verdict": "core.events",
    "verify.numbers": "",
    "verify.replies": "core.events verify.failover verify.numbers verify.verdict",
    "verify.idle": "clock core.events verify.verdict",
    "verify.failover": "core.events verify.verdict",
    "verify.restart": "core.events verify.numbers verify.verdict",
    "verify.checks": "core.events errors verify.failover verify.idle verify.replies verify.restart verify.verdict",
    "verify.handler": "core.events handler trace",
    "verify.caller": "client core.events errors session trace",
    "verify.traces": "core.events errors logs.files logs.search",
    "verify.notebook": "core.events errors trace",
    "verify.scenario": "core.events errors local verify.caller verify.handler verify.notebook verify.traces",
    "verify.evidence": "core.events",
    "verify.compose": "errors settings",
    "verify.printed": "verify.evidence",
    "verify.trials": (
        "client core.events errors trace verify.caller verify.compose verify.evidence verify.notebook verify.printed "
        "verify.restart"
    ),
    "doctor": "client core.messages errors net settings sleeper status trace wire.native",
    # the command line: imported by nobody
    "cli": "",
    "cli.main": "errors",
    "cli.signals": "signals",
    "cli.options": "errors place refusal settings status trace",
    "cli.broker": "broker cli.options core.broker settings signals",
    "cli.worker": "cli.options handler settings signals worker",
    "cli.client": "cli.options cli.signals client errors settings",
    "cli.doctor": "cli.options doctor settings",
    "cli.logger": "cli.options logger settings signals",
    "cli.logs": (
        "cli.options clock core.events errors logs.files logs.find logs.follow logs.search logs.stats logs.story logs.times "
        "settings trace vocabulary"
    ),
    "cli.call": "cli.options client errors settings",
    "cli.up": "cli.options local settings signals",
    "cli.bench": "bench cli.options cli.signals settings",
    "cli.verify": (
        "cli.options cli.signals errors settings verify.checks verify.compose verify.scenario verify.trials verify.verdict"
    ),
    "__main__": "cli.main",
}
"""Which modules of cbw each may import. ``cbw`` is the package's own ``__init__``."""

PURE = {
    "__future__", "bisect", "collections", "collections.abc", "dataclasses", "enum", "functools", "heapq", "itertools",
    "math", "msgspec", "operator", "typing",
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

LINES_MAX = 600
LARGE: dict[str, tuple[int, str]] = {}
"""Files over the limit: how far they may go, and why they are."""

VAGUE_NAMES = {"base", "common", "helper", "helpers", "misc", "tools", "util", "utils"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    """``core.broker`` for ``src/cbw/core/broker.py``."""
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return "cbw" if name == "__init__" else name.removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SRC.rglob("*.py"))}
CORE = {name: path for name, path in MODULES.items() if name.partition(".")[0] == "core"}


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """``(full module name, line)`` of everything that the file imports, inside functions too."""
    for node in ast.walk(tree_of(path)):
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


def own(path: Path) -> dict[str, int]:
    """The modules of cbw that the file imports, as the table writes them, and where."""
    found = {}
    for name, line in imported(path):
        if name == "cbw" or name.startswith("cbw."):
            found[name.removeprefix("cbw.")] = line
    return found


# --- who may import whom


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_in_the_table(name: str) -> None:
    assert name in MAY_IMPORT, (
        f"{name} has no row in MAY_IMPORT: write down what it may import, and think of who needs it"
    )
    allowed = MAY_IMPORT[name].split()
    wrong = [f"line {line}: {other}" for other, line in own(MODULES[name]).items() if other not in allowed]
    assert not wrong, f"{name} may not import {wrong}: move what it needs to a module below both, or change MAY_IMPORT"


def test_the_table_has_no_stale_rows() -> None:
    gone = MAY_IMPORT.keys() - MODULES.keys()
    assert not gone, f"no such modules any more, take them out of MAY_IMPORT: {sorted(gone)}"
    targets = {target for row in MAY_IMPORT.values() for target in row.split()}
    assert targets <= MAY_IMPORT.keys(), f"rows name modules that have none: {sorted(targets - MAY_IMPORT.keys())}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: dict[str, bool] = {}

    def visit(name: str, path: list[str]) -> None:
        if done.get(name):
            return
        assert name not in path, (
            f"a circle: {' -> '.join([*path[path.index(name) :], name])}; move what both need below"
        )
        for other in MAY_IMPORT[name].split():
            visit(other, [*path, name])
        done[name] = True

    for name in MAY_IMPORT:
        visit(name, [])


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_the_command_line(name: str) -> None:
    if name == "__main__" or name.partition(".")[0] == "cli":
        return
    wrong = [other for other in own(MODULES[name]) if other.partition(".")[0] == "cli"]
    assert not wrong, f"{name} imports {wrong}: what the library needs of it belongs into the library"


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_stay_where_they_belong(name: str) -> None:
    for module, line in imported(MODULES[name]):
        package = module.partition(".")[0]
        place = ONLY_IN.get(package)
        assert place in (None, name.partition(".")[0]), (
            f"{name}:{line} imports {package}, which belongs to {place} only"
        )


# --- the core is pure


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_nothing_that_acts(name: str) -> None:
    for module, line in imported(CORE[name]):
        package = module.partition(".")[0]
        if package != "cbw" and module not in PURE:
            advice = INSTEAD.get(package, "pure modules only; if it is one, add it to PURE")
            pytest.fail(f"{name}:{line} imports {module}: {advice}")
    assert all(other.startswith("core") for other in own(CORE[name])), f"{name} imports cbw outside of cbw.core"


@pytest.mark.parametrize("name", CORE)
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


@pytest.mark.parametrize("name", CORE)
def test_the_core_loops_over_no_set(name: str) -> None:
    for node in ast.walk(tree_of(CORE[name])):
        if isinstance(node, ast.For | ast.comprehension):
            assert not _is_set(node.iter), (
                f"{name}:{node.iter.lineno} loops over a set, whose order differs from run to run and breaks replay by "
                "seed: use dict.fromkeys(…)"
            )


# --- sockets


@pytest.mark.parametrize("name", MODULES)
def test_only_net_makes_zeromq_sockets(name: str) -> None:
    if name == "net":
        return
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "socket":
            pytest.fail(
                f"{name}:{node.lineno} makes a socket: net.Router and net.Link do, with the options of the policy"
            )


# --- names and sizes


def test_names_say_what_is_in_a_file() -> None:
    folders = [SRC, ROOT / "tests", ROOT / "docs", ROOT / "examples", ROOT / "benchmarks"]
    files = [path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")]
    vague = [str(path) for path in files if {path.stem, *path.parts} & VAGUE_NAMES and "node_modules" not in path.parts]
    assert not vague, f"name these after the concept of the domain that they hold: {vague}"


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_small(name: str) -> None:
    path = MODULES[name]
    lines = len(path.read_text().splitlines())
    key = path.relative_to(SRC).as_posix()
    limit, reason = LARGE.get(key, (LINES_MAX, ""))
    assert lines <= limit, f"{key} has {lines} lines, {limit} are allowed: split it by the table that it owns. {reason}"
    assert key not in LARGE or lines > LINES_MAX, f"{key} is small again: take it out of LARGE"


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


@pytest.mark.parametrize("path", _tests_of_the_core(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tests_of_the_core_do_not_sleep(path: Path) -> None:
    for module, line in imported(path):
        assert module not in ("zmq", "socket"), f"{path}:{line} imports {module}: give the core facts, read its orders"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called != "sleep", f"{path}:{node.lineno} sleeps: call the core again with a later `now`"

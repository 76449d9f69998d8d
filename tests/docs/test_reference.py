"""The reference pages say what the code says."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import cbw
from cbw import local, settings
from cbw.client import session
from cbw.core import messages
from cbw.core.broker import states
from cbw.core.broker.states import RequestState

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def rows_of(page: str, part: str) -> list[list[str]]:
    """The cells of the table between the markers of ``part``, without its head."""
    text = (DOCS / page).read_text()
    found = re.search(rf"<!-- begin: {part} -->\n(.*?)\n<!-- end: {part} -->", text, re.DOTALL)
    assert found, f"{page} has no part {part}"
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[1].split("\n")[2:]]


def test_generated_pages_are_fresh() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# --- wire.md, read back without the generator


def batch() -> list[type[messages.Message]]:
    kinds = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)]
    return [kind for kind in kinds if kind is not messages.Message]


def test_wire_names_every_message_with_its_tag_and_fields() -> None:
    rows = {row[1].strip("*"): row for row in rows_of("reference/wire.md", "messages")}
    assert rows.keys() == {kind.__name__ for kind in batch()}
    for kind in batch():
        fields = msgspec.structs.fields(kind)
        tag, _, _, written, _ = rows[kind.__name__]
        assert int(tag) == kind.__struct_config__.tag
        assert re.findall(r"(\w+):", written) == [field.name for field in fields]
        optional = [not field.required for field in fields]
        assert [("may be left out" in word) for word in written.split(", ") if written] == optional


def test_wire_says_who_may_send_what() -> None:
    directions = {
        "client → broker": messages.FromClient,
        "worker → broker": messages.FromWorker,
        "broker → client": messages.ToClient,
        "broker → worker": messages.ToWorker,
    }
    for row in rows_of("reference/wire.md", "messages"):
        kind = getattr(messages, row[1].strip("*"))
        for direction, vocabulary in directions.items():
            is_written = row[2] == "any" or direction in row[2].split(", ")
            assert is_written == (kind in vocabulary.__args__), f"{kind.__name__} {direction}"


def test_the_array_of_a_message_is_its_tag_and_then_its_fields() -> None:
    task = messages.Task(7, "resize", b"body", 1.5, 2, "C1/9", 3, {"a": "b"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(task)) == [
        40,
        7,
        "resize",
        b"body",
        1.5,
        2,
        "C1/9",
        3,
        {"a": "b"},
    ]


@pytest.mark.parametrize(("part", "kind"), [("statuses", messages.Status), ("refusals", messages.Refusal)])
def test_wire_lists_every_value(part: str, kind: Any) -> None:
    rows = rows_of("reference/wire.md", part)
    assert [(int(row[0]), row[1].strip("`")) for row in rows] == [(member.value, member.name) for member in kind]


# --- request-states.md


def test_the_diagram_shows_every_transition_and_no_other() -> None:
    text = (DOCS / "explanation" / "request-states.md").read_text()
    drawn = {
        (event, before, after)
        for before, after, events in re.findall(r"^ +(\w+) --> (\w+): (.+)$", text, re.MULTILINE)
        for event in events.split(", ")
    }
    table = {
        (event, before.name, after.name)
        for event, state_list in states.TRANSITIONS.items()
        for before, after in state_list.items()
    }
    assert drawn == table
    assert f"[*] --> {RequestState.WAITING.name}: accepted" in text


# --- one default for one setting


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def test_settings_and_library_have_the_same_defaults() -> None:
    broker = {one.name: one.default for one in settings.BROKER}
    limits = {field.name: field.default for field in msgspec.structs.fields(cbw.Limits)}
    library = limits | {name: defaults_of(cbw.Broker)[name] for name in ("listen", "grace_s", "allow_control")}
    assert library == broker, "cbw.settings.BROKER against Limits and Broker"
    of_services = ("retries", "backoff_s", "backoff_max_s", "time_limit_s")
    worker = {one.name: one.default for one in settings.WORKER if one.name not in ("work_time_s", *of_services)}
    service = defaults_of(cbw.Worker.add)
    default_of = {name: settings.default_of(settings.WORKER, name) for name in of_services}
    assert service["retries"] == default_of["retries"]
    assert service["time_limit_s"] == default_of["time_limit_s"]
    assert service["backoff_s"] == (default_of["backoff_s"], default_of["backoff_max_s"])
    given = defaults_of(cbw.Worker)
    assert {name: given[name] for name in worker} == worker, "cbw.settings.WORKER against Worker"
    assert settings.default_of(settings.CLIENT, "timeout_s") == session.TIMEOUT_S
    assert defaults_of(cbw.Client)["timeout"] == defaults_of(cbw.AsyncClient)["timeout"] == session.TIMEOUT_S


def test_ports_have_one_default() -> None:
    ports = (settings.CLIENT_PORT, settings.WORKER_PORT)
    given = defaults_of(cbw.Broker)
    assert (given["client_port"], given["worker_port"]) == ports
    options = local.Options()
    assert (options.client_port, options.worker_port) == ports


def test_environment_names_follow_one_scheme() -> None:
    for role, table in (("BROKER", settings.BROKER), ("WORKER", settings.WORKER), ("CLIENT", settings.CLIENT)):
        for one in table:
            assert one.environment == f"CBW_{role}_{one.name.upper()}"
            assert one.help.endswith("."), one.name


# --- all pages


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), f"{path.name} links to {target}, which is not there"
        if anchor and other.suffix == ".md":
            assert anchor in anchors_of(other), f"{path.name} links to {target}: {sorted(anchors_of(other))}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tests_and_targets_that_pages_name_exist(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(r"\btests/[\w/]+\.py", text):
        assert (ROOT / name).is_file(), f"{path.name} names {name}, which is not there"
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"`make (\w+)", text) + re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert name in targets, f"{path.name} names `make {name}`, which the Makefile has not"
    for name in re.findall(r"--[a-z][a-z-]+", text):
        assert path.parent.name != "reference" or path.name == "cli.md" or name in known_options(), f"{path}: {name}"


def known_options() -> set[str]:
    """Every option that ``cli.md``, which is written from the code, lists."""
    return set(re.findall(r"`(--[a-z][a-z-]+)`", (DOCS / "reference" / "cli.md").read_text())) | {"--check", "--help"}

"""What ``cbw top`` shows, and what its keys ask of the broker."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from cbw.cli.control import story_lines
from cbw.cli.top_view import TopView
from cbw.core.broker import acts, looks
from tests.unit.core.broker.control import Control
from tests.unit.core.broker.system import CoreSystem


@pytest.fixture
def system() -> CoreSystem:
    made = CoreSystem()
    made.client("C1")
    made.client("ADMIN")
    for name in ("W1", "W2", "W3"):
        made.worker(name)
    made.ask(1, 2, 3, 4, 5)
    made.wait(1.0, "W1", "W2", "W3")
    return made


def looked(system: CoreSystem, view: TopView | None = None) -> TopView:
    view = view or TopView()
    control = Control(system)
    view.look(control.ask(looks.SHOW_STATUS), control.ask(looks.LIST_REQUESTS)["requests"], system.now)
    return view


def texts(view: TopView, width: int = 80, height: int = 24) -> list[str]:
    return [text.rstrip() for _, text in view.lines(width, height)]


def test_it_begins_with_a_verdict_and_shows_workers_with_their_rates(system: CoreSystem) -> None:
    view = looked(system)
    lines = texts(view)
    assert lines[0].startswith("2 waiting  3 running  0 delayed  3 workers  2 clients")
    assert lines[1] == "2 wait for s, all 3 workers are busy: add workers."
    assert lines[3].split() == ["WORKER^", "STATE", "HAND", "RATE", "P50", "P99", "FAILED", "AT"]
    assert lines[4].split() == ["W1", "busy", "1", "0.0/s", "0", "1.0", "s", "C1/1"]
    system.answer_all("W1")
    system.wait(1.0, "W1", "W2", "W3")
    assert texts(looked(system, view))[4].split()[:8] == ["W1", "busy", "1", "0.5/s", "1.0", "s", "1.0", "s"]
    view.key("tab")
    view.key("tab")
    lines = texts(view)
    assert lines[3].split() == ["SERVICE", "WAITINGv", "OLDEST", "RUN", "WORKERS", "RATE", "P50", "P99", "STATE"]
    assert lines[4].split() == ["s", "1", "2.0", "s", "3", "3", "0.5/s", "1.0", "s", "1.0", "s"]


def test_looks_are_no_requests_that_workers_answer(system: CoreSystem) -> None:
    """A broker with nothing to do is not shown at two a second, which are the questions of ``cbw top`` itself."""
    view = looked(system)
    system.answer_all("W1")
    system.wait(1.0, "W1", "W2", "W3")
    assert texts(looked(system, view))[0].split("  ")[5] == "1.0/s"
    system.wait(1.0, "W1", "W2", "W3")
    assert texts(looked(system, view))[0].split("  ")[5] == "0.0/s"


def test_a_wide_terminal_shows_more_columns(system: CoreSystem) -> None:
    """Whole ones only, and at 80 cells nothing is cut off."""
    view = looked(system)
    view.key("tab")
    view.key("tab")
    lines = texts(view, 100)
    assert lines[3].split()[-3:] == ["STATE", "FAILED", "SINCE"] and lines[4].split()[-3:] == ["0", "1.0", "s"]
    assert "DELAYED" in texts(view, 105)[3]
    assert not any("…" in text for text in texts(view))
    for _ in range(20):
        view.key(">")
        assert any(mark in texts(view)[3] for mark in "v^"), "it is sorted by a column that is shown"


def test_figures_of_all_sizes_fit_their_columns(system: CoreSystem) -> None:
    control, view = Control(system), TopView()
    status = control.ask(looks.SHOW_STATUS)
    figures = {
        "rate": 12345.6,
        "p50_s": 0.0123456,
        "p99_s": 99.96,
        "age_s": 86399.0,
        "failed": 123456,
        "waiting": 123456,
    }
    for row in (*status["services"], *status["workers"]):
        row.update(figures, oldest_s=86399.0, running=1000)
    view.look(status, [], system.now)
    for _ in range(3):
        assert not any("…" in text for text in texts(view, 105)[3:])
        view.key("tab")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 8), (200, 60), (20, 3)])
def test_it_fits_the_terminal(system: CoreSystem, width: int, height: int) -> None:
    system.worker("漢字" * 30, services=("s", "x" * 300))
    view = looked(system)
    for _ in range(3):
        view.message = "a long story " * 20
        lines = view.lines(width, height)
        assert all(cell_len(text) <= width for _, text in lines)
        assert len(lines) <= max(height, 10)
        view.key("tab")


def test_keys_choose_and_act(system: CoreSystem) -> None:
    view = looked(system)
    assert view.key("d") == (acts.DRAIN, {"workers": ["W1"]})
    view.key("down")
    view.key("down")
    assert view.key("u") == (acts.UNDRAIN, {"workers": ["W3"]})
    for _ in range(5):
        view.key("up")
    assert view.key("d") == (acts.DRAIN, {"workers": ["W1"]})
    assert view.key("c") is None  # not of workers
    view.key("tab")
    asked = view.key("w")
    assert asked is not None and asked[0] == looks.TELL_WHY and asked[1]["request"].startswith("C1/")
    asked = view.key("c")
    assert asked is not None and asked[0] == acts.CANCEL
    view.key("tab")
    assert view.key("p") == (acts.PAUSE, {"services": ["s"]})
    assert view.key("r") == (acts.RESUME, {"services": ["s"]})
    view.key("tab")
    view.key("q")
    assert view.is_over


def test_a_story_takes_the_screen_until_a_key_is_pressed(system: CoreSystem) -> None:
    view = looked(system)
    assert view.key("s") is None and view.story_of == "C1/1", "what the chosen worker is at"
    system.lose_worker("W1")
    told = Control(system).ask(looks.TELL_WHY, request="C1/1")
    view.tell(told["text"], story_lines(told))
    lines = texts(looked(system, view))
    assert lines[1] == "The story of C1/1"
    assert lines[2].startswith("waits for service s")
    steps = [line for line in lines if " ago  " in line]
    assert [step.split("ago  ")[1] for step in steps] == [
        "accepted",
        "handed out W1",
        "attempt failed W1: lost its connection",
    ]
    assert len(lines) == 24 and lines[-1] == "any key goes back"
    view.tell("it has ended")
    assert [line for line in texts(view) if " ago  " in line] == steps, "what is known stays"
    view.key("q")
    assert not view.is_over and view.story_of == ""
    view.key("tab")
    view.key("s")
    assert view.story_of.startswith("C1/")
    view.key("x")
    view.key("tab")
    view.key("s")
    assert view.story_of == "", "a service has no story"


def test_a_long_story_fits_the_terminal_and_shows_its_end(system: CoreSystem) -> None:
    view = looked(system)
    view.key("s")
    view.tell("why " * 50, [f"step {number} {'漢' * 60}" for number in range(40)])
    for width, height in ((80, 24), (40, 8), (20, 3)):
        lines = view.lines(width, height)
        assert all(cell_len(text) <= width for _, text in lines)
        assert len(lines) <= max(height, 10)
    assert any("step 39" in text for text in texts(view))


def test_an_idle_worker_has_no_story(system: CoreSystem) -> None:
    system.worker("IDLE", services=("other",))
    view = looked(system)
    view.key("s")
    assert view.story_of == "" and view.message == "IDLE is at no request"


def test_the_chosen_row_stays_in_sight_and_is_kept_when_others_come(system: CoreSystem) -> None:
    for number in range(40):
        system.worker(f"X{number:02}", services=("other",))
    view = looked(system)
    for _ in range(30):
        view.key("down")
    (chosen,) = [text for style, text in view.lines(80, 24) if style == "reverse"]
    system.worker("A", services=("other",))
    (again,) = [text for style, text in looked(system, view).lines(80, 24) if style == "reverse"]
    assert chosen.split()[0] == again.split()[0] == "X27"


def test_columns_sort(system: CoreSystem) -> None:
    view = looked(system)
    view.key("v")
    assert texts(view)[4].startswith("W3")
    view.key(">")
    assert "STATEv" in texts(view)[3] and "WORKER " in texts(view)[3]
    view.key("<")
    view.key("<")
    assert "ATv" in texts(view)[3]  # those with nothing come last


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ({}, "All is well: nothing to do for 1 worker."),
        ({"ask": ["s"]}, "All is well: 1 running, nothing waits."),
        ({"ask": ["s", "s"]}, "1 waits for s, its only worker is busy: add workers."),
        ({"ask": ["echos"]}, "1 waits for echos, which nobody serves; similar: echo."),
        ({"ask": ["", "s", "s"]}, "1 waits for the nameless service, which nobody serves."),
        ({"pause": ["s"], "ask": ["s"]}, "1 waits for s, which is paused: resume it."),
        (
            {"drain": ["W1"], "ask": ["s"]},
            "1 waits for s, and nobody of 1 takes more: undrain a worker, or start another.",
        ),
    ],
)
def test_verdicts(prepare: dict[str, Any], said: str) -> None:
    system = CoreSystem()
    system.client("C1")
    system.client("ADMIN")
    assert texts(looked(system))[1] == "Nobody is here yet: start a worker."
    system.worker("W1", services=("s", "echo"))
    control = Control(system)
    if "pause" in prepare:
        control.ask(acts.PAUSE, services=prepare["pause"])
    if "drain" in prepare:
        control.ask(acts.DRAIN, workers=prepare["drain"])
    for number, service in enumerate(prepare.get("ask", ()), 1):
        system.ask(number, service=service)
    assert texts(looked(system))[1] == said

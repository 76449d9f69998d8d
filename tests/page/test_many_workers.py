"""The page of a broker with more workers than its pictures have room for: what matters is in them all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.live.conftest import HOST, Connect, Start
from tests.live.program import wait_until

from .browser import Browser
from .conftest import Shown, handler, shown, worker

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("page")]
IDLE = 47
RED_IN_ROW = """
const canvas = document.getElementById('stream'), known = new Map(seen.status.workers.map(w => [w.worker, w]));
const row = chosen(seen.rows.stream, known, losses(seen), ROWS_MAX).indexOf(arguments[0]);
if (row < 0) return -1;
const left = Math.min(150, canvas.clientWidth*0.3), scale = devicePixelRatio;
const d = canvas.getContext('2d').getImageData(left*scale, (row*18 + 3)*scale, canvas.width - left*scale, 14*scale).data;
let n = 0;
for (let i = 0; i < d.length; i += 4) n += d[i] > 190 && d[i+1] < 150 && d[i+2] < 150 && d[i] > d[i+1] + 60;
return n"""
COLOURED = """
const canvas = document.getElementById('stream'), rows = new Set();
const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
const wanted = [1, 3, 5].map(n => parseInt(colour(arguments[0]).slice(n, n + 2), 16));
for (let i = 0; i < d.length; i += 4) {
  if (wanted.every((c, n) => d[i + n] === c)) rows.add(Math.floor((i/4/canvas.width/devicePixelRatio - 3)/18));
}
return rows.size"""
CROWD = """
const live = structuredClone(seen), status = live.status, worker = status.workers[0], service = status.services[0];
const busy = n => n % 2 ? {in_hand: 1, at: 'C1/' + n, at_service: 's' + n % 20} : {in_hand: 0, at: null};
const many = (n, one) => Array.from({length: n}, (_, number) => one(number));
status.workers = many(1000, n => ({...worker, worker: 'W' + n, services: ['s' + n % 20], ...busy(n)}));
status.services = many(120, n => ({...service, service: 's' + n, waiting: n > 100 ? 1 : 0}));
Object.assign(status, {worker_count: 1002, dead_letters: 70, clients: 500});
Object.assign(live, {rows: {stream: ['W777'], map: ['W777']}, dead: []});
look = async () => {}; seen = live; show(live)"""
"""A look at a system that we do not have: 1002 workers, 500 of them busy, and 120 services."""


class Plain:
    """REQ workers as in the lab, each a socket of the test's own."""

    def __init__(self, context: zmq.Context[Any], at: Shown, count: int) -> None:
        self.sockets: list[zmq.Socket[Any]] = []
        for _ in range(count):
            one = context.socket(zmq.REQ)
            one.setsockopt(zmq.LINGER, 0)
            one.connect(f"tcp://{HOST}:{at.broker.worker_port}")
            one.send(b"READY")
            self.sockets.append(one)
        at.broker.program.wait_for("worker ready", count=count)

    def receive(self) -> tuple[zmq.Socket[Any], list[bytes]]:
        """The next task, and the worker that has it."""
        found: list[zmq.Socket[Any]] = []

        def has_come() -> bool:
            found.extend(one for one in self.sockets if one.poll(0))
            return bool(found)

        wait_until(has_come, "a task")
        return found[0], found[0].recv_multipart()


def in_map(browser: Browser, selector: str, text: str) -> None:
    """Wait until a node of the picture "who serves whom" says this."""
    script = "return [...document.querySelectorAll(`#map g${arguments[0]} text`)].map(e => e.textContent)"
    wait_until(lambda: any(text in told for told in browser.run(script, selector)), f"{text!r} in #map {selector}")


@pytest.fixture
def many(start: Start) -> Iterator[tuple[Shown, Plain]]:
    """A broker with 47 idle workers of the lab."""
    at = shown(start, "--attempts-max", 3, "--answer-timeout", 1)
    context: zmq.Context[Any] = zmq.Context()
    yield at, Plain(context, at, IDLE)
    context.destroy(linger=0)


def test_busy_late_comers_and_lost_and_late_workers_are_in_both_pictures(
    many: tuple[Shown, Plain], start: Start, connect: Connect, browser: Browser, axe: str, tmp_path: Path
) -> None:
    at, plain = many
    busy = [worker(start, at, name, handler("render", "hang")) for name in ("B1", "B2")]
    client = connect(at.broker, id="C1")
    for _ in busy:
        client.submit("60", "render")
    browser.size(1280, 900, is_dark=False)
    browser.open(at.url)
    wait_until(lambda: browser.run("return document.querySelectorAll('#map .busy').length") == 2, "two busy nodes")
    wait_until(lambda: browser.run(COLOURED, "render") == 2, "two coloured rows")
    assert browser.run("return document.querySelectorAll('#map circle').length") == 4, "two requests travel"
    in_map(browser, "", "35 more workers")
    browser.wait_for("#rest", "and 9 more for (nameless): 0 busy, 9 idle")
    label = browser.run("return document.getElementById('stream').getAttribute('aria-label')")
    assert label == "49 workers, 2 of them at work, 47 idle; 9 more workers"

    worker(start, at, "constructor", handler("render", "hang"))  # a name that every object of JavaScript knows
    killed = "B1"
    busy[0].kill()
    in_map(browser, ".lost", killed)
    in_map(browser, ".busy", "constructor ← C1/")
    wait_until(lambda: browser.run(RED_IN_ROW, killed) > 10, "the lost worker is red")

    client.submit("late")
    first, (name, *_) = plain.receive()
    second, (other, *_, body) = plain.receive()
    assert first is not second and body == b"late", "it was given up, and goes to another"
    second.send_multipart([other, b"", b"done"])
    first.send_multipart([name, b"", b"done"])
    at.broker.program.wait_for("fenced")
    wait_until(lambda: browser.run("return seen.events.some(e => e.event === 'fenced')"), "the page knows")
    late = browser.run("return seen.events.find(e => e.event === 'fenced').worker")
    wait_until(lambda: browser.run(RED_IN_ROW, late) > 10, "the late answer is hatched")
    assert [told for told in browser.complaints() if "willReadFrequently" not in told] == []  # that is about this test
    for width, height, is_dark in ((1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)):
        browser.size(width, height, is_dark=is_dark)
        browser.run("show(seen)")
        assert browser.run("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        browser.run(axe)
        found = browser.run_async("axe.run().then(arguments[arguments.length - 1])")
        assert [one["id"] for one in found["violations"]] == []
        browser.picture(tmp_path / f"many-{width}-{'dark' if is_dark else 'light'}.png")


def test_a_crowd_fits_on_the_page_and_is_filtered(
    open_broker: Shown, start: Start, browser: Browser, axe: str, tmp_path: Path
) -> None:
    worker(start, open_broker, "W0", handler("s0", "echo"))
    browser.size(1280, 900, is_dark=False)
    browser.open(open_broker.url)
    browser.run("sessionStorage.clear()")
    browser.wait_for("#workers", "W0")
    browser.run(CROWD)

    def first_cells(table: str) -> list[str]:
        script = "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(r => r.cells[0].textContent)"
        found: list[str] = browser.run(script, table)
        return found

    workers, services = first_cells("workers"), first_cells("services")
    assert len(workers) == 50 and workers[:2] == ["W0", "W1"] and workers[-1] == "W777"
    assert len(services) == 50 and services[-1] == "s119", "services with something to do come before others"
    assert (
        browser.text("#workers-left") == "Shown: 50 of 1002." and browser.text("#services-left") == "Shown: 50 of 120."
    )
    assert browser.text("#clients-left") == "Shown: 0 of 500." and browser.text("#dead-left") == "Shown: 0 of 70."
    lines = browser.text("#rest").splitlines()
    assert lines[0].startswith("and 49 more for s19: 49 busy, 0 idle") and len(lines) == 10
    assert lines[-2] == "and 575 more for other services: 95 busy, 480 idle"
    assert lines[-1] == "and 2 more, of which this page knows only the number"
    in_map(browser, ".more", "988 more workers, 493 busy")
    assert browser.run("return document.documentElement.scrollHeight") < 6000
    browser.picture(tmp_path / "crowd.png")

    browser.run("document.getElementById('filter').focus()")
    browser.keys("w99")
    browser.wait_for("#found", "Found: 11 of 1002 workers, 0 of 120 services")
    assert first_cells("workers") == ["W99", *(f"W{number}" for number in range(990, 1000))]
    assert browser.text("#workers-left") == "" and browser.run("return document.activeElement.id") == "filter"
    browser.run(axe)
    found = browser.run_async("axe.run().then(arguments[arguments.length - 1])")
    assert [one["id"] for one in found["violations"]] == []
    browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")
    browser.wait_for("#found", "Encontrados: 11 de 1002 trabajadores, 0 de 120 servicios")
    browser.wait_for("#rest", "y 49 más para s19; ocupados: 49, libres: 0")
    browser.keys("\ue00c")  # Escape
    browser.wait_for("#workers-left", "Se muestran 50 de 1002.")
    assert browser.text("#found") == ""
    browser.run("sessionStorage.clear()")

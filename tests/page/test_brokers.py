"""What the page of a broker shows of its journal, of those that stand by for it, and of workers that serve other brokers too."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import Connect, Start, broker_of
from tests.live.program import wait_until
from tests.nats_server import NatsServer
from tests.ports import free_port

from .browser import Browser
from .conftest import Shown, handler, shown

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("page")]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server for journals."""
    with NatsServer(tmp_path) as running:
        yield running


def lines(browser: Browser) -> list[str]:
    """What stands in the section on journal, log and brokers."""
    found: list[str] = browser.run("return [...document.querySelectorAll('#brokers li')].map(e => e.textContent)")
    return found


def in_spanish(browser: Browser) -> None:
    browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")


def check_with_axe(browser: Browser, axe: str) -> None:
    browser.run(axe)
    found = browser.run_async("axe.run().then(arguments[arguments.length - 1])")
    assert [f"{one['id']}: {[node['html'] for node in one['nodes']][:3]}" for one in found["violations"]] == []


def test_a_broker_without_a_journal_says_so(open_broker: Shown, browser: Browser) -> None:
    browser.open(open_broker.url)
    browser.wait_for("#brokers", "is lost, no other broker goes on with its requests.")
    assert "No journal: what waits is lost with the broker." in lines(browser)
    assert "No worker serves another broker too." in lines(browser)
    assert browser.run("return document.querySelectorAll('#map .others').length") == 0
    browser.wait_for("#events", "None.")


def test_a_journal_in_a_folder_is_named(start: Start, browser: Browser, tmp_path: Path) -> None:
    at = shown(start, "--journal", tmp_path / "journal")
    browser.open(at.url)
    browser.wait_for("#brokers", f"Journal: {tmp_path}/journal, ")
    assert any("no other broker goes on" in line for line in lines(browser))


def test_workers_that_two_brokers_share(start: Start, connect: Connect, browser: Browser) -> None:
    """Each page says so, and the one whose broker has none of their slots does not take them for leaving."""
    one, other = shown(start), shown(start)
    ports = ",".join(f"127.0.0.1:{at.broker.worker_port}" for at in (one, other))
    for name in ("W1", "W2"):
        start("worker", name, ports, "--handler", handler("s", "hang"))
        for at in (one, other):
            at.broker.program.wait_for("worker ready", f"worker {name}")
    start("worker", "W3", "127.0.0.1", one.broker.worker_port, "--handler", handler("t", "echo"))
    one.broker.program.wait_for("worker ready", "worker W3")
    client = connect(other.broker, id="C1")
    for _ in range(2):
        client.submit("30", "s")
    browser.size(1280, 900, is_dark=False)
    browser.open(one.url)
    browser.wait_for("#brokers", "Workers that serve other brokers too: 2 of 3.")
    browser.wait_for("#workers", "elsewhere")
    wait_until(lambda: browser.text("#workers").count("elsewhere") == 2, "both are with the other broker")
    wait_until(lambda: browser.run("return document.querySelectorAll('#map .elsewhere').length") == 2, "in the picture")
    assert "W1 \u2190 other brokers" in browser.run("return document.getElementById('map').textContent")
    assert browser.run("return document.querySelector('#map .others').textContent") == "other brokers"
    ends = browser.run(
        "const y = e => e.getAttribute('y1'); const lines = [...document.querySelectorAll('#map .elsewhere line')];"
        "return [lines.map(y), y(document.querySelector('#map g:not(.elsewhere) line'))]"
    )
    assert len(set(ends[0])) == 1 and ends[0][0] != ends[1], "their lines come from the box of the others"
    connect(one.broker, id="C2").submit("30", "s")
    browser.wait_for("#verdict", "1 waits for «s», all 2 workers are with other brokers: add workers.")
    browser.wait_for("#waiting", "other brokers have all slots of its workers (2)")
    in_spanish(browser)
    browser.wait_for("#verdict", "1 en espera de «s», con sus 2 trabajadores en otros brókeres: añade trabajadores.")
    browser.wait_for("#brokers", "Trabajadores que atienden también a otros brókeres: 2 de 3.")
    browser.wait_for("#workers", "prestado")
    browser.run("sessionStorage.clear()")
    browser.open(other.url)
    browser.wait_for("#brokers", "Workers that serve other brokers too: 2 of 2.")
    browser.wait_for("#verdict", "All is well: 2 running")
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [1280, 390])
def test_an_owner_and_its_standby(start: Start, nats: NatsServer, browser: Browser, axe: str, width: int) -> None:
    journal = f"nats://{nats.address}/shop"
    owner = shown(start, "--journal", journal)
    browser.size(width, 844, is_dark=width == 390)
    browser.open(owner.url)
    browser.wait_for("#brokers", f"owns the journal shop on the NATS servers {nats.address}; epoch 1.")
    browser.wait_for("#brokers", "Nobody stands by: if this broker is lost")
    ports = owner.broker.client_port, owner.broker.worker_port
    status_port = free_port()
    standby = start("broker", *ports, "--status-port", status_port, "--journal", journal)
    standby.wait_for("stands by")
    browser.wait_for("#brokers", "Standing by: BRO_")
    check_with_axe(browser, axe)
    browser.open(f"http://127.0.0.1:{status_port}/")
    browser.wait_for("#verdict", "has the journal shop.")
    assert " stands by: BRO_" in browser.text("#verdict")
    assert browser.run("return document.getElementById('verdict').className") == "good"
    (line,) = lines(browser)
    assert line.startswith(f"It waits for the journal shop on the NATS servers {nats.address}, and binds no port")
    shown_parts = browser.run(
        "return [...document.querySelectorAll('main > *')].filter(e => e.getClientRects().length).map(e => e.id)"
    )
    assert shown_parts == ["verdict", "s-brokers"], "nothing that a broker without workers cannot have"
    assert browser.run("return document.documentElement.scrollWidth") <= width
    check_with_axe(browser, axe)
    in_spanish(browser)
    browser.wait_for("#verdict", "está en reserva: BRO_")
    browser.wait_for("#brokers", "Espera el diario shop, en los servidores NATS")
    browser.run("sessionStorage.clear()")
    with urllib.request.urlopen(f"http://127.0.0.1:{status_port}/status.json", timeout=10) as answer:
        status = json.load(answer)
    assert (status["role"], status["ready"], status["journal"]["name"]) == ("standby", False, "shop")
    assert status["journal"]["owner"].startswith("BRO_")
    assert browser.complaints() == []
    owner.broker.program.kill()
    broker_of(standby)
    browser.open(f"http://127.0.0.1:{status_port}/")
    browser.wait_for("#brokers", "owns the journal shop")
    browser.wait_for("#verdict", "Nobody is here yet")
    browser.complaints()  # of the moment in which it had no services to be asked


def test_a_broker_that_stands_by_for_two(start: Start, nats: NatsServer, browser: Browser) -> None:
    journals = f"nats://{nats.address}/shop,shop-2"
    for _ in range(2):
        broker_of(start("broker", 0, 0, "--status-port", 0, "--journal", journals))
    status_port = free_port()
    start("broker", 0, 0, "--status-port", status_port, "--journal", journals)
    browser.open(f"http://127.0.0.1:{status_port}/")
    browser.wait_for("#verdict", "has the journal shop.")
    browser.wait_for("#verdict", "has the journal shop-2.")
    waits_for = [line.partition(" on the NATS servers ")[0] for line in lines(browser)]
    assert waits_for == ["It waits for the journal shop", "It waits for the journal shop-2"]
    assert browser.run("return document.getElementById('verdict').className") == "good"
    assert browser.complaints() == []

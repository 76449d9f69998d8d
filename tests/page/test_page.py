"""The page of a broker as people see it: planted failures are found on it, and mended from it."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
import zmq

import cbw
from cbw.broker import NOTABLE
from cbw.core import catalogue
from cbw.core.broker.reasons import REASONS
from cbw.core.broker.snapshot import state_of
from cbw.core.broker.verdict import SENTENCES
from tests.live.conftest import Connect, Start
from tests.live.program import PATIENCE_S, wait_until

from .browser import Browser
from .conftest import TOKEN, Shown, handler, worker

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("page")]
HOSTILE = "<img src=x onerror=alert(1)>"


def press(browser: Browser, name: str, about: str) -> None:
    """Click on the button that is called so, of that row."""
    selector = f'button[aria-label="{name} {about}"]'
    wait_until(lambda: bool(browser.run("return !!document.querySelector(arguments[0])", selector)), selector)
    browser.run("document.querySelector(arguments[0]).click()", selector)


def log_in(browser: Browser) -> None:
    browser.wait_for("#told", "wants a token")
    browser.keys(TOKEN + "\ue007")  # Enter: the field has the focus
    browser.wait_for("#verdict", "")


@pytest.fixture
def planted(open_broker: Shown, start: Start, connect: Connect) -> Shown:
    """A full queue, a typo in a service, a lost worker whose request was given up, and names that mean harm."""
    for name in ("W1", HOSTILE):
        worker(start, open_broker, name, handler("render", "hang"))
    doomed = worker(start, open_broker, "W-lost", handler("doom", "hang"))
    worker(start, open_broker, "quick", handler("echo", "echo"))
    client = connect(open_broker.broker, id=HOSTILE)
    for _ in range(5):
        client.submit("30", "render")
    client.submit("30", "doom")
    client.submit("1", "ecko")
    client.call("hello", "echo")
    wait_until(lambda: b"doom" in status(open_broker), "it is there")
    doomed.kill()
    open_broker.broker.program.wait_for("gave up")
    return open_broker


def status(at: Shown) -> bytes:
    with urllib.request.urlopen(at.url + "status.json", timeout=10) as answer:
        found: bytes = answer.read()
        return found


def test_planted_failures_are_seen(planted: Shown, browser: Browser) -> None:
    browser.size(1280, 900, is_dark=False)
    browser.open(planted.url)
    browser.wait_for("#verdict", "1 waits for «ecko», which nobody serves; similar: echo.")
    browser.wait_for("#services", "nobody serves it")
    browser.wait_for("#waiting", f"{HOSTILE}/3")
    browser.wait_for("#running", f"{HOSTILE}/1")
    browser.wait_for("#dead", "1 worker failed at it; the last was W-lost")
    browser.wait_for("#events", "worker lost")
    browser.wait_for("#clients", HOSTILE)
    browser.wait_for("#workers", "W1")
    assert browser.run("return document.querySelectorAll('img, main script').length") == 0
    label = browser.run("return document.getElementById('stream').getAttribute('aria-label')")
    assert label == "3 workers, 2 of them at work, 1 idle"
    red = browser.run(
        "const c = document.getElementById('stream'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] === 211 && d[i+1] === 47; return n"
    )
    assert red > 10, "the lost worker is not red"
    assert browser.run("return document.querySelectorAll('#map .busy').length") == 2
    assert browser.complaints() == []


def reason(browser: Browser, table: str, request: str) -> str:
    """What the row of that request says of why it has not ended."""
    rows = browser.run(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(r => [...r.cells].map(c => c.textContent))",
        table,
    )
    return next((row[1] for row in rows if row[0] == request), "")


def test_each_row_says_why(guarded: Shown, start: Start, connect: Connect, browser: Browser) -> None:
    """A typo in a service, a busy pool, a paused service, in both languages; what peers named is text and nothing else."""
    for name in ("W1", "W2"):
        worker(start, guarded, name, handler("render", "hang"), handler(HOSTILE, "hang"))
    worker(start, guarded, "W3", handler("held", "echo"))
    client = connect(guarded.broker, id=HOSTILE)
    for service in ("render", "render", "render", "rendr", "held", HOSTILE, HOSTILE + "x"):
        if service == "held":
            ask = urllib.request.Request(guarded.url + "control/cbw.pause", b'{"services": ["held"]}')
            ask.add_header("Content-Type", "application/json")
            ask.add_header("Authorization", f"Bearer {TOKEN}")
            urllib.request.urlopen(ask, timeout=10).close()
        client.submit("30", service)
    browser.size(1280, 900, is_dark=False)
    browser.open(guarded.url)
    browser.run("sessionStorage.setItem('token', arguments[0])", TOKEN)
    browser.open(guarded.url)
    browser.complaints()  # of the first look, without the token
    expected = [
        ("running", 1, "worker W", "la tiene el trabajador W"),
        (
            "waiting",
            3,
            "waits for service render: 0 before it, 2 workers busy for ",
            "espera al servicio render: 0 antes",
        ),
        (
            "waiting",
            4,
            "no worker here serves 'rendr'; did you mean 'render'?",
            "aquí ningún trabajador atiende 'rendr'; ¿quería",
        ),
        ("waiting", 5, "service held is paused; cbw resume lets it go on", "el servicio held está en pausa"),
        ("waiting", 6, f"waits for service {HOSTILE}: 0 before it", f"espera al servicio {HOSTILE}: 0 antes"),
        (
            "waiting",
            7,
            f"no worker here serves '{HOSTILE}x'; did you mean '{HOSTILE}'?",
            f"atiende '{HOSTILE}x'; ¿quería",
        ),
    ]

    def says(table: str, number: int, text: str) -> None:
        wait_until(lambda: text in reason(browser, table, f"{HOSTILE}/{number}"), text)

    for table, number, english, _ in expected:
        says(table, number, english)
    assert "; nobody idle may serve it" in reason(browser, "waiting", f"{HOSTILE}/3")
    browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")
    for table, number, _, spanish in expected:
        says(table, number, spanish)
    assert " s y " in reason(browser, "waiting", f"{HOSTILE}/3")
    press(browser, "Historia", f"{HOSTILE}/5")
    browser.wait_for("#reason", "el servicio held está en pausa")
    assert browser.run("return document.querySelectorAll('img, main script').length") == 0
    assert browser.complaints() == []
    browser.run("sessionStorage.clear()")


def test_the_story_of_a_request_is_told_until_it_ends(
    guarded: Shown, start: Start, connect: Connect, browser: Browser
) -> None:
    first = worker(start, guarded, "W1", handler("s", "hang"))
    client = connect(guarded.broker, id="C1")
    future = client.submit("30", "s")
    browser.open(guarded.url)
    browser.run("sessionStorage.setItem('token', arguments[0])", TOKEN)
    browser.open(guarded.url)
    browser.complaints()  # of the first look, without the token
    press(browser, "Story", "C1/1")
    browser.wait_for("#h-story", "The story of C1/1")
    browser.wait_for("#reason", "worker W1 has had it for")
    browser.wait_for("#steps", "handed out W1")
    assert browser.run("return document.activeElement.id") == "h-story"
    assert browser.complaints() == []
    first.kill()
    browser.wait_for("#reason", "it was given up")
    steps = browser.text("#steps").splitlines()
    assert steps[0].endswith(" accepted") and steps[1].endswith(" handed out W1")
    browser.wait_for("#steps", "attempt failed W1 lost its connection")
    browser.wait_for("#steps", "given up 1 worker failed at it")
    with pytest.raises(cbw.GaveUp):
        future.result(PATIENCE_S)
    browser.run("document.getElementById('close').click()")
    assert browser.run("return document.getElementById('story').hidden") is True
    wait_until(lambda: browser.run("return document.querySelectorAll('#dead button').length") > 1, "the dead letter")
    browser.run("document.querySelectorAll('#dead button')[1].click()")
    browser.wait_for("#h-story", "The story of C1/1")
    browser.wait_for("#steps", "given up")


def test_the_page_tells_how_long_each_worker_takes_and_how_long_the_oldest_waits(
    open_broker: Shown, start: Start, connect: Connect, browser: Browser
) -> None:
    worker(start, open_broker, "W1", handler("quick", "echo"))
    worker(start, open_broker, "W2", handler("slow", "hang"))
    client = connect(open_broker.broker, id="C1")
    client.call(b"x", "quick")
    for _ in range(2):
        client.submit("30", "slow")
    browser.open(open_broker.url)
    browser.wait_for("#workers", "p99")
    wait_until(lambda: browser.run("return seen.status.workers[0].p99_s") > 0, "it has answered")
    heads = browser.run("return [...document.querySelectorAll('#services th')].map(e => e.textContent.toLowerCase())")
    assert heads == [
        "service", "waiting", "running", "delayed", "oldest", "workers", "rate", "p50", "p99", "failed", "state", "do",
    ]  # fmt: skip
    quick = browser.run("return [...document.querySelector('#services tbody tr').cells].map(e => e.textContent)")
    assert quick[0] == "quick" and quick[6].endswith("/s") and quick[7].endswith("s") and quick[9] == "0"
    browser.wait_for("#services", "oldest")
    wait_until(
        lambda: "slow" in browser.text("#services") and " s" in browser.text("#services"), "the age of the oldest"
    )


def test_what_the_broker_does_not_tell_is_shown_as_unknown(planted: Shown, browser: Browser) -> None:
    """As after a return to an earlier version, while the page is open."""
    browser.open(planted.url)
    browser.wait_for("#workers", "W1")
    without = """
        const told = structuredClone(seen), rows = [...told.status.services, ...told.status.workers, told.history, told];
        const later = ["rate", "p50_s", "p99_s", "failed", "answered", "busy", "at_s", "age_s", "oldest_s"];
        for (const row of rows) for (const name of later) delete row[name];
        show(told);
        return [...document.querySelectorAll("#tiles b, #services td, #workers td")].map(e => e.textContent)
    """
    cells = browser.run(without)
    assert not [text for text in cells if "undefined" in text or "NaN" in text or "null" in text]
    assert cells.count("\u2013") >= 10
    assert not browser.complaints()


def test_a_reload_shows_the_minutes_before(open_broker: Shown, browser: Browser) -> None:
    browser.open(open_broker.url)
    browser.wait_for("#verdict", "Nobody is here yet")
    wait_until(lambda: browser.run("return seen.history.waiting.length") >= 3, "three samples")
    browser.open(open_broker.url)
    browser.wait_for("#verdict", "Nobody is here yet")
    assert browser.run("return seen.history.waiting.length") >= 3


def test_without_a_token_nobody_acts(open_broker: Shown, start: Start, browser: Browser) -> None:
    worker(start, open_broker, "W1", handler("s", "echo"))
    browser.open(open_broker.url)
    press(browser, "Pause", "s")
    browser.wait_for("#told", "The broker wants a token for this")
    assert b'"is_paused":false' in status(open_broker)
    browser.complaints()  # the console tells of each 401


def test_who_has_the_token_acts(guarded: Shown, start: Start, connect: Connect, browser: Browser) -> None:
    worker(start, guarded, "W1", handler("s", "hang"))
    client = connect(guarded.broker, id="C1")
    futures = [client.submit("30", "s") for _ in range(2)]
    browser.open(guarded.url)
    browser.run("sessionStorage.clear()")
    browser.open(guarded.url)
    log_in(browser)
    browser.wait_for("#verdict", "1 waits for «s», its only worker is busy")
    browser.complaints()
    press(browser, "Pause", "s")
    browser.wait_for("#verdict", "which is paused")
    press(browser, "Resume", "s")
    browser.wait_for("#verdict", "is busy")
    press(browser, "Drain", "W1")
    browser.wait_for("#workers", "draining")
    press(browser, "Undrain", "W1")
    press(browser, "Cancel", "C1/2")
    with pytest.raises(cbw.Cancelled, match=r"cancelled by page 127\.0\.0\.1 \(cbw cancel\)"):
        futures[1].result(PATIENCE_S)
    guarded.broker.program.wait_for("service paused", "page 127.0.0.1")
    assert browser.complaints() == []


def test_a_dead_letter_is_sent_again(guarded: Shown, start: Start, connect: Connect, browser: Browser) -> None:
    doomed = worker(start, guarded, "W1", handler("s", "hang"))
    client = connect(guarded.broker, id="C1")
    client.submit("30", "s")
    browser.open(guarded.url)
    browser.run("sessionStorage.setItem('token', arguments[0])", TOKEN)
    browser.open(guarded.url)
    browser.wait_for("#running", "C1/1")
    doomed.kill()
    browser.wait_for("#dead", "C1/1")
    browser.run("document.querySelector('#dead button').click()")
    guarded.broker.program.wait_for("dead letter requeued")
    browser.wait_for("#waiting", "cbw.dead/1")
    browser.wait_for("#dead", "None.")


def test_it_says_that_the_events_are_the_last_ones(open_broker: Shown, browser: Browser) -> None:
    with zmq.Context() as context:
        workers = [context.socket(zmq.REQ) for _ in range(63)]
        for one in workers:
            one.connect(f"tcp://127.0.0.1:{open_broker.broker.worker_port}")
            one.send(b"READY")
        open_broker.broker.program.wait_for("worker ready", count=len(workers))
        browser.open(open_broker.url)
        browser.wait_for("#events-left", "The last 60 events; all of them: cbw logs")
        assert browser.run("return seen.events.length") >= len(workers)
        assert browser.run("return document.querySelectorAll('#events li').length") == 60
        browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")
        browser.wait_for("#events-left", "Los últimos 60 eventos; todos: cbw logs")
        browser.run("sessionStorage.clear()")
        context.destroy(linger=0)


def test_it_speaks_spanish(planted: Shown, browser: Browser) -> None:
    browser.open(planted.url)
    browser.wait_for("#verdict", "which nobody serves")
    browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")
    browser.wait_for("#verdict", "1 en espera de «ecko», que nadie atiende; parecido: echo.")
    browser.wait_for("#services", "nadie lo atiende")
    assert browser.run("return document.documentElement.lang") == "es"
    browser.open(planted.url)
    browser.wait_for("#verdict", "en espera de")  # it is remembered
    texts = browser.run("return [TEXTS.en, TEXTS.es].map(t => [Object.keys(t), Object.keys(t.v), Object.keys(t.s)])")
    assert texts[0] == texts[1]
    shown = {name for name in NOTABLE if "broker" in catalogue.EVENTS[name].roles}
    assert set(browser.run("return Object.keys(TEXTS.es.e)")) == shown | {"accepted", "handed_out", "delayed"}
    reasons, translated = browser.run("return [TEXTS.en.w, TEXTS.es.w]")
    assert reasons == dict(REASONS) and list(reasons) == list(translated)
    for kind, text in translated.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", REASONS[kind])), kind
    spanish = browser.run("return Object.values(TEXTS.es).flatMap(t => typeof t === 'string' ? [t] : Object.values(t))")
    assert not [text for text in spanish if re.search(r"(?<![{\w])(workers?|brokers?|standbys?)(?![}\w])", text)]
    assert texts[0][1] == [*SENTENCES, "similar"]
    english = browser.run("return TEXTS.en.v")
    assert {kind: english[kind] for kind in SENTENCES} == SENTENCES
    assert all(f"``{state}``" in (state_of.__doc__ or "") for state in texts[0][2])
    browser.run("sessionStorage.clear()")


def test_the_broker_speaks_spanish_on_its_page(planted: Shown, browser: Browser) -> None:
    """What has happened, why, and what it refuses; but what peers have named is as it was."""
    browser.open(planted.url)
    browser.wait_for("#dead", "1 worker failed at it; the last was W-lost: lost its connection")
    browser.run("const l = document.getElementById('lang'); l.value = 'es'; l.onchange()")
    browser.wait_for("#dead", "ha fallado con 1 trabajador; el último ha sido W-lost: ha perdido su conexión")
    browser.wait_for("#events", "trabajador perdido W-lost ha perdido su conexión")
    browser.wait_for("#events", "trabajador listo W-lost doom")
    browser.wait_for("#events", f"abandonada {HOSTILE}/6")
    browser.run("document.querySelectorAll('#dead button')[1].click()")
    browser.wait_for("#steps", "intento fallido W-lost ha perdido su conexión")
    browser.wait_for("#reason", "se abandonó hace ")
    assert "ha fallado con 1 trabajador" in browser.text("#reason")
    assert browser.complaints() == []
    browser.run("tellStory('C9/9')")
    browser.wait_for("#reason", "aquí no hay ninguna petición 'C9/9'")
    browser.complaints()  # the console tells of the 404
    english = ("lost its connection", "failed at it", "worker ready", "handed out", "gave up", "given up")
    assert not [words for words in english if words in browser.text("main")]
    browser.run("sessionStorage.clear()")


def test_the_browser_is_told_to_take_nothing_from_elsewhere(open_broker: Shown, browser: Browser) -> None:
    with urllib.request.urlopen(open_broker.url, timeout=10) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert policy.startswith("default-src 'none'; connect-src 'self'; script-src 'sha256-")
    assert "unsafe" not in policy and "*" not in policy
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and "src=" not in page
    browser.open(open_broker.url)
    browser.wait_for("#verdict", "Nobody is here yet")
    fetched = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert fetched and all(name.startswith(open_broker.url) for name in fetched)
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
    )
    assert browser.run("return window.hacked") is None
    browser.complaints()


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_everybody_can_use_it(
    planted: Shown, browser: Browser, axe: str, width: int, height: int, is_dark: bool, tmp_path: Path
) -> None:
    browser.size(width, height, is_dark=is_dark)
    browser.open(planted.url)
    browser.wait_for("#verdict", "which nobody serves")
    browser.wait_for("#dead", "W-lost")
    press(browser, "Story", f"{HOSTILE}/1")
    browser.wait_for("#steps", "handed out")
    assert browser.run("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    browser.run(axe)
    found = browser.run_async("axe.run().then(arguments[arguments.length - 1])")
    told = [f"{one['id']}: {[node['html'] for node in one['nodes']][:3]}" for one in found["violations"]]
    assert told == [] and len(found["passes"]) > 10
    browser.picture(tmp_path / f"page-{width}-{'dark' if is_dark else 'light'}.png")


def test_the_keyboard_reaches_everything(planted: Shown, browser: Browser) -> None:
    browser.size(1280, 900, is_dark=False)
    browser.open(planted.url)
    browser.wait_for("#dead", "W-lost")
    reached = set()
    for _ in range(60):
        browser.keys("\ue004")  # Tab
        reached.add(
            browser.run("const e = document.activeElement; return e.getAttribute('aria-label') || e.id || e.tagName")
        )
    assert {"lang", "token", "Pause render", "Drain W1", f"Cancel {HOSTILE}/1"} <= reached
    browser.run("document.querySelector('[aria-label=\"Drain W1\"]').focus()")
    wait_until(lambda: browser.run("return seen.status.uptime_s") > 0, "another look")
    before = browser.run("return seen.status.uptime_s")
    wait_until(lambda: browser.run("return seen.status.uptime_s") > before, "and another")
    assert browser.run("return document.activeElement.getAttribute('aria-label')") == "Drain W1"

"""The pictures of the page for the documentation: ``python -m tests.page.scene docs/images`` makes them anew in some 75 s.

An ordinary small system after a minute of ordinary work, in which a worker was killed, one answered too late, a request was
given up, and another asks for a service by a name with a typo.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from pathlib import Path
from typing import Any

import zmq

import cbw
from tests.live.conftest import HOST, Connect, Start, clients, programs
from tests.live.program import wait_until

from .browser import Browser
from .conftest import Shown, handler, shown, worker

SCENE_S = 61.0
"""A little more than the worker stream shows."""
KILLED_AT_S = 58.0
"""When a worker is killed: late enough for it to be in the picture of who serves whom still."""
TYPO_AT_S = 54.0
LATE_AT_S = 30.0
GIVEN_UP_AT_S = 20.0
LOAD = (
    ("web-1", "thumbnail", 1.1, (0.3, 2.0)),
    ("web-2", "thumbnail", 1.7, (0.3, 2.0)),
    ("web-2", "mail", 0.9, (0.02, 0.1)),
    ("batch", "ocr", 2.6, (4.0, 9.0)),
)
"""Clients: who asks for what, the mean seconds between two requests, and how many seconds each takes."""
SIZES = [(1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)]

NAMED = "const before = show; show = live => { live.status.name = 'BRO_broker'; before(live); }"
"""Says another name than that of the machine on which the pictures are made."""


def load(
    client: cbw.Client, service: str, every_s: float, takes_s: tuple[float, float], is_over: threading.Event
) -> None:
    """Ask again and again, at random times, which are the same in each run."""
    chance = random.Random(client.id + service)
    while not is_over.wait(chance.expovariate(1 / every_s)):
        client.submit(f"{chance.uniform(*takes_s):.3f} s", service)


def answer_late(context: zmq.Context[Any], at: Shown, client: cbw.Client) -> list[zmq.Socket[Any]]:
    """A worker of the lab that is given up and answers then, and the one that has answered for it. They live as long as these
    sockets do.
    """
    before = at.broker.program.count("worker ready")
    slow, quick = context.socket(zmq.REQ), context.socket(zmq.REQ)
    for number, socket in enumerate((slow, quick), 1):
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(f"tcp://{HOST}:{at.broker.worker_port}")
        socket.send(b"READY")
        at.broker.program.wait_for("worker ready", count=number + before)
    client.submit("a request of the lab")
    name, *_ = slow.recv_multipart()
    other, *_ = quick.recv_multipart()
    quick.send_multipart([other, b"", b"done"])
    time.sleep(1.5)
    slow.send_multipart([name, b"", b"done"])
    return [slow, quick]


def play(
    start: Start, at: Shown, connect: Connect, is_over: threading.Event, context: zmq.Context[Any]
) -> list[zmq.Socket[Any]]:
    """Let the minute pass. Returns sockets to be kept while its pictures are taken."""
    begun_at = time.monotonic()

    def wait_to(at_s: float) -> None:
        time.sleep(max(0.0, begun_at + at_s - time.monotonic()))

    pool = {name: worker(start, at, name, handler("thumbnail", "sleep")) for name in ("thumb-1", "thumb-2", "thumb-3")}
    pool |= {name: worker(start, at, name, handler("ocr", "sleep")) for name in ("ocr-1", "ocr-2", "ocr-3")}
    worker(start, at, "mail-1", handler("mail", "sleep"))
    doomed = [worker(start, at, name, handler("video", "sleep")) for name in ("video-1", "video-2")]
    known = {name: connect(at.broker, id=name, timeout=300) for name in ("web-1", "web-2", "batch")}
    for name, *rest in LOAD:
        threading.Thread(target=load, args=(known[name], *rest, is_over), daemon=True).start()
    wait_to(GIVEN_UP_AT_S - 6.0)
    known["batch"].submit("60 s", "video")
    for number, one in enumerate(doomed):
        wait_to(GIVEN_UP_AT_S + 4.0 * number)
        one.kill()
    wait_to(LATE_AT_S)
    lab = answer_late(context, at, known["web-1"])
    worker(start, at, "video-3", handler("video", "sleep"))
    wait_to(TYPO_AT_S)
    known["web-2"].submit("1 s", "thumbnial")
    wait_to(KILLED_AT_S)
    pool["ocr-2"].kill()
    wait_to(SCENE_S)
    return lab


def wait_for_look(browser: Browser) -> None:
    """Wait until the page has been drawn anew."""
    before = browser.run("return seen.status.uptime_s")
    wait_until(lambda: browser.run("return seen.status.uptime_s") > before, "another look")


def main() -> None:
    """Play the scene and save what a browser shows of it."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("folder", type=Path)
    folder = reader.parse_args().folder
    context: zmq.Context[Any] = zmq.Context()
    is_over, browser = threading.Event(), Browser()
    try:
        with programs() as start, clients() as connect:
            at = shown(start, "--answer-timeout", 3, "--attempts-max", 2)
            lab = play(start, at, connect, is_over, context)
            browser.open(at.url)
            browser.wait_for("#verdict", "thumbnial")
            browser.run(NAMED)
            for width, height, is_dark in SIZES:
                browser.size(width, height, is_dark=is_dark)
                wait_for_look(browser)
                browser.picture(folder / f"page-{width}-{'dark' if is_dark else 'light'}.png")
            is_over.set()
            lab.clear()
    finally:
        browser.close()
        context.destroy(linger=0)


if __name__ == "__main__":
    main()

"""A program whose threads are gevent's greenlets: one call must not stop the others."""

from __future__ import annotations

import subprocess
import sys

from .conftest import Broker, StartWorker
from .program import PATIENCE_S, environment

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time, cbw

turns = 0
def turn():
    global turns
    while True:
        gevent.sleep(0.01)
        turns += 1

ticking = gevent.spawn(turn)
with cbw.Client(sys.argv[1], timeout=30) as client:
    client.call(b"0", "sleep")
    turns, began_at = 0, time.monotonic()
    client.call(b"0.5", "sleep")
    print("turns", turns)
    calls = [gevent.spawn(client.call, b"0.5", "sleep") for _ in range(8)]
    gevent.joinall(calls, raise_error=True)
    futures = [client.submit(b"0.1", "sleep") for _ in range(8)]
    print("answers", len(calls), len([future.result() for future in futures]), len(list(client.map([b"0"] * 8, "sleep"))))
ticking.kill()
"""


def test_one_call_does_not_stop_other_greenlets(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "sleep=sleep", options=["--concurrency", 8])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, broker.address],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    turns, answers = done.stdout.splitlines()
    assert int(turns.split()[1]) >= 5, "others had their turns during a call of half a second"
    assert answers == "answers 8 8 8"

"""``python -m tests.attack.attacker SEED PORT…``: one attacker after another, until it is ended. Prints what it has done."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from random import Random

from .moves import attack

ATTACKERS = 8
"""Attackers at the same time: most of a connection's life is waiting."""


def main() -> None:
    """Attack until SIGTERM."""
    seed, *ports = map(int, sys.argv[1:])
    counts: Counter[str] = Counter()
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())

    def go_on(number: int) -> None:
        random = Random(f"{seed} {number}")
        while not is_over.is_set():
            counts[attack(random, random.choice(ports))] += 1

    threads = [threading.Thread(target=go_on, args=(number,)) for number in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))


if __name__ == "__main__":
    main()

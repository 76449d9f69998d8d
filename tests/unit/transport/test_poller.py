"""What ends a wait: also while it is being closed."""

from __future__ import annotations

import threading

from cbw.transport.poller import Poller, Waker


def test_it_wakes_until_it_is_told_to_forget() -> None:
    waker = Waker()
    poller = Poller(waker.fileno())
    waker.wake()
    waker.wake()
    assert waker.fileno() in poller.poll(0)
    assert waker.fileno() in poller.poll(0)
    waker.clear()
    assert waker.fileno() not in poller.poll(0)
    waker.close()
    waker.wake()


def test_whoever_wakes_what_is_being_closed_does_no_harm() -> None:
    """As somebody who asks for the status while a role ends."""
    errors: list[BaseException] = []
    wakers: list[Waker] = [Waker()]
    is_over = threading.Event()

    def wake() -> None:
        try:
            while not is_over.is_set():
                wakers[-1].wake()
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=wake) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        old = wakers[-1]
        wakers.append(Waker())
        old.close()
    is_over.set()
    for thread in threads:
        thread.join()
    for waker in wakers:
        waker.close()
    assert not errors

"""What the broker tells of services, and how much it keeps of what workers say of them."""

from __future__ import annotations

import msgspec

from cbw.core import messages
from cbw.core.broker.service_list import (
    SERVICES,
    SIGNATURE_CHARS_MAX,
    SIGNATURES_CHARS_MAX,
    ListedService,
    kept_signatures,
)
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, worker_said


def listed(system: CoreSystem) -> list[ListedService]:
    system.client("C1")
    system.ask(99, service=SERVICES)
    (answer,) = [message for message in system.take("C1") if type(message) is messages.Answer]
    assert answer.status is Status.OK
    return msgspec.json.decode(answer.body, type=list[ListedService])


def test_services_are_listed_by_name_with_what_the_first_worker_has_said() -> None:
    system = CoreSystem()
    assert listed(system) == []
    hello = messages.WorkerHello("W1", "b", ["b", "a"], 1, 1, signatures={"a": "one", "other": "no"})
    system.tell(worker_said(b"W1", [hello]))
    system.worker("W2", services=("a",))
    system.ask(1, service="c")
    assert listed(system) == [
        ListedService("a", 2, 0, "one", answered=0, failed=0, rate=0.0),
        ListedService("b", 1, 0, answered=0, failed=0, rate=0.0),
        ListedService("c", 0, 1, answered=0, failed=0, rate=0.0),
    ]


def test_services_are_listed_with_what_they_have_done() -> None:
    system = CoreSystem()
    system.client("C2")
    system.worker("W1", services=("a", "b"), concurrency=3)
    system.ask(1, 2, client="C2", service="a")
    system.wait(3.0, "W1")
    system.answer_all("W1")
    system.ask(3, 4, client="C2", service="a")
    system.ask(5, client="C2", service="b")
    system.wait(2.0, "W1")
    one, other = listed(system)
    assert (one.running, one.answered, one.failed, one.age_s) == (2, 2, 0, 5.0)
    assert one.rate == 2 / 5.0
    assert (one.p50_s, one.p99_s) == (3.0, 3.0), "nothing above what was seen"
    assert (other.running, other.answered, other.rate, other.p50_s) == (1, 0, 0.0, None)


def test_signatures_are_bounded() -> None:
    assert kept_signatures(None, ["a"]) is None
    long = "x" * SIGNATURE_CHARS_MAX
    assert kept_signatures({"a": long, "b": f"{long}x"}, ["a", "b"]) == {"a": long}
    names = [str(number) for number in range(1000)]
    kept = kept_signatures(dict.fromkeys(names, long), names)
    assert kept is not None
    assert sum(map(len, kept.values())) <= SIGNATURES_CHARS_MAX < sum(map(len, kept.values())) + len(long)


def test_a_hello_of_an_earlier_version_has_none() -> None:
    old = msgspec.msgpack.encode([20, "W1", "b", ["a"], 1, 1, [], b""])
    hello = msgspec.msgpack.decode(old, type=messages.WorkerHello)
    assert (hello.wants_names, hello.signatures) == (False, None)

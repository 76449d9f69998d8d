"""What is judged of several brokers that serve at the same time."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.verdict import Verdict

from .records import begun, sent, verdict

TWO_BROKERS = Record(0.0, catalogue.DEPLOYED, role="verify", sender="verify", count=2, text="bro wor")


def asked_alone(at: float, broker: str) -> Record:
    """From here on only this broker is asked; empty: it is over."""
    return Record(at, catalogue.BROKER_ASKED, role="verify", sender="verify", text=broker)


def found(*workers: str, later: tuple[str, ...] = ()) -> Verdict:
    """Three workers have answered; then one broker has requests alone, which these begin, and ``later`` others something else."""
    met = [begun(0.1 * number, f"W{number}", f"C/{number}") for number in (1, 2, 3)]
    alone = [sent(1.1, f"D/{number}") for number, _ in enumerate(workers)]
    alone += [begun(1.2, worker, f"D/{number}") for number, worker in enumerate(workers)]
    after = [begun(3.0, worker, f"C/{number}") for number, worker in enumerate(later, 10)]
    return verdict("work-shared", [TWO_BROKERS, *met, asked_alone(1.0, "a:9998"), *alone, asked_alone(2.0, ""), *after])


def test_all_workers_have_begun_some() -> None:
    kept = found("W1", "W2", "W3", "W1")
    assert kept.passed and kept.figures == {"judged": 1, "workers": 3, "missing": 0}


def test_one_has_begun_none() -> None:
    broken = found("W1", "W3")
    assert not broken.passed
    assert broken.evidence == ["W2 began none of 2 requests that the broker at a:9998 had alone"]


def test_a_worker_that_has_come_later_is_not_missed() -> None:
    """A Swarm puts it in place of one that was killed meanwhile."""
    kept = found("W1", "W2", "W3", later=("W4",))
    assert kept.passed and kept.figures["workers"] == 3


def test_nobody_was_asked_alone() -> None:
    kept = verdict("work-shared", [TWO_BROKERS, begun(0.1, "W1", "C/1")])
    assert kept.passed and kept.figures["judged"] == 0

"""How a worker divides its slots among its brokers."""

from __future__ import annotations

from cbw.core.agenda import Agenda
from cbw.core.worker.shares import DEMAND_KEPT_S, Share, Shares


def test_a_slot_is_kept_from_when_it_is_offered() -> None:
    """Not from when it was demanded: a broker whose turn came late got its slot for no time at all, and demanded no more."""
    agenda, tasks = Agenda(), dict.fromkeys([1])
    shares, busy, patient = Shares(agenda, lambda: 1), Share(tasks), Share({})
    shares.join(busy, 0.0)
    shares.join(patient, 0.0)
    shares.demanded(patient, "s", 1, 0.0)
    shares.demanded(busy, "s", 5, 0.0)
    tasks.clear()
    shares.divide(1.0)
    assert (busy.offered, patient.offered) == (1, 0)
    tasks[2] = None
    shares.took(busy, ["s"], 1.001)
    tasks.clear()
    shares.divide(1.019)
    assert (busy.offered, patient.offered) == (0, 1), "it is the turn of the one that has had nothing"
    agenda.run(1.02)  # since 1.0 a slot was kept for the other
    assert (busy.offered, patient.offered) == (0, 1)
    agenda.run(1.02 + DEMAND_KEPT_S)
    assert (busy.offered, patient.offered) == (1, 0), "the patient one may be frozen"

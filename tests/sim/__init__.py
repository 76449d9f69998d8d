"""Seeded simulation: the real cores on a simulated network, in simulated time, with faults, under a checker.

``python -m tests.sim --seeds 2000`` runs seeds, ``--seed 17`` tells the story of one. See :mod:`.run` for what a run is.
"""

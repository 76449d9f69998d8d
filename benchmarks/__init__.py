"""The figures of the README. ``python -m benchmarks`` measures all of them; each module also runs alone.

A module has ``rows()``, which measures and yields one :class:`~benchmarks.figure.Row` for each figure, and ``FIGURES``, the
names of its rows if they are in the README. What ``cbw bench`` measures is in :mod:`cbw.bench`, and is not repeated here.

A speed is given as a ratio against a peer or a limit in the same run, the best of several rounds that take turns: machines
differ, and the same machine differs from minute to minute. Read the caveats in ``benchmarks/README.md``.
"""

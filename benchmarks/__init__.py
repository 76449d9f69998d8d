"""The figures of the README. ``python -m benchmarks`` measures all of them; each module also runs alone.

A speed here is a ratio against a peer or a limit in the same run, best of several rounds that take turns: machines differ,
and the same machine differs from minute to minute. Read the caveats in ``benchmarks/README.md``.
"""

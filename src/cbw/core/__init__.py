"""What cbw decides, without doing it: pure state machines.

Nothing in this package opens a socket, reads a clock, starts a thread, writes a log or draws a random number. Facts
and the time go in, orders come out; the shells beside this package do the rest.
"""

"""Peers under the same treatment: a worker is killed in the middle of a request, or the broker with 1,000 requests waiting.

``python -m benchmarks.faults`` does this to cbw and to five other systems, each with its reliable settings, and counts what was
lost, run twice and answered twice, and how long it took until all was well. Everything is a real process of this machine, and is
really killed. What is counted was written by the handlers and by the client themselves, one line in a file for each event, so
no system is asked what it believes to have done.

Each system has one file. It describes the system to the runner, and it is the program of its client and, where the system has
no command for that, of its worker. The files of the peers run in an environment of their own, which has their libraries, so they
import these inside functions, and nothing of cbw.
"""

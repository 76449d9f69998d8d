"""Sockets, and how roles wait for them: the only folder that imports ZeroMQ."""

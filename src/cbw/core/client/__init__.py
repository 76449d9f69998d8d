"""The client's decisions, without sockets, threads and clocks: facts, orders, the core, and its driver."""

"""Does it keep its promises? Checks of a running system, or of the trace of one that ran."""

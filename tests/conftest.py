"""What all tests need."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("cbw", deadline=None)  # a busy machine is no defect
settings.load_profile("cbw")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background like this, and every program inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""Where the ``cbw`` command begins; ``python -m cbw`` is the same."""

import signal


def main() -> None:
    """Load the command line and run it.

    Until it is there to catch Ctrl-C, that ends the process without a word: Python would show what it was importing.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cbw.cli.main import main

    main()


if __name__ == "__main__":
    main()

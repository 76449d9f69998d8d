"""``python -m cbw`` is ``cbw``."""

from cbw.cli.main import main

main()

"""Answers that come to requests that have ended for their client."""

from __future__ import annotations


class LateAnswers:
    """Counts them, and tells apart what a broker owes nobody from what it may well say again.

    A broker to which a client has said hello once more is asked again for whatever was in flight then, and does not know which
    answers had arrived before. So it may repeat answers to requests that were submitted before that hello.
    """

    def __init__(self) -> None:
        self.unasked = 0
        """To requests that were asked once, over this connection: cancelled, expired or already answered."""
        self.repeated = 0
        """To requests that were submitted before the last hello."""
        self._last_id = self._last_id_before_hello = 0

    def submitted(self, last_id: int) -> None:
        """Requests up to this id have been submitted. Ids only grow."""
        self._last_id = last_id

    def hello_said(self) -> None:
        """What has been submitted so far may be answered twice."""
        self._last_id_before_hello = self._last_id

    def came(self, request_id: int) -> None:
        """An answer to a request that had ended."""
        if request_id > self._last_id_before_hello:
            self.unasked += 1
        else:
            self.repeated += 1

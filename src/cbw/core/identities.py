"""Ids of peers and names of requests: what they may be, and how a peer proves that a session is its own."""

from __future__ import annotations

from hmac import compare_digest

NAME_CHARS_MAX = 200
"""Longest id or service name, in characters. Names stand in every trace line and metric."""
PROOF_BYTES_MIN = 16
"""Shortest proof of a session, in bytes: nobody guesses 128 bits."""
PROOF_BYTES_MAX = 64
"""Longest proof of a session, in bytes. The broker keeps one for each client and worker, and in its journal."""
PROOF_RULE = f"a proof {PROOF_BYTES_MIN} to {PROOF_BYTES_MAX} bytes"
NO_PROOF = "another's id and boot, without its proof"
"""Why a broker refuses a hello that names a session and does not prove that it is its own."""


def is_name(name: str) -> bool:
    """Whether a peer may have this id."""
    return 0 < len(name) <= NAME_CHARS_MAX


def is_proof(proof: bytes) -> bool:
    """Whether a peer may have this proof. Peers of earlier versions have none, which is empty."""
    return not proof or PROOF_BYTES_MIN <= len(proof) <= PROOF_BYTES_MAX


def is_proven(proof: bytes | None, shown: bytes) -> bool:
    """Whether who has ``shown`` this may go on with the session that began with ``proof``.

    None: that is not known, as the session comes from the journal of an earlier version. Then anybody may.
    """
    return proof is None or compare_digest(proof, shown)


def ticket_name(ticket: str) -> str:
    """What traces call the request that was started under ``ticket``."""
    return f"ticket/{ticket}"


def name_of_request(client: str, request_id: int, ticket: str = "") -> str:
    """What traces call a request of ``client``, or one that was started under ``ticket``."""
    return ticket_name(ticket) if ticket else f"{client}/{request_id}"

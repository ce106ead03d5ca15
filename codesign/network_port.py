"""Whether anybody listens at a port."""

from __future__ import annotations

import socket

_PORT_S = 5.0  # our choice: longer than any round trip


def is_open(host: str, port: int) -> bool:
    """Return whether anybody listens there."""
    try:
        with socket.create_connection((host, port), timeout=_PORT_S):
            return True
    except OSError:
        return False

"""Requirements on a key, checked before anything heavy is loaded."""

from __future__ import annotations

from nullspace.errors import NullspaceError

SHORTEST = 8  # bytes of a key; with fewer, guessing is quick whatever the stretching
HOW_TO_MAKE = "`openssl rand -hex 32 > key.txt` makes a good one"


def check_key(key: bytes) -> bytes:
    """The key, if it is long enough. Raises NullspaceError otherwise."""
    if len(key) < SHORTEST:
        raise NullspaceError(f"expected a key of at least {SHORTEST} bytes, got {len(key)}; {HOW_TO_MAKE}")
    return key

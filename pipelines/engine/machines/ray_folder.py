"""A temporary folder for a Ray of this machine: its sockets lie in it, and the name of a socket must be short."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.errors import ClusterError

# Largest length of a socket's path in bytes, without its terminating zero.
LIMIT = (104 if sys.platform == "darwin" else 108) - 1
# What Ray puts below its folder; a process has at most seven digits.
_BELOW = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
ROOM = LIMIT - len(_BELOW)
"""Bytes that the path of Ray's folder may have."""
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def choose_folder(variables: Mapping[str, str], places: Sequence[str] = _SHORT) -> Path | None:
    """A folder for Ray below one of `places`; None when Ray's own choice is short enough.

    Ray takes RAY_TMPDIR, else TMPDIR, else /tmp, and adds `ray`. It lets everybody write to its folder, so this one
    lies in a new private one, which the caller removes. Raises ClusterError when there is no short place, and for a
    long RAY_TMPDIR: that one was asked for.
    """
    asked = variables.get("RAY_TMPDIR")
    on_linux = sys.platform.startswith("linux")  # Ray reads TMPDIR for nothing else
    own = asked or (variables.get("TMPDIR") if on_linux else None) or "/tmp"
    if _fits(os.path.join(own, "ray")):
        return None
    name = "RAY_TMPDIR" if asked else "TMPDIR"
    most = ROOM - len("/ray")
    if not asked:
        for place in places:
            if _fits(os.path.join(place, "ray-12345678", "ray")) and os.access(place, os.W_OK | os.X_OK):
                return Path(tempfile.mkdtemp(prefix="ray-", dir=place), "ray")
    raise ClusterError(
        f"{name} is {own}, of {len(os.fsencode(own))} bytes: too long for the sockets that Ray puts below it; set "
        f"RAY_TMPDIR to a folder of at most {most} bytes that can be written"
    )


def _fits(folder: str) -> bool:
    return len(os.fsencode(os.path.abspath(folder))) <= ROOM

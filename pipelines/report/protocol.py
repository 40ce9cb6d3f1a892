"""What the results of a run are called, and by which protocol their figures are defined."""

from __future__ import annotations

RESULTS = "results.json"
PROTOCOL = 1
"""Raised when the figures of results.json come to mean something else; runs of different ones are never compared."""

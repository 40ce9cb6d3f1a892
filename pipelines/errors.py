"""Errors of the pipeline that better input cures; the command line prints them without a traceback."""

from __future__ import annotations

from nullspace.errors import NullspaceError


class ConfigError(NullspaceError):
    """A config that does not say what to do: a wrong key, type, range, or file."""


class SourceError(NullspaceError):
    """Images that are not there, not named uniquely, or too many of them unreadable."""


class DecodeError(NullspaceError):
    """One image that can't be decoded; it becomes an error row."""


class WorkdirError(NullspaceError):
    """A work folder that is another experiment's, in use, or not writable."""


class StageError(NullspaceError):
    """A stage whose outputs are not what it declares."""


class ClusterError(NullspaceError):
    """Ray cannot be reached, or cannot hold a single worker."""


class BranchesFailed(NullspaceError):
    """One or more models of a run failed; what the others found is kept."""

    exit_code = 1
    """70 when one of them failed by no fault of its input: the same may succeed when tried again."""


class NoMemoryError(NullspaceError):
    """What a worker was asked to hold does not fit into its memory, or its GPU's."""


class DiskFullError(NullspaceError):
    """No room is left where something had to be written."""

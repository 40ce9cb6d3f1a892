"""Errors of reaching a cluster that better input cures; the command line prints them without a traceback."""

from __future__ import annotations

from nullspace.errors import NullspaceError

INTERRUPTED = 130  # by Ctrl-C, or stopped by somebody


class UploadError(NullspaceError):
    """A job's working folder that is too large, or a file of it that cannot be taken along."""


class JobError(NullspaceError):
    """A job that cannot be asked for, found, followed or stopped as it was wanted."""

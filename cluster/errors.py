"""Errors of commands for a cluster that the user can correct; the command line prints them without traceback."""

from __future__ import annotations

from nullspace.errors import NullspaceError

INTERRUPTED = 130  # by Ctrl-C, or by a stop


class UploadError(NullspaceError):
    """A job's working folder is too large, or a file of it cannot be uploaded."""


class JobError(NullspaceError):
    """A job that cannot be submitted, found, followed or stopped as requested."""

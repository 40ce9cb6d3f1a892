"""Turns off what Ray and MLflow would print or send to their makers, unless the user has set it otherwise.

Imports nothing heavy: both libraries read these when they are first imported.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new reporter prints tables also at verbosity 0
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of a Ray started here; a cluster's own nodes keep theirs
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # otherwise Tune handles Ctrl-C and returns as if the search were finished
}


def quiet() -> None:
    """Called first in a program; what the user has set stays."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)

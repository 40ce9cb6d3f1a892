"""The place that noise models stored in MLflow before the folders import this module by."""

from nullspace.model.device import *  # noqa: F403

"""The place that noise models stored in MLflow before the folders import this module by."""

from nullspace.noise.artifact import *  # noqa: F403

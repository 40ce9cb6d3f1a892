"""Errors a user can cause. The command line prints them without a traceback; each names the value and the remedy."""

from __future__ import annotations


class NullspaceError(ValueError):
    """Base of every error that better input cures."""


class UnknownModelError(NullspaceError):
    """The model name is not one timm knows."""


class CannotCutError(NullspaceError):
    """The model has no patch embedding at which it can be cut, or one of an unsupported build."""


class WeightsError(NullspaceError):
    """A weights file is missing, damaged, or belongs to another model."""


class ArtifactError(NullspaceError):
    """A noise file is damaged, not of this software, or does not fit the model it is applied to."""


class ImageRangeError(NullspaceError):
    """Images outside [0,1]: usually already normalised, or still 0..255."""


class DeviceError(NullspaceError):
    """The device asked for is not there."""

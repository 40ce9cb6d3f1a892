"""Safetensors files, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from nullspace.errors import ArtifactError


def save_whole(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], what: str) -> None:
    """Write `tensors` and the texts of `header` beside `path` first, then rename; raises ArtifactError with `what`."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        safetensors.torch.save_file(dict(tensors), aside, metadata=dict(header))
        os.replace(aside, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"cannot write the {what} to {path}: {error}; check that the folder is there") from error
    finally:
        aside.unlink(missing_ok=True)

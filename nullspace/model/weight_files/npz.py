"""Weights in the format of big_vision (.npz), by timm's own loader of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nullspace.errors import WeightsError
from nullspace.model.weight_files.checkpoint import first_line
from nullspace.model.weight_files.from_shapes import arguments_from_shapes, classifiers, shapes_of


def arguments_from_npz(
    model: nn.Module, path: Path, given: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments the file asks for beside those `given`, and notes that say so: see `arguments_from_shapes`."""
    try:
        with np.load(path, allow_pickle=False) as opened:
            theirs = {
                name: opened[name].shape for name in opened.files if name.endswith(("pos_embedding", "head/bias"))
            }
    except (OSError, ValueError, EOFError) as error:
        raise WeightsError(f"{path} is not a readable .npz file ({first_line(error)}); fetch it again") from error
    stored = shapes_of(model.state_dict())
    for name, shape in theirs.items():
        if name.endswith("pos_embedding") and "pos_embed" in stored:
            stored["pos_embed"] = torch.Size((1, *shape[-2:]))
        for head in classifiers(model) if name.endswith("head/bias") else ():
            stored[f"{head}.weight"] = torch.Size((shape[-1], 0))
    if not any(name.endswith("head/bias") for name in theirs):
        for head in classifiers(model):
            stored.pop(f"{head}.weight", None)
            stored.pop(f"{head}.bias", None)
    return arguments_from_shapes(model, stored, given)


def load_npz(model: nn.Module, path: Path, name: str) -> None:
    """Load the file into `model`. Raises WeightsError unless every number of the model comes from it."""
    if not hasattr(model, "load_pretrained"):
        raise WeightsError(f"timm reads no .npz weights for {name}; convert {path} to a state dict")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))  # what the file does not set stays so
    try:
        model.load_pretrained(str(path))  # pyright: ignore[reportCallIssue]
    except Exception as error:  # names and shapes of other programs fail in many ways
        raise WeightsError(
            f"{path} does not hold the weights of {name} in big_vision's layout ({first_line(error)}); give the model "
            "name the file was made for"
        ) from error
    left = [key for key, parameter in model.named_parameters() if bool(parameter.isnan().any())]
    if left:
        raise WeightsError(
            f"{path} does not hold the weights of {name}: {len(left)} missing, such as {left[0]}; give the model name "
            "the file was made for, and its model arguments"
        )

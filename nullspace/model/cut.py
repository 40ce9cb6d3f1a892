"""Cutting a timm model at its patch embedding: where the cut is, the rest of the model, and the order of the tokens.

The rest is a shallow copy of the model whose patch embedding only passes on what it is given, so the model's own
`forward_features` runs: prefix tokens, position embedding, windows and pooling need no re-implementation here.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from nullspace.errors import CannotCutError


class PassThrough(nn.Module):
    """Stands where the patch embedding was; passes tokens on and answers questions (grid_size, …) as the real one."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the real one is asked but is no submodule: its parameters belong to the whole model.
        self._asked = (stem,)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "_asked":  # being unpickled: not there yet
                raise
            return getattr(self._asked[0], name)

    def forward(self, tokens: Tensor, *options: Any, **named_options: Any) -> Tensor:
        if any(option is not None for option in (*options, *named_options.values())):
            raise CannotCutError(
                "the patch embedding is called with more than the image; tokens alone do not replace it"
            )
        return tokens


@dataclass(frozen=True)
class TokenLayout:
    """Order of a patch embedding's raw output ("NLC", "NHWC" or "NCHW"), its grid (gh,gw) and its token length D."""

    order: str
    grid: tuple[int, int]
    embed_dim: int

    def to_tokens(self, raw: Tensor) -> Tensor:
        """Raw output of the patch embedding to tokens (B,N,D), row by row of the grid."""
        if self.order == "NCHW":
            return raw.flatten(2).transpose(1, 2)
        return raw.flatten(1, 2) if self.order == "NHWC" else raw

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens (B,N,D) to the raw order that the rest of the model reads."""
        if self.order == "NCHW":
            return tokens.transpose(1, 2).unflatten(2, self.grid)
        return tokens.unflatten(1, self.grid) if self.order == "NHWC" else tokens


def find_stem(model: nn.Module) -> str:
    """Name of the attribute that holds the patch embedding; raises CannotCutError when the model has none."""
    if isinstance(getattr(model, "patch_embed", None), nn.Module):
        name = "patch_embed"
    elif isinstance(getattr(model, "stem", None), PatchEmbed):
        name = "stem"
    else:
        raise CannotCutError(
            f"expected a model with a patch embedding, got {type(model).__name__}, which has neither `patch_embed` nor "
            "a PatchEmbed as `stem` (a convolutional stem has no tokens to cut at); choose a ViT, e.g. "
            "deit_tiny_patch16_224"
        )
    if isinstance(getattr(model, name), nn.ModuleList):
        raise CannotCutError(
            f"{type(model).__name__} has several patch embeddings side by side; one is needed to cut at"
        )
    for method in ("forward_features", "forward_head"):
        if not callable(getattr(model, method, None)):
            raise CannotCutError(f"expected a timm model with `{method}`, got {type(model).__name__} without it")
    return name


def rest_of(model: nn.Module, stem_name: str) -> nn.Module:
    """The model behind its patch embedding: shares every parameter and buffer with `model`, which is not altered."""
    rest = copy.copy(model)
    # Parameters and buffers stay the same dicts, so that moving the model moves the rest; only the children differ.
    rest.__dict__["_modules"] = dict(model._modules)
    rest._modules[stem_name] = PassThrough(getattr(model, stem_name))
    return rest


def layout_of(stem: nn.Module, input_size: tuple[int, int]) -> TokenLayout:
    """Order and grid of the patch embedding's output, read off one blank image (1,3,H,W)."""
    parameter = next(stem.parameters())
    blank = torch.zeros(1, 3, *input_size, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        try:
            raw = stem(blank)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, AssertionError) as error:
            raise CannotCutError(
                f"the patch embedding {type(stem).__name__} does not take a plain image: {error}"
            ) from error
    if not isinstance(raw, Tensor) or raw.ndim not in (3, 4):
        kind = f"a tensor of {raw.ndim} dimensions" if isinstance(raw, Tensor) else f"a {type(raw).__name__}"
        raise CannotCutError(
            f"expected a patch embedding that returns tokens (B,N,D) or a feature map, got {kind} from "
            f"{type(stem).__name__}: the rest of the model reads more than tokens"
        )
    if raw.ndim == 3:
        return TokenLayout("NLC", _grid_of(stem, raw.shape[1], input_size), raw.shape[2])
    if _is_channels_last(stem, raw):
        return TokenLayout("NHWC", (raw.shape[1], raw.shape[2]), raw.shape[3])
    return TokenLayout("NCHW", (raw.shape[2], raw.shape[3]), raw.shape[1])


def _is_channels_last(stem: nn.Module, raw: Tensor) -> bool:
    declared = getattr(stem, "output_fmt", None)
    if declared is not None:
        return str(getattr(declared, "value", declared)) == "NHWC"
    widths = [module.out_channels for module in stem.modules() if isinstance(module, nn.Conv2d)]
    return bool(widths) and raw.shape[1] != widths[-1] and raw.shape[3] == widths[-1]


def _grid_of(stem: nn.Module, count: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Grid (gh,gw) of `count` tokens: as the stem says, else by the shape of the image."""
    if callable(getattr(stem, "dynamic_feat_size", None)):
        rows, columns = stem.dynamic_feat_size(input_size)  # pyright: ignore[reportCallIssue]
        if rows * columns == count:
            return int(rows), int(columns)
    rows = round(math.sqrt(count * input_size[0] / input_size[1]))
    if rows == 0 or count % rows:
        raise CannotCutError(f"{count} tokens of a {input_size[0]}x{input_size[1]} image form no grid of patches")
    return rows, count // rows

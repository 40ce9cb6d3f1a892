"""The attention matrices of a timm ViT as it runs, and their gradients.

Fused attention hides them, and has no second derivative; it is off meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from nullspace.errors import NullspaceError
from nullspace.model.vit import SplitViT


@contextmanager
def recorded_attention(model: SplitViT) -> Iterator[list[Tensor]]:
    """Within it a pass of the model leaves its matrices (B,heads,T,T) in the list, from the first block to the last.

    T counts prefix tokens, too. The caller empties the list before a second pass. Afterwards the model is as before,
    also when an error ends it. Raises NullspaceError when the model has no attention between all tokens.
    """
    layers = _attention_layers(model)
    found: list[Tensor] = []
    with unfused_attention(model), ExitStack() as stack:
        for layer in layers:
            # What its dropout is given, and in evaluation gives back, is the matrix that tokens are mixed by.
            stack.callback(layer.attn_drop.register_forward_hook(_keep_in(found)).remove)
        yield found


@contextmanager
def unfused_attention(model: SplitViT, *, off: bool = True) -> Iterator[None]:
    """Within it no attention of the model is fused: what is computed can be differentiated twice. Restored afterwards.

    With `off` False nothing is done.
    """
    with ExitStack() as stack:
        for module in model.modules():
            layer: Any = module
            if off and isinstance(getattr(layer, "fused_attn", None), bool):
                stack.callback(setattr, layer, "fused_attn", layer.fused_attn)
                layer.fused_attn = False
        yield


def of_all_tokens(model: SplitViT, matrices: list[Tensor]) -> list[Tensor]:
    """The matrices of one pass; raises NullspaceError where they are not between all tokens, as in windows."""
    count = model.num_prefix_tokens + model.num_patches
    if not matrices:
        raise NullspaceError(f"{model.name} made no attention matrix: its blocks do not run the attention they hold")
    for matrix in matrices:
        if matrix.ndim != 4 or tuple(matrix.shape[2:]) != (count, count):
            raise NullspaceError(
                f"expected attention between all {count} tokens of {model.name}, got matrices of shape "
                f"{tuple(matrix.shape)}; attention in windows or between fewer tokens has no map of this kind"
            )
    return matrices


def read_at_output(model: SplitViT, relevance: Tensor) -> Tensor:
    """What the output draws from each patch token, (B,N), from relevance (B,T,T) of every token for every other.

    The row of the class token, the mean of two where there is a distillation token as well; where the model pools its
    patch tokens, the mean of their rows.
    """
    prefix, wrapped = model.num_prefix_tokens, _wrapped(model)
    if getattr(wrapped, "global_pool", "") == "token" and prefix:
        heads = 2 if getattr(wrapped, "dist_token", None) is not None else 1
        rows = relevance[:, :heads]
    else:
        rows = relevance[:, prefix:]
    return rows.mean(dim=1)[:, prefix:]


def _attention_layers(model: SplitViT) -> list[Any]:
    blocks = getattr(_wrapped(model), "blocks", None)
    if not isinstance(blocks, nn.Module):
        raise NullspaceError(f"{model.name} has no blocks with attention; a plain Vision Transformer of timm has")
    layers: list[Any] = [
        module
        for module in blocks.modules()
        if isinstance(getattr(module, "fused_attn", None), bool)
        and isinstance(getattr(module, "attn_drop", None), nn.Module)
    ]
    if not layers:
        raise NullspaceError(f"{model.name} has no attention in its blocks, so there are no maps of it")
    return layers


def _wrapped(model: SplitViT) -> Any:
    return model.model


def _keep_in(found: list[Tensor]) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.append(output)

    return keep

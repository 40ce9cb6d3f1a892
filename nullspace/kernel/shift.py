"""The exact shift directions of pre-LayerNorm encoders: c·(1,…,1) added to a token.

Such an encoder reads its residual stream through LayerNorms only, and LayerNorm removes the mean, so a different c for
every token changes nothing. Whether a model is of this kind is measured here, never concluded from its name.

Where a LayerNorm follows the patch embedding's convolution (swin), the shift is ignored one step earlier, and so by
every encoder: `projection_shift_test` adds it to the convolution's output, which is what the exact kernel needs.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.metrics.norms import mean_token_norm, remove_shift
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

SHIFT_THRESHOLD = 1e-3
"""Share of the control's logit change below which a shift counts as no change.

Rounding in float32 leaves 1e-6 to 1e-4 (deit_tiny), models that do read the mean are above 1e-1. In float16 or bfloat16
rounding alone may exceed it: such a model is not invariant as it runs, and is reported so.
"""


@dataclass(frozen=True)
class ShiftTest:
    """Whether shifts of `relative_shift` mean token norms left the logits alone, beside a control of equal norm."""

    invariant: bool
    relative_shift: float
    max_abs_logit_change: float
    control_max_abs_logit_change: float
    threshold: float = SHIFT_THRESHOLD

    @property
    def in_doubt(self) -> bool:
        """Whether rounding alone may have decided against invariance: then measure in float64.

        Fresh models whose blocks hardly act (LayerScale of 1e-5) move their logits so little, control included, that
        float32 leaves 2e-3 of it; models that do read the mean are above 1e-1.
        """
        return not self.invariant and self.max_abs_logit_change < 0.1 * self.control_max_abs_logit_change

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


@torch.no_grad()
def shift_test(
    model: SplitViT, images_or_tokens: Float[Tensor, "B ..."], *, relative_shift: float = 10.0, seed: int = 0
) -> ShiftTest:
    """Add ±c·(1,…,1) to every token (the sign drawn per token) and compare with random noise of the same norm.

    `images_or_tokens` is (B,3,H,W) in [0,1] or (B,N,D). c is such that the shift has `relative_shift` times the mean
    token norm. Invariant means: largest logit change at most SHIFT_THRESHOLD of the control's. A model whose logits
    the control does not move either (an all-zero head) is undecidable and counts as not invariant.
    """
    if images_or_tokens.ndim not in (3, 4) or relative_shift <= 0:
        raise NullspaceError(
            f"expected images (B,3,H,W) or tokens (B,N,D) and relative_shift > 0, got shape "
            f"{tuple(images_or_tokens.shape)} and {relative_shift}"
        )
    tokens = model.tokens(images_or_tokens) if images_or_tokens.ndim == 4 else images_or_tokens
    length = relative_shift * mean_token_norm(tokens)
    clean = model.logits_from_tokens(tokens)
    changes = [
        float((model.logits_from_tokens(tokens + (length * unit).to(tokens)) - clean).abs().max())
        for unit in _directions(tokens.shape[1], tokens.shape[2], seed)
    ]
    return _judged(changes, relative_shift)


@torch.no_grad()
def projection_shift_test(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], *, relative_shift: float = 10.0, seed: int = 0
) -> ShiftTest:
    """`shift_test` on the output of the patch embedding's convolution, before a norm the stem may have.

    Images (B,3,H,W) in [0,1]. Equal to `shift_test` where the stem is nothing but the convolution. Raises
    CannotCutError when the stem is not one convolution on patches.
    """
    if images.ndim != 4 or relative_shift <= 0:
        raise NullspaceError(
            f"expected images (B,3,H,W) and relative_shift > 0, got shape {tuple(images.shape)} and {relative_shift}"
        )
    convolution = model.patch_projection
    clean, raw = _logits_and_output(model, convolution, images)  # (B,K) and (B,D,gh,gw)
    length = relative_shift * mean_token_norm(raw.flatten(2).transpose(1, 2))
    changes: list[float] = []
    for unit in _directions(raw.shape[2] * raw.shape[3], raw.shape[1], seed):
        moved = raw + (length * unit.T.unflatten(1, raw.shape[2:])).to(raw)
        changes.append(float((_logits_and_output(model, convolution, images, moved)[0] - clean).abs().max()))
    return _judged(changes, relative_shift)


def exact_kernel(
    model: SplitViT, images: Float[Tensor, "B 3 H W"] | None = None, *, rtol: float | None = None, seed: int = 0
) -> PatchKernel:
    """The whole exact kernel of a model: modulo the shift where `projection_shift_test` finds it ignored.

    `images` (B,3,H,W) in [0,1] are what is measured on; by default two of uniform noise by `seed`. The answer's
    `modulo_shift` says what was found. A case in doubt is measured again on a copy in float64.
    """
    if images is None:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(2, 3, *model.preprocessing.input_size, generator=generator)
    measured = projection_shift_test(model, images, seed=seed)
    if measured.in_doubt:
        measured = projection_shift_test(copy.deepcopy(model).cpu().double(), images.cpu(), seed=seed)
    return patch_kernel(model, rtol=rtol, modulo_shift=measured.invariant)


def _logits_and_output(
    model: SplitViT, module: nn.Module, images: Tensor, instead: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits, and what `module` gave on the way; with `instead` that is passed on in its place."""
    outputs: list[Tensor] = []

    def see(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        outputs.append(output)
        return instead

    hook = module.register_forward_hook(see)
    try:
        return model(images), outputs[0]
    finally:
        hook.remove()


def _judged(changes: list[float], relative_shift: float) -> ShiftTest:
    shift, control = changes
    return ShiftTest(
        invariant=control > 0 and shift <= SHIFT_THRESHOLD * control,
        relative_shift=relative_shift,
        max_abs_logit_change=shift,
        control_max_abs_logit_change=control,
    )


def _directions(count: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Shift and control (N,D), every token of norm 1; the control holds none of the shift that is tested."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, 1), generator=generator) * 2.0 - 1.0
    random = remove_shift(torch.randn(count, dim, generator=generator))
    return (signs / dim**0.5).expand(count, dim), random / random.norm(dim=-1, keepdim=True)

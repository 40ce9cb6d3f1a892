"""Controls: noise of equal norm and no structure. No table about learned noise is shown without them.

Equal norm means equal EFFECTIVE norm: in a shift-invariant model the part along (1,...,1) of each token does nothing,
so it is removed from the noise before its norm is taken and from the control before it is rescaled.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.norms import effective, hold_token_norm, token_norms

Hold = Literal["total", "token"]


def permuted(
    noise: Tensor, generator: torch.Generator, *, shift_invariant: bool = False, hold: Hold = "total"
) -> Tensor:
    """All N*D elements of `noise` (N,D) in random order: the published control.

    `hold="total"` keeps the norm of the whole tensor, `hold="token"` the norm of every single token, so that relative
    norm and spread agree exactly too. The generator lives on the CPU: the same seed gives the same control everywhere.
    """
    counted = _checked(noise, shift_invariant)
    return _matched(in_random_order(counted, generator), counted, shift_invariant, hold)


def gaussian(
    noise: Tensor, generator: torch.Generator, *, shift_invariant: bool = False, hold: Hold = "total"
) -> Tensor:
    """Independent normal noise shaped like `noise` (N,D), of its norm; arguments as for `permuted`."""
    counted = _checked(noise, shift_invariant)
    drawn = torch.randn(counted.shape, generator=generator, dtype=torch.float32).to(counted)
    return _matched(drawn, counted, shift_invariant, hold)


def uniform(
    noise: Tensor, generator: torch.Generator, *, shift_invariant: bool = False, hold: Hold = "total"
) -> Tensor:
    """Independent uniform noise, symmetric about 0, like `noise` (N,D), of its norm; arguments as for `permuted`."""
    counted = _checked(noise, shift_invariant)
    drawn = torch.rand(counted.shape, generator=generator, dtype=torch.float32).mul(2).sub(1).to(counted)
    return _matched(drawn, counted, shift_invariant, hold)


def in_random_order(values: Tensor, generator: torch.Generator) -> Tensor:
    """All elements of a tensor of any shape in random order: what `permuted` draws, before any norm is held."""
    order = torch.randperm(values.numel(), generator=generator).to(values.device)
    return values.reshape(-1)[order].reshape(values.shape)


def _checked(noise: Tensor, shift_invariant: bool) -> Tensor:
    if noise.ndim != 2 or noise.numel() == 0 or not noise.is_floating_point():
        raise NullspaceError(f"expected float noise (N,D), got {noise.dtype} of shape {tuple(noise.shape)}")
    if not bool(torch.isfinite(noise).all()):
        raise NullspaceError("expected finite noise, got NaN or infinite entries; a control of it would mean nothing")
    return effective(noise.detach(), shift_invariant)


def _matched(control: Tensor, counted: Tensor, shift_invariant: bool, hold: Hold) -> Tensor:
    """Control rescaled to the norm of `counted`, for the whole tensor or token by token."""
    control = effective(control, shift_invariant)
    if hold == "token":
        return hold_token_norm(control, token_norms(counted))
    if hold != "total":
        raise NullspaceError(f'expected hold "total" or "token", got {hold!r}')
    length = token_norms(control).square().sum().sqrt()
    wanted = token_norms(counted).square().sum().sqrt()
    return control * (wanted / length).to(control) if float(length) > 0 else control

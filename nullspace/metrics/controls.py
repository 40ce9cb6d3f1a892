"""Controls: noise of equal norm and no structure. No table about learned noise is shown without them.

Equal norm means equal EFFECTIVE norm: in a shift-invariant model the part along (1,...,1) of each token does nothing,
so it is removed from the noise before its norm is taken and from the control before it is rescaled.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.metrics.norms import effective, hold_token_norm, token_norms

Hold = Literal["total", "token"]


def permuted(noise: Tensor, draws: Draws, *, shift_invariant: bool = False, hold: Hold = "total") -> Tensor:
    """All N*D elements of `noise` (N,D) in random order, (n,N,D) for n draws: the published control.

    `hold="total"` keeps the norm of the whole tensor, `hold="token"` the norm of every single token, so that relative
    norm and spread agree exactly too. Same dtype and device; the same draws give the same control everywhere.
    """
    counted = _checked(noise, shift_invariant)
    drawn = draws.shuffled(counted.expand(len(draws), -1, -1))
    return _matched(drawn, counted, shift_invariant, hold)


def gaussian(noise: Tensor, draws: Draws, *, shift_invariant: bool = False, hold: Hold = "total") -> Tensor:
    """Independent normal noise (n,N,D), each like `noise` (N,D) and of its norm; arguments as for `permuted`."""
    counted = _checked(noise, shift_invariant)
    drawn = draws.to(noise.device).normal(*noise.shape).to(counted)
    return _matched(drawn, counted, shift_invariant, hold)


def uniform(noise: Tensor, draws: Draws, *, shift_invariant: bool = False, hold: Hold = "total") -> Tensor:
    """Independent uniform noise (n,N,D), symmetric about 0, of the norm of `noise` (N,D), as `permuted`."""
    counted = _checked(noise, shift_invariant)
    drawn = draws.to(noise.device).uniform(*noise.shape).mul(2).sub(1).to(counted)
    return _matched(drawn, counted, shift_invariant, hold)


def _checked(noise: Tensor, shift_invariant: bool) -> Tensor:
    if noise.ndim != 2 or noise.numel() == 0 or not noise.is_floating_point():
        raise NullspaceError(f"expected float noise (N,D), got {noise.dtype} of shape {tuple(noise.shape)}")
    if not bool(torch.isfinite(noise).all()):
        raise NullspaceError("expected finite noise, got NaN or infinite entries; a control of it would mean nothing")
    return effective(noise.detach(), shift_invariant)


def _matched(control: Tensor, counted: Tensor, shift_invariant: bool, hold: Hold) -> Tensor:
    """Controls (n,N,D) rescaled to the norm of `counted` (N,D), for the whole tensor or token by token."""
    control = effective(control, shift_invariant)
    if hold == "token":
        return hold_token_norm(control, token_norms(counted))
    if hold != "total":
        raise NullspaceError(f'expected hold "total" or "token", got {hold!r}')
    lengths = token_norms(control).square().sum(dim=-1).sqrt()[:, None, None]
    wanted = token_norms(counted).square().sum().sqrt()
    return torch.where(lengths > 0, control * (wanted / lengths).to(control), control)

"""Norms of token noise, the tokens that carry it, and the shift part that must not count. In a unit: `unit`."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.errors import NullspaceError


def mean_token_norm(tokens: Tensor) -> float:
    """Mean Euclidean norm of one token over tokens (n,N,D) or (N,D): the unit in which relative norms are given."""
    if tokens.ndim < 2 or tokens.numel() == 0:
        raise NullspaceError(f"expected tokens (n,N,D) of at least one image, got shape {tuple(tokens.shape)}")
    return float(token_norms(tokens).mean())


def token_norms(noise: Tensor) -> Tensor:
    """Norm of every token of (...,N,D): (...,N). float64 where the device has it, as sums of squares lose digits."""
    precise = noise.detach().float() if noise.device.type == "mps" else noise.detach().double()
    return torch.linalg.vector_norm(precise, dim=-1)


def total_norm(noise: Tensor) -> float:
    """Euclidean norm of noise (...,N,D) as a whole."""
    return float(token_norms(noise).square().sum().sqrt())


def remove_shift(noise: Tensor) -> Tensor:
    """Noise (...,N,D) without its multiples of (1,...,1) per token, which LayerNorm removes anyway."""
    return noise - noise.mean(dim=-1, keepdim=True)


def effective(noise: Tensor, shift_invariant: bool) -> Tensor:
    """The part of noise (...,N,D) that counts: without its shift in a model that was measured to ignore it."""
    return remove_shift(noise) if shift_invariant else noise


def spread(noise: Tensor) -> float:
    """Effective share of tokens carrying the noise (N,D): (sum |v_i|^2)^2 / (N sum |v_i|^4), from 1/N to 1.

    Zero noise is carried by no token: 0.
    """
    energy = token_norms(noise).square()
    largest = float(energy.max())
    if largest == 0.0:
        return 0.0
    energy = energy / largest  # fourth powers of large noise would overflow, of small noise vanish
    return float(energy.sum().square() / (energy.numel() * energy.square().sum()))


def hold_token_norm(noise: Tensor, norm: float | Tensor) -> Tensor:
    """Noise (...,N,D) with every token rescaled to `norm` (a number, or one per token); a zero token stays zero."""
    lengths = torch.linalg.vector_norm(noise, dim=-1, keepdim=True)
    wanted = norm.to(noise).unsqueeze(-1) if isinstance(norm, Tensor) else norm
    return torch.where(lengths > 0, noise * (wanted / lengths), noise)


def check_token_norm(token_norm: float) -> None:
    """Raise when a token norm cannot serve as a unit."""
    if not 0.0 < token_norm < float("inf"):
        raise NullspaceError(f"expected a positive finite mean token norm, got {token_norm}; are all tokens zero?")

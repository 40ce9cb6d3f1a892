"""Where learning starts: channel directions that the loss feels least, found around noise of the norm in question.

The D×D sum, over tokens and images, of g gᵀ with g the loss's gradient at a token is known well after a few images, as
each gives N tokens. Its least eigenvectors are directions that the model hardly reads anywhere. It is taken around
Gaussian noise first and then around noise in the directions found: far from clean tokens the model answers otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.noise.form import NoiseForm

ImageGradients = Callable[[Tensor, Tensor], Tensor]
"""Indices (b,) of images and noise (b,N,D) on the CPU to the gradient (b,N,D), on any device, of each image's loss."""


@dataclass(frozen=True, eq=False)
class ChannelStart:
    """Noise (N,D) to start from, the sensitivities (D,) of channel directions, rising, and what they cost.

    Sensitivities are in units of their mean; a shift direction is left out of them. `image_steps` counts backward
    passes over one image.
    """

    noise: Tensor
    sensitivities: Tensor
    image_steps: int


def channel_start(
    gradients: ImageGradients,
    batches: Callable[[], Tensor],
    shape: tuple[int, int],
    form: NoiseForm,
    generator: torch.Generator,
    *,
    directions: int,
    rounds: int = 3,
    images: int = 64,
) -> ChannelStart:
    """Random combinations, token by token, of the least sensitive `directions` of the last of `rounds`.

    `batches` gives the indices of the next images; each round takes at least `images` of them. A single direction is
    given with a random sign per token. Noise is drawn on the CPU, by `generator`: the same for every device.
    """
    if not 1 <= directions <= shape[1] or rounds < 1 or images < 1:
        raise NullspaceError(
            f"expected 1 <= directions <= D = {shape[1]}, rounds >= 1 and images >= 1, got {directions}, {rounds} and "
            f"{images}"
        )
    basis, sensitivities, steps = torch.eye(shape[1], dtype=torch.float64), torch.ones(0), 0
    for _ in range(rounds):
        covariance, seen = torch.zeros(shape[1], shape[1], dtype=torch.float64), 0
        while seen < images:
            index = batches()
            noise = torch.stack([_draw(basis, shape[0], form, generator) for _ in index])
            found = gradients(index, noise).detach().cpu().double().flatten(0, 1)
            covariance += found.T @ found
            seen += len(index)
        sensitivities, vectors = least_sensitive(covariance, form.shift_invariant)
        basis, steps = vectors[:, :directions].T, steps + seen
    return ChannelStart(_draw(basis, shape[0], form, generator), sensitivities, steps)


def least_sensitive(covariance: Tensor, shift_invariant: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues over their mean, rising, and eigenvectors (D,·) as columns, of a gradient covariance (D,D) float64.

    Of a shift invariant model (1,…,1) is left out: exactly null, it would hide all others and be removed afterwards.
    """
    if not bool(torch.isfinite(covariance).all()) or not float(covariance.diagonal().sum()) > 0:
        raise NullspaceError(
            "expected gradients that are finite and not all zero, got none such; does the model's output depend on its "
            "tokens (a head of zeros?), and is it finite in this precision?"
        )
    if shift_invariant:
        dim = len(covariance)
        beyond = 2 * float(covariance.diagonal().sum())
        values, vectors = torch.linalg.eigh(_centred(covariance) + beyond / dim)  # (1,…,1) becomes the last
        values, vectors = values[:-1], vectors[:, :-1]
    else:
        values, vectors = torch.linalg.eigh(covariance)
    return values / values.mean(), vectors


def _centred(covariance: Tensor) -> Tensor:
    rows = covariance - covariance.mean(0, keepdim=True)
    return rows - rows.mean(1, keepdim=True)


def _draw(basis: Tensor, tokens: int, form: NoiseForm, generator: torch.Generator) -> Tensor:
    """Noise (N,D) float32 of the norm held: each token a random combination of the rows of `basis` (k,D)."""
    coefficients = torch.randn(tokens, len(basis), generator=generator, dtype=torch.float64)
    whole = NoiseForm(form.norm, None, form.shift_invariant)
    return whole.value({"noise": coefficients @ basis}).float()

"""Images as an encoder sees them, computed once: what noise is learned on, chosen by, calibrated and tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.model.shapes import Float, UInt8
from nullspace.model.vit import Outputs


@dataclass(frozen=True, eq=False)
class EncoderData:
    """States (n,S,D) of n >= 1 images, as `Encoder.states` gives them, their clean outputs, and the unit of noise.

    The tensors may stay on the CPU: at most `batch_size` images at a time move to the model's device. `prepare` makes
    it of images, `of` of states. Raises NullspaceError when the parts do not fit or clean logits are not finite.
    """

    encoder: Encoder
    states: Float[Tensor, "n S D"]
    clean: Outputs
    unit: Unit
    batch_size: int = 64

    def __post_init__(self) -> None:
        states, clean = self.states, self.clean
        _check_states(self.encoder, states)
        if not len(states) == len(clean.logits) == len(clean.features):
            raise NullspaceError(
                f"expected clean outputs of the same {len(states)} images as the states, got shapes "
                f"{tuple(clean.features.shape)} and {tuple(clean.logits.shape)}"
            )
        bad = int((~torch.isfinite(clean.logits).all(dim=-1)).sum())
        if bad:
            raise NullspaceError(
                f"clean logits of {bad} of {len(states)} images are not finite; check weights and images"
            )
        _check_batch_size(self.batch_size)

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        states: Float[Tensor, "n S D"],
        clean: Outputs | None = None,
        *,
        shift_invariant: bool,
        token_norm: float | None = None,
        batch_size: int = 64,
    ) -> Self:
        """Of states (n,S,D); clean outputs are computed unless given.

        `shift_invariant`: as `shift_test` measured. `token_norm`: the unit of relative norms, by default of the states.
        """
        _check_states(encoder, states)
        _check_batch_size(batch_size)
        states = states.detach()
        unit = Unit.of(encoder.patch_part(states), shift_invariant=shift_invariant, token_norm=token_norm)
        if clean is None:
            clean = _outputs(encoder, states.split(batch_size), states.device)
        return cls(encoder, states, clean, unit, batch_size)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.states)

    def subset(self, rows: slice | Tensor) -> Self:
        """Those images alone, in the same unit."""
        clean = Outputs(self.clean.features[rows], self.clean.logits[rows])
        return replace(self, states=self.states[rows], clean=clean)

    def outputs(self, noise: Float[Tensor, "N D"]) -> Outputs:
        """What the model says under noise (N,D), on the CPU."""
        self.check_noise(noise)
        batches = (states.to(self.encoder.device) for states in self.states.split(self.batch_size))
        noised = (self.encoder.add(states, noise.detach().to(states)) for states in batches)
        return _outputs(self.encoder, noised, torch.device("cpu"))

    def check_noise(self, noise: Tensor) -> None:
        """Raise NullspaceError unless noise has the shape (N,D) of one image's patch tokens."""
        if tuple(noise.shape) != self.encoder.noise_shape:
            raise NullspaceError(
                f"expected noise of shape {self.encoder.noise_shape} for {self.encoder.model.name} at "
                f"{self.encoder.injection!r}, got {tuple(noise.shape)}"
            )

    def fingerprint(self) -> str:
        """sha256 of the states: which images, through which weights."""
        return hashlib.sha256(self.states.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def prepare(
    encoder: Encoder,
    images: Float[Tensor, "n 3 H W"] | UInt8[Tensor, "n 3 H W"],
    *,
    shift_invariant: bool,
    token_norm: float | None = None,
    batch_size: int = 64,
) -> EncoderData:
    """Data of images (n,3,H,W), float in [0,1] or uint8, computed and kept on the model's device; see `EncoderData`."""
    if len(images) == 0:
        raise NullspaceError("expected at least one image, got none")
    _check_batch_size(batch_size)
    states: list[Tensor] = []
    with torch.no_grad():
        for batch in images.split(batch_size):
            batch = batch.to(encoder.device)
            states.append(encoder.states(batch.float() / 255 if batch.dtype == torch.uint8 else batch))
    return EncoderData.of(
        encoder,
        torch.cat(states),
        _outputs(encoder, states, encoder.device),
        shift_invariant=shift_invariant,
        token_norm=token_norm,
        batch_size=batch_size,
    )


@torch.no_grad()
def _outputs(encoder: Encoder, batches: Iterable[Tensor], home: torch.device) -> Outputs:
    features, logits = [], []
    for states in batches:
        found = encoder.outputs(states.to(encoder.device))
        features.append(found.features.to(home))
        logits.append(found.logits.to(home))
    return Outputs(torch.cat(features), torch.cat(logits))


def _check_states(encoder: Encoder, states: Tensor) -> None:
    if states.ndim != 3 or len(states) == 0 or tuple(encoder.patch_part(states).shape[1:]) != encoder.noise_shape:
        raise NullspaceError(
            f"expected states (n,S,D) of n >= 1 images with {encoder.noise_shape} patch tokens, as "
            f"`Encoder.states` gives them, got shape {tuple(states.shape)}"
        )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise NullspaceError(f"expected batch_size >= 1, got {batch_size}")

"""Noise from the kernel of the patch embedding and its controls of equal norm, drawn for each image by its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nullspace.kernel import controls as kernel_controls
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.certify import token_changes

_BOX_ITERATIONS = 2000  # patches that have converged are set aside: only the others cost further iterations
CONDITIONS = ("exact", "permuted", "gaussian", "in_box")


@dataclass(frozen=True)
class KernelNoise:
    """Noise from the exact kernel at a given RMS (normalised units), drawn for every image, and its controls."""

    model: SplitViT
    kernel: PatchKernel
    rms: float
    seed: int

    def draw(self, ids: list[str]) -> Tensor:
        """Noise from the kernel for each image, (n,N,3p²): what all conditions of `images` start from."""
        draws = Draws(self.seed, "kernel", ids, self.model.patch_projection.weight.device)
        return self.kernel.drawn(self.model.num_patches, rms=self.rms, draws=draws)

    def images(self, condition: str, images: Tensor, ids: list[str], drawn: Tensor) -> Tensor:
        """Images (n,3,H,W) with the noise of a condition, made from what `draw(ids)` gave.

        Only `in_box` stays within [0,1] and is rounded to 8 bits, in the kernel too: a picture that can be saved. The
        others may leave the pixel range, as published, so that all have exactly the same norm.
        """
        if condition == "in_box":
            return self._in_box(images, drawn)
        change = _CHANGES[condition](self, drawn, ids)
        return images + self.model.unpatchify(change.to(images))

    def _in_box(self, images: Tensor, drawn: Tensor) -> Tensor:
        patches = self.model.patchify(images)
        change = project_to_box(patches, drawn.to(patches), self.kernel, iterations=_BOX_ITERATIONS).delta
        return from_uint8(self._eight_bits.save(images, (images + self.model.unpatchify(change)).clamp(0, 1)))

    def token_changes(self, images: Tensor, noised: Tensor) -> Tensor:
        """How far the tokens of every patch moved (n,N), see `nullspace.watermark.certify.token_changes`."""
        return token_changes(self.model, self._eight_bits.plan.mapping, images, noised)

    @cached_property
    def _eight_bits(self) -> EightBits:
        return EightBits.of(self.model, self.kernel)

    def _permuted(self, drawn: Tensor, ids: list[str]) -> Tensor:
        return kernel_controls.permuted(drawn, self.kernel, Draws(self.seed, "kernel_permuted", ids))

    def _gaussian(self, drawn: Tensor, ids: list[str]) -> Tensor:
        return kernel_controls.gaussian(drawn, self.kernel, Draws(self.seed, "kernel_gaussian", ids))

    def rms_of(self, change: Tensor) -> Tensor:
        """RMS of a change of images (n,3,H,W), in normalised units: (n,)."""
        std = torch.tensor(self.model.preprocessing.std, dtype=change.dtype, device=change.device)
        return (change / std[:, None, None]).flatten(1).square().mean(dim=1).sqrt()


_CHANGES: Mapping[str, Callable[[KernelNoise, Tensor, list[str]], Tensor]] = {
    "exact": lambda noise, drawn, ids: drawn,
    "permuted": KernelNoise._permuted,
    "gaussian": KernelNoise._gaussian,
}

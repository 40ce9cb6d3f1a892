"""Changes of equal size beside an attack: without meaning, in the kernel, in the row space, or with noise added."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.metrics.draws import Draws
from nullspace.model.vit import SplitViT
from nullspace.pixels.largest import largest_noise
from nullspace.pixels.projection import project_to_box
from nullspace.robustness.attacks.cascade import Cascade, attacked
from nullspace.robustness.attacks.norm import column, steepest
from nullspace.robustness.attacks.subspace import Subspace
from pipelines.evaluations.adversarial.ways import Way

_NOISE_RMS = 1.0  # of noise in the kernel, in normalised units, before it is fitted into the pixel range
_STEPS = 3  # of the largest noise: longer by 1 % with twice as many


@dataclass(frozen=True, eq=False)
class Beside:
    """Makes pictures (n,3,H,W) in [0,1] for images of these ids; `kernel` is None where it is zero."""

    model: SplitViT
    kernel: PatchKernel | None
    seed: int

    def made(self, what: str, way: Way, images: Tensor, found: Tensor, labels: Tensor, ids: list[str]) -> Tensor:
        """The pictures of a condition, from the `found` ones of the attack itself."""
        draws = Draws(self.seed, f"adversarial_{way.condition(what)}", ids, images.device)
        if what == "signs":
            signs = steepest(draws.signs(*images.shape[1:]), way.norm)
            return (images + way.epsilon * signs).clamp(0, 1)
        if what == "permuted":
            return (images + draws.shuffled(found - images)).clamp(0, 1)
        if what == "kernel_noise":
            return self._noised(found, draws)
        return self._confined(what, way, images, labels, draws)

    def _noised(self, pictures: Tensor, draws: Draws) -> Tensor:
        assert self.kernel is not None
        patches = self.model.patchify(pictures)
        noise = self.kernel.drawn(patches.shape[1], rms=_NOISE_RMS, draws=draws)
        inside = project_to_box(patches, noise.to(patches), self.kernel).delta
        return self.model.unpatchify(patches + inside).clamp(0, 1)

    def _confined(self, what: str, way: Way, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """What projected gradients reach in a subspace; where they reach nothing, their last picture is the image."""
        assert self.kernel is not None
        made = Subspace.kernel if what == "kernel" else Subspace.row_space
        subspace = made(self.model, self.kernel)
        return attacked(
            self.model, images, labels, draws, norm=way.norm, epsilons=[way.epsilon], cascade=Cascade(("pgd",)),
            inside=subspace,
        ).pictures  # fmt: skip

    def largest_invisible(self, images: Tensor, ids: list[str]) -> Tensor:
        """Euclidean length (n,) of the largest noise in kernel and pixel range, up to a local optimum, pixel units."""
        if self.kernel is None:
            return torch.zeros(len(images), dtype=torch.float64)
        seeds = Draws(self.seed, "adversarial_largest", ids).integers(1 << 31).tolist()
        lengths = []
        for image, seed in zip(images, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            found = largest_noise(self.model.patchify(image[None]), self.kernel, generator=generator, steps=_STEPS)
            lengths.append(found.delta.square().sum().sqrt().cpu())
        return torch.stack(lengths)


def reached(pictures: Tensor, images: Tensor, robust: Tensor) -> Tensor:
    """The pictures of images that were broken within ε, and the other images as they are."""
    return torch.where(column(robust.to(images.device)), images, pictures)

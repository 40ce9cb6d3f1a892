"""One change of pixels for every image: it is learned from some, and the model is not to notice it on others either.

The image-level variant of learned null noise, with two things held that the published one leaves free: the root mean
square of every patch, which could otherwise go where it is not seen, and the pixel range, within which each image is
clamped. Clamping is what a change from the kernel of the patch embedding does not survive: what is cut off differs from
image to image. So learning starts in the kernel and goes on through the clamped pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from nullspace.errors import NullspaceError
from nullspace.fooling.closeness import inverse_of_classifier
from nullspace.fooling.depth import squared_distance
from nullspace.model.images import round_to_uint8
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import patch_map

STEPS, BATCH = 80, 16
RATE = 0.03  # of the root mean square of the numbers learned, in the first step
BETAS = (0.9, 0.99)
DAMPING = 1e-2  # τ, of the largest singular value
_TINY = 1e-30


def universal_change(
    model: SplitViT,
    images: Float[Tensor, "n 3 H W"],
    *,
    rms: float,
    modulo_shift: bool = False,
    steps: int = STEPS,
    batch: int = BATCH,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Float[Tensor, "3 H W"]:
    """A change (3,H,W) of pixels that hardly moves the logits of any image, each patch of it of root mean square `rms`.

    `images` (n,3,H,W) in [0,1] are learned from, `rms` is relative to the pixel range, and `modulo_shift` is right for
    models that `exact_kernel` finds to ignore shifts of tokens. `steps` Adam steps of `batch` images each, drawn
    by `seed`; with 0 it is the noise that learning starts at. `progress` is shown the step and its loss. Raises
    CannotCutError, NullspaceError, ImageRangeError.
    """
    check_images(images, model.preprocessing.input_size, check_range=True)
    if not 0 < rms < 1 or steps < 0 or batch < 1:
        raise NullspaceError(f"expected 0 < rms < 1, steps >= 0 and batch >= 1, got {rms}, {steps} and {batch}")
    generator = torch.Generator().manual_seed(seed)  # on the CPU: equal draws on every device
    form = UniversalForm(model, rms, modulo_shift=modulo_shift)
    numbers = form.start(generator).requires_grad_()
    clean = _logits_of(model, images, batch)
    metric = inverse_of_classifier(model, clean)
    adam = torch.optim.Adam([numbers], lr=RATE, betas=BETAS, eps=_TINY)
    batches = _batches(len(images), batch, generator)
    for step in range(steps):
        index = next(batches)
        adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
        loss = _loss(model, images[index].to(numbers), clean[index].to(numbers), form.change(numbers), metric)
        (numbers.grad,) = torch.autograd.grad(loss, numbers)
        adam.step()
        if progress is not None:
            progress(step + 1, float(loss.detach()))
    return form.change(numbers).detach()


class UniversalForm:
    """The numbers that are learned, patches (N,3p²), and the change of pixels that they stand for.

    A direction of the patch embedding's row space counts less the larger its singular value is, by τ/(σ/σ_max + τ):
    steps of one size for every number then move tokens little, and random numbers are noise close to the kernel, also
    where the kernel itself is small.
    """

    def __init__(self, model: SplitViT, rms: float, *, modulo_shift: bool = False) -> None:
        self.model, self.rms = model, rms
        mapping, device = patch_map(model, modulo_shift=modulo_shift), next(model.parameters()).device
        sizes = mapping.sigma / mapping.sigma.max()
        self.rows = mapping.right.to(device, torch.float32)
        self.less = (1 - DAMPING / (sizes + DAMPING)).to(device, torch.float32)

    def start(self, generator: torch.Generator) -> Tensor:
        """Random numbers (N,3p²) of root mean square 1, close to the kernel themselves."""
        noise = torch.randn(3, *self.model.preprocessing.input_size, generator=generator)
        numbers = self._damped(self.model.patchify(noise[None])[0].to(self.rows))
        return numbers / numbers.square().mean().sqrt()

    def change(self, numbers: Tensor) -> Tensor:
        """The change (3,H,W), every patch of the root mean square held; differentiable."""
        patches = self._damped(numbers)
        size = patches.square().mean(dim=1, keepdim=True).sqrt()
        return self.model.unpatchify((patches * (self.rms / size.clamp_min(_TINY)))[None])[0]

    def _damped(self, patches: Tensor) -> Tensor:
        return patches - ((patches @ self.rows) * self.less) @ self.rows.T


def changed(images: Float[Tensor, "n 3 H W"], change: Float[Tensor, "3 H W"]) -> Tensor:
    """Images in [0,1] with the change, clamped to the pixel range and rounded to 8 bits: uint8 (n,3,H,W)."""
    return round_to_uint8((images + change.to(images)).clamp(0, 1))


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of one batch after the other, for ever: every image once per pass, what is left of a pass left out."""
    order = RandomSampler(range(count), generator=generator)
    while True:
        yield from map(torch.tensor, BatchSampler(order, min(size, count), drop_last=True))


def _logits_of(model: SplitViT, images: Tensor, batch: int) -> Tensor:
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([model(part.to(device).float()).float().cpu() for part in images.split(batch)])


def _loss(model: SplitViT, images: Tensor, clean: Tensor, change: Tensor, metric: Tensor | None) -> Tensor:
    """Mean distance of the logits of a batch with the change, in `metric`: norms, so that no image decides it all."""
    logits = model((images + change).clamp(0, 1), check_range=False).float()
    if metric is not None:
        clean, logits = clean @ metric.to(clean), logits @ metric.to(logits)
    return (squared_distance(logits, clean) + _TINY).sqrt().mean()

"""Metamers: pictures that people see as the look and that the model takes for another image.

Feather et al. (Nature Neuroscience 2023) use the name for pictures whose activations at a stage of the model are those
of an image; theirs start at noise. Here they start at a look and never leave a ball around it or the pixel range, and
what is returned is the file's 8-bit pixels, measured as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.fooling.ball import LEVELS, Ball
from nullspace.fooling.closeness import Closeness
from nullspace.fooling.depth import State, state_at
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

STEPS = 40
ENOUGH = 1e-3  # of the squared distance between look and image: a tenth of a per cent
# Chosen at ε = 4/255 and 40 steps on 100 pairs of images that no figure is reported on.
MOMENTUM = 0.9
FIRST_STEP, LAST_STEP = 1.0, 0.05  # of the ball's reach
DECAY = 2.0  # power of the share of steps that are left


@dataclass(frozen=True, eq=False)
class Metamers:
    """Pictures `saved` (B,3,H,W) uint8, and how near they are to their images for the model.

    `distance` (B,) is the squared distance of the matched states over that between look and image, of the pictures as
    saved; `passes` (B,) how often the network ran forward and back for each.
    """

    saved: Tensor
    distance: Tensor
    passes: Tensor


def metamers(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    looks: Float[Tensor, "B 3 H W"],
    *,
    at: str = "logits",
    epsilon: float | None = None,
    rms: float | None = None,
    steps: int = STEPS,
    enough: float = ENOUGH,
    seen: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, Tensor], None] | None = None,
) -> Metamers:
    """Pictures near `looks` whose state in `model` is that of `images`, both (B,3,H,W) in [0,1].

    `at` is the depth that is matched: "logits", "features", "tokens" or "block:N". Pixel values change by at most
    `epsilon` (Linf), or by `rms` in the root mean square (L2), relative to the pixel range; without either they are
    free. At most `steps` passes; a picture is ready when its distance is at most `enough` and its class, where logits
    are matched, that of the image. `seen` makes inputs (B,3,h,w) of pictures (B,3,H,W), differentiably; with it looks
    may have another size, that of a file before the model's resize. `progress` is shown the step and the distances (B,)
    so far.

    Sign descent with momentum on gradients of unit mean magnitude (Dong et al. 2018, MI-FGSM), with steps that shrink;
    of all pictures visited the nearest is kept, of those of the right class if there is one. Raises NullspaceError,
    ImageRangeError.
    """
    look_at = seen if seen is not None else lambda pictures: pictures
    device = next(model.parameters()).device
    images, looks = (each.detach().to(device).float() for each in (images, looks))
    _check(model, images, look_at(looks), steps, enough)
    ball, depth = Ball.around(looks, epsilon=epsilon, rms=rms), state_at(model, at)

    def state(levels: Tensor) -> Tensor:
        return depth(look_at(levels / LEVELS))

    with torch.no_grad():
        closeness = Closeness.between(state(ball.centre), depth(images), model=model, at=at)
    search = _Search(ball, closeness)
    for step in range(steps):
        if not len(search.open):
            break
        search.look(state, enough)
        search.move(max(FIRST_STEP * ((steps - step) / steps) ** DECAY, LAST_STEP))
        if progress is not None:
            progress(step + 1, search.distance)
    saved = ball.rounded(search.best)
    with torch.no_grad():
        distance = closeness.distance(state(saved), torch.arange(len(saved), device=device))
    return Metamers(saved.to(torch.uint8), distance, search.passes)


def _check(model: SplitViT, images: Tensor, looks: Tensor, steps: int, enough: float) -> None:
    check_images(images, model.preprocessing.input_size, check_range=True)
    if images.shape != looks.shape:
        raise NullspaceError(
            f"expected a look for every image, of one shape, got {tuple(images.shape)} and {tuple(looks.shape)}"
        )
    if steps < 1 or not enough >= 0:
        raise NullspaceError(f"expected steps >= 1 and enough >= 0, got {steps} and {enough}")


class _Search:
    """All pictures of a batch on their way; those that are ready are set aside."""

    def __init__(self, ball: Ball, closeness: Closeness) -> None:
        count, device = len(ball.centre), ball.centre.device
        self.ball, self.closeness = ball, closeness
        self.best = ball.centre.clone()
        self.distance = torch.full((count,), torch.inf, device=device)
        self.passes = torch.zeros(count, device=device)
        self.open = torch.arange(count, device=device)
        self._of_class = torch.zeros(count, dtype=torch.bool, device=device)
        self._here, self._momentum = ball.centre.clone(), torch.zeros_like(ball.centre)

    def look(self, state: State, enough: float) -> None:
        """Ask the model of the open pictures, and take the gradient along."""
        index = self.open
        picture = self._here[index].requires_grad_()
        with torch.enable_grad():
            states = state(picture)
            (gradient,) = torch.autograd.grad(self.closeness.loss(states, index).sum(), picture)
        states = states.detach()
        distance, of_class = self.closeness.distance(states, index), self.closeness.of_class(states, index)
        self.passes[index] += 1
        self._keep(index, picture.detach(), distance, of_class)
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        # A picture without a gradient, of a saturated model for instance, keeps its direction.
        self._momentum[index] = MOMENTUM * self._momentum[index] + gradient / size.clamp_min(1e-30)
        self.open = index[~((distance <= enough) & of_class)]

    def _keep(self, index: Tensor, picture: Tensor, distance: Tensor, of_class: Tensor) -> None:
        """Pictures that are better than those before: of the right class, or as right and nearer."""
        before = self._of_class[index]
        better = (of_class & ~before) | ((of_class == before) & (distance < self.distance[index]))
        chosen = index[better]
        self.best[chosen], self.distance[chosen], self._of_class[chosen] = (
            picture[better], distance[better], of_class[better],
        )  # fmt: skip

    def move(self, share: float) -> None:
        """A step of the open pictures against the signs of their momentum, by a share of the ball's reach."""
        if len(self.open):
            index, ball = self.open, self.ball.subset(self.open)
            ahead = self._here[index] - share * ball.reach * self._momentum[index].sign()
            self._here[index] = ball.nearest(ahead)

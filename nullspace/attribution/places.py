"""Where a search for another explanation may put noise: in pixels near a picture, or on the tokens inside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.fooling.ball import LEVELS, Ball
from nullspace.metrics.draws import Draws
from nullspace.metrics.norms import token_norms
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.token_hook import add_to_tokens
from nullspace.model.vit import SplitViT

_TINY = 1e-30


class Place(Protocol):
    """What is searched in: values, an entry per image, that start somewhere and move by steps."""

    @property
    def start(self) -> Tensor: ...

    def moved(self, values: Tensor, uphill: Tensor, share: float) -> Tensor:
        """`values` after a step against `uphill`, by a `share` of how far noise may go, within what is allowed."""
        ...

    def seen(self, model: SplitViT, values: Tensor) -> AbstractContextManager[Tensor]:
        """Within it the model sees the noise in the pictures (B,3,H,W) that are given; differentiable by `values`."""
        ...

    def kept(self, values: Tensor) -> Tensor:
        """The values that are handed out: in pixels those that 8 bits keep."""
        ...

    def handed(self, values: Tensor) -> Tensor:
        """These in the form that is returned: in pixels uint8."""
        ...


@dataclass(frozen=True, eq=False)
class PixelPlace:
    """Pictures in levels of 8 bits, no pixel further from `centre` than the ball allows; `signs` say where to start."""

    ball: Ball
    signs: Tensor

    @classmethod
    def around(cls, model: SplitViT, pictures: Float[Tensor, "B 3 H W"], draws: Draws, *, epsilon: float) -> PixelPlace:
        """Within `epsilon` (Linf, relative to the pixel range) of `pictures` in [0,1].

        `draws` are keyed by the images' ids and give the start, as a picture itself is where the likeness of its map to
        itself is flat. Raises NullspaceError, ImageRangeError.
        """
        check_images(pictures, model.preprocessing.input_size, check_range=True)
        ball = Ball.around(pictures.detach().float(), epsilon=epsilon)
        return cls(ball, draws.to(pictures.device).signs(*pictures.shape[1:]))

    @property
    def start(self) -> Tensor:
        return self.ball.nearest(self.ball.centre + self.ball.reach / 2 * self.signs)

    def moved(self, values: Tensor, uphill: Tensor, share: float) -> Tensor:
        return self.ball.nearest(values - share * self.ball.reach * uphill.sign())

    @contextmanager
    def seen(self, model: SplitViT, values: Tensor) -> Iterator[Tensor]:
        del model  # sees them as pictures, and as 8 bits keep them; slopes pass through the rounding
        yield (values + (self.ball.rounded(values) - values).detach()) / LEVELS

    def kept(self, values: Tensor) -> Tensor:
        return self.ball.rounded(values)

    def handed(self, values: Tensor) -> Tensor:
        return values.to(torch.uint8)


@dataclass(frozen=True, eq=False)
class TokenPlace:
    """Noise (B,N,D) on the patch tokens of `images`, no token's longer than `longest` (B,1,1)."""

    images: Tensor
    longest: Tensor
    signs: Tensor

    @classmethod
    def of(cls, model: SplitViT, images: Float[Tensor, "B 3 H W"], draws: Draws, *, relative_norm: float) -> TokenPlace:
        """No longer than `relative_norm` times the mean token norm of the image. Raises as `PixelPlace.around` does."""
        if not 0 < relative_norm < float("inf"):
            raise NullspaceError(f"expected relative_norm > 0, got {relative_norm}")
        with torch.no_grad():
            tokens = model.tokens(images)
        longest = relative_norm * token_norms(tokens).mean(dim=1).to(tokens)
        return cls(images.detach(), longest[:, None, None], draws.to(tokens.device).signs(*tokens.shape[1:]).to(tokens))

    @property
    def start(self) -> Tensor:
        return self._within(self.signs * self.longest / (2 * self.signs.shape[2] ** 0.5))

    def moved(self, values: Tensor, uphill: Tensor, share: float) -> Tensor:
        steepest = torch.linalg.vector_norm(uphill, dim=2, keepdim=True).clamp_min(_TINY)
        return self._within(values - share * self.longest * uphill / steepest)

    @contextmanager
    def seen(self, model: SplitViT, values: Tensor) -> Iterator[Tensor]:
        with token_noise(model, values):
            yield self.images

    def kept(self, values: Tensor) -> Tensor:
        return values

    def handed(self, values: Tensor) -> Tensor:
        return values

    def _within(self, values: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(values, dim=2, keepdim=True).clamp_min(_TINY)
        return values * (self.longest / lengths).clamp_max(1)


@contextmanager
def token_noise(model: SplitViT, noise: Float[Tensor, "B N D"]) -> Iterator[None]:
    """Within it `noise` (B,N,D), of which gradients may be taken, is on the patch tokens of whatever the model sees."""
    hook = add_to_tokens(model, noise)
    try:
        yield
    finally:
        hook.remove()

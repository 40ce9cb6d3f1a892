"""The model under attack: asked in full precision, a few images at a time, every pass counted for its image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nullspace.errors import NullspaceError

IndexedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits (n,K), labels (n,) and places (n,) among the images: (n,)."""
_ON_A_CPU = 6  # images per pass on a CPU: the activations of more do not fit its cache


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """float32 as it is: gradients of half precision and TF32 vanish, and make a model look robust."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Victim:
    """A model of images (n,3,H,W) in [0,1], and how many passes each of `count` images has cost.

    `forwards` and `backwards` (count,) are on the CPU. Methods take the places `index` (n,) of images among them.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], count: int) -> None:
        self.model = model
        self.forwards, self.backwards = (torch.zeros(count, dtype=torch.int64) for _ in range(2))

    def logits(self, images: Tensor, index: Tensor) -> Tensor:
        """Logits (n,K) without a gradient."""
        with torch.no_grad(), full_precision(images.device):
            found = torch.cat([self._asked(part) for part in _parts(images)])
        self.forwards[index.cpu()] += 1
        return found

    def slope(self, images: Tensor, labels: Tensor, index: Tensor, loss: IndexedLoss) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n,K), the loss (n,) and its gradient (n,3,H,W)."""
        found = []
        groups = zip(_parts(images), _parts(labels, images), _parts(index, images), strict=True)
        with torch.enable_grad(), full_precision(images.device):
            for part, kinds, places in groups:
                point = part.detach().requires_grad_()
                logits = self._asked(point)
                values = loss(logits, kinds, places)
                (gradient,) = torch.autograd.grad(values.sum(), point)
                found.append((logits.detach(), values.detach(), gradient))
        self.forwards[index.cpu()] += 1
        self.backwards[index.cpu()] += 1
        logits, values, gradient = (torch.cat(each) for each in zip(*found, strict=True))
        return logits, values, gradient

    def _asked(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        if logits.dtype not in (torch.float32, torch.float64):
            raise NullspaceError(
                f"expected logits in float32, got {logits.dtype}: gradients of less vanish, which looks like "
                "robustness; attack model.float()"
            )
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise NullspaceError(f"expected logits (n,K) of at least 2 classes, got shape {tuple(logits.shape)}")
        return logits


def _parts(values: Tensor, like: Tensor | None = None) -> tuple[Tensor, ...]:
    size = len(values) if (values if like is None else like).is_cuda else _ON_A_CPU
    return values.split(max(1, size))

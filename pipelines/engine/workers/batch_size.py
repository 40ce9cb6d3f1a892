"""How many images a worker has in memory at once: as given, or on a GPU as many as fit, found by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from pydantic import BaseModel

from nullspace.model.vit import SplitViT

T = TypeVar("T")
R = TypeVar("R")
_log = logging.getLogger(__name__)
_LARGEST = 1024  # more images do not make a GPU faster, with any model
_SHARE = 0.4  # share of the free memory; what an evaluation needs is known only roughly
_PER_TOKEN = 24  # vectors of the model's width alive at once for a token of a pass: queries, keys, values, hidden
_PER_PIXEL = 48  # float32 numbers that an evaluation has at once for a number of an image


def is_given(settings: BaseModel) -> bool:
    """Whether a section of a config sets how many images are worked on at once."""
    return "batch_images" in settings.model_fields_set


class BatchSize:
    """Images at once; falls by half whenever the device's memory does not hold them."""

    def __init__(self, images: int) -> None:
        self.images = images
        self._reported = False

    def halve(self) -> None:
        """Half as many from here on; logged the first time."""
        if not self._reported:
            _log.warning(
                "out of memory on the device with %d images at once: halved until they fit; batch_images of the "
                "stage sets a number",
                self.images,
            )
            self._reported = True
        self.images //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # blocks of the sizes of the failed batch would stay reserved

    def each(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """What `work` makes of consecutive batches of `items`; a batch that does not fit is repeated in halves.

        So `work` may be called again with the first items of a call that failed. Raises torch.OutOfMemoryError when
        one item alone does not fit.
        """
        first = 0
        while first < len(items):
            batch = items[first : first + self.images]
            found: list[R] = []
            try:
                found.append(work(batch))
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            if found:
                first += len(batch)
                yield from found
            else:  # outside of `except`, where the error still holds what the batch allocated
                self.images = len(batch)
                self.halve()


def fitting(model: SplitViT, device: torch.device, least: int, *, gradients: bool) -> int:
    """A power of two of images, about what the free memory of a GPU holds; at least `least`, which is for others, too.

    An estimate to begin with: `BatchSize.each` corrects one too large. With `gradients` every block keeps its own.
    """
    if device.type != "cuda":
        return least
    free, _ = torch.cuda.mem_get_info(device)
    return images_in(_SHARE * free, model, least, gradients=gradients)


def images_in(room: float, model: SplitViT, least: int, *, gradients: bool) -> int:
    """The same for `room` bytes."""
    height, width = model.preprocessing.input_size
    depth = len(getattr(model.model, "blocks", range(12))) if gradients else 1
    tokens = model.num_patches + model.num_prefix_tokens
    of_one = 4 * (_PER_TOKEN * depth * tokens * model.embed_dim + _PER_PIXEL * 3 * height * width)
    fits = max(1, int(room / of_one))
    return min(_LARGEST, max(least, 1 << (fits.bit_length() - 1)))

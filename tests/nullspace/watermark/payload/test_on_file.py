"""Hidden messages on files of any size: read through the model's own resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.vit import SplitViT
from nullspace.watermark.certify import certify
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.on_file import embed_on_file
from tests.nullspace.watermark.payload.marked import pictures

MESSAGE = b"on file"


def seen(model: SplitViT, file: Tensor) -> Tensor:
    """What the model gets of a file (3,H,W) uint8: (1,3,h,w)."""
    return model.preprocessing.transform()(Image.fromarray(file.permute(1, 2, 0).numpy().astype(np.uint8)))[None]


@pytest.mark.parametrize("size", [(128, 128), (150, 201), (331, 260), (160, 500)])
def test_a_message_comes_back_through_the_resize(model: SplitViT, mark: HiddenMark, size: tuple[int, int]) -> None:
    file = pictures(1, 512)[0, :, : size[0], : size[1]].contiguous()
    before = seen(model, file)
    made = embed_on_file(mark, file, before[0], MESSAGE, psnr=40)
    after = seen(model, made.pixels)
    (found,) = mark.detect(after)
    assert found.message == MESSAGE and made.psnr >= 39.9 and 0.5 < made.reached < 1.2
    assert made.pixels.shape == file.shape and made.pixels.dtype == torch.uint8
    report = certify(model, before, after)
    assert bool(report.same.all()) and float(report.token_change.max()) < 0.05


def test_pixels_that_may_not_change_do_not(model: SplitViT, mark: HiddenMark) -> None:
    file = pictures(1, 256)[0]
    free = torch.ones(256, 256, dtype=torch.bool)
    free[60:120, 90:200] = False
    made = embed_on_file(mark, file, seen(model, file)[0], MESSAGE, psnr=38, free=free)
    assert torch.equal(made.pixels[:, ~free], file[:, ~free])
    assert mark.detect(seen(model, made.pixels))[0].message == MESSAGE


def test_what_is_seen_must_be_of_the_models_size(mark: HiddenMark) -> None:
    with pytest.raises(NullspaceError, match="what the model sees"):
        embed_on_file(mark, pictures(1)[0], pictures(1, 64)[0], MESSAGE)

"""What a model makes of pictures that were made for another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from pipelines.evaluations.other_model import OtherModel
from pipelines.evaluations.pixel_noise import KernelNoise

SIDE = 32


@pytest.fixture(scope="module")
def model() -> SplitViT:
    """A model that crops files to nine tenths, as most of timm's do."""
    args = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2}
    found = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=args)
    assert found.preprocessing.crop_pct == 0.9
    return found


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randint(0, 256, (6, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_pictures_of_its_own_size_are_not_cropped_again(model: SplitViT, pictures: Tensor) -> None:
    assert torch.equal(OtherModel(model).reads(pictures), from_uint8(pictures))


def test_what_is_in_its_kernel_stays_invisible(model: SplitViT, pictures: Tensor) -> None:
    noise = KernelNoise(model, exact_kernel(model), 0.5, seed=0)
    ids = [str(number) for number in range(len(pictures))]
    with torch.inference_mode():
        noised = noise.images("in_box", from_uint8(pictures), ids, noise.draw(ids))
        clean, changed = (OtherModel(model).outputs(each).logits for each in (pictures, round_to_uint8(noised)))
    assert float((noised - from_uint8(pictures)).abs().max()) > 0.1
    assert float((clean - changed).abs().max()) < 1e-2


def test_pictures_of_another_size_are_read_as_files(model: SplitViT) -> None:
    picture = torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = model.preprocessing.transform()(Image.fromarray(np.array(picture.permute(1, 2, 0))))
    assert torch.equal(OtherModel(model).reads(picture[None])[0], from_uint8(expected))

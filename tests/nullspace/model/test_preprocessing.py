"""Preprocessing gives timm's own pixels; a device is chosen or refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from nullspace.errors import DeviceError
from nullspace.model.device import available_devices, choose_device
from nullspace.model.preprocessing import Preprocessing, preprocessing_of
from nullspace.model.vit import SplitViT


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_transform_gives_timms_own_pixels(crop_mode: str) -> None:
    overlay = {"crop_mode": crop_mode, "mean": (0.1, 0.4, 0.9), "std": (0.2, 0.3, 0.4)}
    reference = timm.create_model("vit_tiny_patch16_224", pretrained_cfg_overlay=overlay, depth=1)
    pixels = torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    image = Image.fromarray(pixels.numpy())
    expected: Any = create_transform(**resolve_model_data_config(reference), is_training=False)
    preprocessing = preprocessing_of(reference)
    stored = preprocessing.transform()(image)
    assert stored.dtype == torch.uint8 and stored.shape == (3, 224, 224)
    torch.testing.assert_close(preprocessing.normalise(stored / 255), expected(image), atol=1e-5, rtol=0)


def test_preprocessing_key_tells_pixels_apart_and_nothing_else() -> None:
    own = Preprocessing((32, 32), "bicubic", 0.9, "center", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert own.key() == "32x32-bicubic-crop0.9-center"
    assert replace(own, mean=(0.1, 0.1, 0.1), std=(1.0, 1.0, 1.0)).key() == own.key()
    others = [replace(own, input_size=(64, 64)), replace(own, interpolation="bilinear"), replace(own, crop_pct=1.0)]
    border = replace(own, crop_mode="border")
    keys = {each.key() for each in (own, *others, border, replace(border, mean=(0.1, 0.1, 0.1)))}
    assert len(keys) == 6  # border fills with the mean colour, so there the mean counts
    assert own.to_dict()["input_size"] == [32, 32]


def test_device_is_chosen_or_refused_by_name() -> None:
    assert str(choose_device("auto")) == available_devices()[0]
    assert str(choose_device("cpu")) == "cpu"
    with pytest.raises(DeviceError, match=r"expected a device of this machine \(.*cpu.*\), got 'cuda:99'"):
        choose_device("cuda:99")
    with pytest.raises(DeviceError, match="got 'tpu'"):
        SplitViT.load("vit_tiny_patch16_224", weights="random", device="tpu")

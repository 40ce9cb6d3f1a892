"""Blur undone: against the blur itself, and where a message could not be read before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nullspace.errors import NullspaceError
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.payload.deblur import sharpened
from nullspace.watermark.payload.hidden_mark import BLURS, HiddenMark
from tests.nullspace.watermark.payload.marked import pictures

MESSAGE = b"blurred"


@pytest.mark.parametrize("blur", [0.4, *BLURS])
def test_it_is_the_regularised_inverse_of_scipys_blur(blur: float) -> None:
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    operators = []
    for size in (40, 56):
        blurring = ndimage.gaussian_filter1d(np.eye(size), blur, axis=0, mode="nearest")
        inverse = np.linalg.pinv(np.vstack([blurring, np.sqrt(3e-3) * np.eye(size)]))[:, :size]
        operators.append(inverse / inverse.sum(axis=1, keepdims=True))
    luma = np.einsum("bchw,c->bhw", images.double().numpy(), (0.299, 0.587, 0.114))
    expected = operators[0] @ luma @ operators[1].T
    np.testing.assert_allclose(sharpened(images, blur)[:, 1].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(("blur", "left"), [(0.4, 0.05), (0.55, 0.1), (0.95, 0.6)])
@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_it_undoes_a_gaussian_blur(blur: float, left: float, size: tuple[int, int]) -> None:
    images = pictures(2, 160)[..., : size[0], : size[1]].double() / 255
    luma = np.einsum("bchw,c->bhw", images.numpy(), (0.299, 0.587, 0.114))
    blurred = ndimage.gaussian_filter(images.numpy(), (0, 0, blur, blur), mode="nearest")
    found = sharpened(torch.from_numpy(blurred).float(), blur)
    assert found.shape == images.shape and torch.equal(found[:, 0], found[:, 2])
    before = np.abs(np.einsum("bchw,c->bhw", blurred, (0.299, 0.587, 0.114)) - luma).mean()
    assert np.abs(found[:, 0].numpy() - luma).mean() < left * before


def test_flat_images_stay_as_they_are() -> None:
    flat = torch.full((1, 3, 64, 64), 0.37)
    torch.testing.assert_close(sharpened(flat, 0.95), flat, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distortion", ["blur_0.5", "blur_1", "resize_0.8"])
def test_blurred_messages_are_read(mark: HiddenMark, distortion: str) -> None:
    grain = 30 * torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    images = (pictures(4) + grain).clamp(0, 255).to(torch.uint8)
    blurred = distorted(mark.embed(images, MESSAGE, psnr=42).images, distortion_named(distortion))
    found = mark.detect(blurred, length=len(MESSAGE), psnr=42)
    assert [each.message for each in found] == [MESSAGE] * 4
    if distortion == "blur_1":
        assert {each.blur for each in found} & set(BLURS)


def test_every_blur_tried_is_paid_for(mark: HiddenMark) -> None:
    marked = mark.embed(pictures(1), MESSAGE).images
    alone, more = (mark.detect(marked, blurs=blurs)[0] for blurs in ((), BLURS))
    assert more.tried == 3 * alone.tried and more.p_value == pytest.approx(3 * alone.p_value) and more.blur == 0


def test_a_blur_of_nothing_is_refused(mark: HiddenMark) -> None:
    with pytest.raises(NullspaceError, match=r"above 0 pixels, got \[0.0\]"):
        mark.detect(pictures(1), blurs=[0.0])

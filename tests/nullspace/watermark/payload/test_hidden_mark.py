"""Hidden messages: read by who holds the key, unread by everyone else, unseen by the model."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import kernel_of, patch_kernel
from nullspace.model.vit import SplitViT
from nullspace.watermark.certify import certify
from nullspace.watermark.payload.carriers import choose_carriers
from nullspace.watermark.payload.hidden_mark import STRENGTHS, HiddenMark
from tests.nullspace.watermark.payload.marked import KEY, SMALL, pictures, small_model

MESSAGE = b"8 bytes!"


def jpeg(images: Tensor, quality: int) -> Tensor:
    found = []
    for image in images:
        written = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(written, "JPEG", quality=quality)
        found.append(torch.from_numpy(np.array(Image.open(written))).permute(2, 0, 1))
    return torch.stack(found)


def test_movers_move_one_slot_each_and_no_token(model: SplitViT) -> None:
    kernel = patch_kernel(model)
    carriers = choose_carriers(kernel, model.patch_size, count=6)
    torch.testing.assert_close(
        carriers.movers @ carriers.filters, torch.eye(6, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert float((carriers.movers @ kernel.row_space).abs().max()) < 1e-12
    # The smallest such change: scipy's pseudoinverse of (kernel projector · filters) gives the same.
    held = kernel.project(carriers.filters.T.contiguous())
    torch.testing.assert_close(carriers.movers, torch.linalg.pinv(held).T, atol=1e-9, rtol=1e-9)
    inverse = torch.linalg.inv(carriers.filters.T @ held.T)
    assert carriers.cost == pytest.approx(float((inverse.diagonal() * carriers.steps.square()).sum() / 3))


def test_the_slots_chosen_cost_less_than_any_one_exchanged(model: SplitViT) -> None:
    """Greedy choice, but no random set of as many is cheaper."""
    from nullspace.watermark.payload.carriers import _candidates

    kernel = patch_kernel(model)
    patterns, steps = _candidates(model.patch_size)
    gram = patterns.T @ kernel.project(patterns.T).T
    ours = choose_carriers(kernel, model.patch_size, count=4).cost
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        some = torch.randperm(len(steps), generator=generator)[:4]
        cost = (torch.linalg.inv(gram[some][:, some]).diagonal() * steps[some].square()).sum() / 3
        assert float(cost) >= ours * (1 - 1e-9)


@settings(max_examples=15, deadline=None)
@given(message=st.binary(min_size=1, max_size=8), strength=st.sampled_from(STRENGTHS[4:12]))
def test_any_message_comes_back_at_any_strength(mark: HiddenMark, message: bytes, strength: int) -> None:
    made = mark.embed(pictures(1), message, psnr=strength)
    (found,) = mark.detect(made.images)
    assert (found.message, found.length, found.psnr) == (message, len(message), strength)
    assert found.bit_agreement == 1 and found.p_value < 1e-6
    assert float(made.psnr[0]) >= strength - 0.02


def test_every_image_has_its_own_message_and_none_depends_on_its_neighbours(mark: HiddenMark) -> None:
    images = pictures(9)
    messages = [bytes([number]) * 4 for number in range(9)]
    together = mark.embed(images, messages)
    assert [found.message for found in mark.detect(together.images)] == messages
    alone = mark.embed(images[7:8], messages[7])
    # A matrix product may sum in another order: a pixel in a thousand is rounded otherwise.
    assert float((alone.images != together.images[7:8]).float().mean()) < 0.02
    assert mark.detect(alone.images)[0].message == messages[7]


def test_it_survives_jpeg_and_noise(mark: HiddenMark) -> None:
    marked = mark.embed(pictures(8), MESSAGE, psnr=40).images
    noise = torch.randn(marked.shape, generator=torch.Generator().manual_seed(0)) * 0.02 * 255
    noisy = (marked + noise).round().clamp(0, 255).to(torch.uint8)
    for distorted in (jpeg(marked, 90), jpeg(marked, 75), noisy):
        assert [found.message for found in mark.detect(distorted)] == [MESSAGE] * 8


def test_other_keys_other_models_and_unmarked_images_give_nothing(model: SplitViT, mark: HiddenMark) -> None:
    images = pictures(6)
    marked = mark.embed(images, MESSAGE).images
    strangers = (HiddenMark(model, KEY + "!"), HiddenMark(small_model(seed=1), KEY))
    for found in [*mark.detect(images), *(each for other in strangers for each in other.detect(marked))]:
        assert not found.found and found.message is None and found.bit_agreement is None
        assert found.p_value > 1e-4 and len(found.as_read) == found.length


def test_a_mark_can_be_found_where_its_message_cannot_be_read(mark: HiddenMark) -> None:
    marked = mark.embed(pictures(1), b"a longer message").images
    blank = pictures(1, seed=9)
    blank[..., :72] = marked[..., :72]
    (found,) = mark.detect(blank, length=16)
    assert found.found and found.message is None and found.p_value < 1e-9


def test_the_model_sees_nothing_of_it(model: SplitViT, mark: HiddenMark) -> None:
    images = pictures(8)
    made = mark.embed(images, MESSAGE)
    shuffled = images.float()
    change = (made.images.float() - shuffled).flatten(1)
    order = torch.randperm(change.shape[1], generator=torch.Generator().manual_seed(0))
    control = (shuffled + change[:, order].reshape(images.shape)).clamp(0, 255).to(torch.uint8)
    ours, random = certify(model, images, made.images), certify(model, images, control)
    assert float(ours.token_change.max()) < 4e-3
    assert float(ours.token_change.max()) < 0.05 * float(random.token_change.min())
    assert bool(ours.same.all()) and float(ours.probability_change.max()) < 1e-3
    assert bool((ours.largest_token_change >= ours.token_change).all())


def test_a_certificate_holds_the_matrix_times_the_change(model: SplitViT) -> None:
    before, after = pictures(2), pictures(2, seed=5)
    found = certify(model, before, after)
    tokens = [model.tokens(each.float() / 255).double() for each in (before, after)]
    size = tokens[0].norm(dim=-1).mean(dim=1)
    expected = (tokens[1] - tokens[0]).norm(dim=-1).square().mean(dim=1).sqrt() / size
    torch.testing.assert_close(found.token_change, expected, rtol=1e-4, atol=0)
    figures = found.to_dict(1)
    assert figures["same_prediction"] == bool(found.same[1]) and figures["logit_change"] == float(found.logit_change[1])


def test_saturated_images_are_marked_where_there_is_room(mark: HiddenMark) -> None:
    images = pictures(2)
    images[0, :, :48] = 255
    images[1, :, :, :40] = 0
    made = mark.embed(images, MESSAGE, psnr=38)
    assert [found.message for found in mark.detect(made.images)] == [MESSAGE] * 2
    assert bool((made.written < 1).all()) and bool((made.written > 0.7).all())


def test_a_kernel_without_room_is_refused() -> None:
    kernel = kernel_of(torch.eye(768, dtype=torch.float64), torch.ones(3))
    with pytest.raises(NullspaceError, match="dimension 0, holds 0 brightness patterns.*deit_tiny"):
        choose_carriers(kernel, (16, 16), count=4)
    with pytest.raises(NullspaceError, match="at least 8×8 pixels, got 4×4"):
        choose_carriers(kernel_of(torch.rand(3, 48), torch.ones(3)), (4, 4), count=1)


def test_bad_input_is_refused_by_name(mark: HiddenMark) -> None:
    images = pictures(2)
    with pytest.raises(NullspaceError, match="each of 2 images, got 3"):
        mark.embed(images, [MESSAGE] * 3)
    with pytest.raises(NullspaceError, match="at least one image"):
        mark.embed(images[:0], MESSAGE)
    with pytest.raises(NullspaceError, match="34, 35, … 50 dB, got 41.5"):
        mark.embed(images, MESSAGE, psnr=41.5)
    with pytest.raises(
        NullspaceError, match=r"of 1 to \d+ bytes, got 30: vit_tiny_patch16_224 has 320 embedding sites"
    ):
        mark.embed(images, b"x" * 30)
    with pytest.raises(ImageRangeError, match="divide 8-bit images by 255"):
        mark.detect(images.float())
    with pytest.raises(NullspaceError, match=r"\(0,1\), got 0"):
        mark.detect(images, false_positive_rate=0)
    with pytest.raises(NullspaceError, match="one shape"):
        certify(mark.model, images, images[:1])


def test_small_images_have_more_slots_to_a_patch_and_hold_a_message_too() -> None:
    model = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**SMALL, "img_size": 64})
    mark, images = HiddenMark(model, KEY), pictures(6, size=64)
    assert mark.sites == 320 and mark.warning(len(MESSAGE), psnr=40) is None
    marked = mark.embed(images, MESSAGE, psnr=40)
    for quality in (90, 50):
        found = mark.detect(jpeg(marked.images, quality), length=len(MESSAGE), psnr=40)
        assert [each.message for each in found] == [MESSAGE] * 6
    assert float(certify(model, images, marked.images).token_change.max()) < 0.02

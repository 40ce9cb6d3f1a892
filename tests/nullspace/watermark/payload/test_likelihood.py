"""What a reading says, against integrals and draws; the sites a kernel gets, and messages on kernels of many kinds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from nullspace.kernel.patch_kernel import kernel_of, patch_kernel, scaled_weight
from nullspace.model.vit import SplitViT
from nullspace.watermark.payload import reading
from nullspace.watermark.payload.carriers import LUMA, _cosines, choose_carriers, fitting_carriers
from nullspace.watermark.payload.detection import Detection, bit_scores, log_p_value, scores
from nullspace.watermark.payload.hidden_mark import ENOUGH, HiddenMark
from nullspace.watermark.payload.likelihood import (
    BINS,
    SHARES,
    SPREADS,
    SURE,
    explained,
    information,
    likelihoods,
    log_chance,
    tables,
)
from tests.nullspace.watermark.payload.marked import KEY, SMALL, pictures, small_model
from tests.nullspace.watermark.payload.test_hidden_mark import jpeg

DIM = 160
PERIODS = torch.tensor([40.0, 60.0]) / 255
STEPS = torch.tensor([30.0, 30.0]) / 255


def reader_of(luma_power: float) -> SplitViT:
    """A model whose filters read brightness as photographs have it: an amplitude of 1/frequency to a power."""
    model = SplitViT.load(
        "vit_tiny_patch16_224", weights="random", seed=0, model_args=SMALL | {"embed_dim": DIM, "num_heads": 4}
    )
    weight = model.patch_projection.weight
    waves, half_waves = _cosines(16), torch.arange(16, dtype=torch.float64)
    strength = (half_waves[:, None].square() + half_waves.square() + 1) ** (-luma_power / 2)
    drawn = torch.randn(len(weight), 16, 16, generator=torch.Generator().manual_seed(0)).double()
    grey = waves.T @ (drawn * strength) @ waves
    colour = torch.tensor([a * b for a, b in zip(LUMA, model.preprocessing.std, strict=True)]).double()
    with torch.no_grad():
        weight.copy_(0.02 * colour[:, None, None] * (grey / grey.std())[:, None])
    return model


def test_densities_are_those_of_a_rounding_error_and_noise_around_the_lattice() -> None:
    found = likelihoods(PERIODS, STEPS, 1.0, 4.0)
    for kind, (period, step) in enumerate(zip(PERIODS.tolist(), STEPS.tolist(), strict=True)):
        for shift, bit in ((0.0, 0), (0.5, 1)):
            at = 37
            phase = (at + 0.5) / (2 * BINS)
            smeared = sum(
                integrate.quad(
                    lambda error, j=j, phase=phase, shift=shift, period=period, step=step: (
                        stats.norm.pdf((phase + shift + j) * period - error, scale=4 / 255) / step
                    ),
                    -step / 2,
                    step / 2,
                )[0]
                for j in range(-2, 3)
            )
            assert float(found[bit, kind, at]) == pytest.approx(SURE * period * smeared + 1 - SURE, rel=1e-6)
    # Folded onto half a period both are densities: their mean over it is 1.
    torch.testing.assert_close(found.mean(dim=(0, 2)), torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)


def test_information_grows_from_nothing_to_a_bit_and_is_that_of_an_erasure_channel() -> None:
    wide = torch.tensor([1.2, 1.5, 1.8, 4.0]) * STEPS[0] * 10  # a lattice so wide that noise is nothing beside it
    erased = (torch.tensor([1.2, 1.5, 1.8, 4.0]).double() - 1).clamp(max=1)
    found = information(wide, STEPS[:1].expand(4) * 10)
    torch.testing.assert_close(found, erased, atol=0.1, rtol=0)  # a little less: SURE and the pixels' noise
    assert bool((found[1:] > found[:-1]).all())
    assert float(information(PERIODS[:1] / 10, STEPS[:1])) < 0.01


def test_ratios_find_bits_that_normal_scores_confound() -> None:
    drawn = torch.Generator().manual_seed(0)
    sent = torch.rand(4000, generator=drawn) < 0.5
    kinds = torch.arange(4000) % 2
    errors = (torch.rand(4000, generator=drawn) - 0.5) * (STEPS / PERIODS)[kinds]
    read = scores(errors + torch.where(sent, 0.0, 0.5))[None]
    ones, zeros = explained(read, kinds, torch.ones(1, 4000), tables(PERIODS, STEPS))
    ours = (ones - zeros)[0]
    assert torch.isfinite(ours).all()
    sure = ours.abs() > 3
    assert float((sent == (ours > 0))[sure].float().mean()) > 0.99
    nothing = explained(read, kinds, torch.zeros(1, 4000), tables(PERIODS, STEPS))
    assert all(bool((each == 0).all()) for each in nothing)


@pytest.mark.parametrize("bits", [48, 96])
def test_a_likelihood_ratio_has_mean_one_by_chance_and_hardly_exceeds_its_inverse(bits: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    read = scores(torch.rand(4_000, 128, generator=drawn))
    room, kinds = torch.rand(128, generator=drawn).round(decimals=1).expand(4_000, -1), torch.arange(128) % 2
    known = tables(PERIODS, STEPS)
    flat = torch.ones(1, 2, 2, BINS)
    for law in (known[-1:], known[5:6]):  # one at a time, so that nothing is chosen
        ones, zeros = explained(read[:, :6], kinds[:6], room[:, :6], law)
        expected = _unclamped(ones, zeros, 4)
        torch.testing.assert_close(log_chance(ones, zeros, 4), expected.clamp(max=0), atol=1e-5, rtol=0)
        ratio = torch.exp(math.log(len(known)) - expected)
        low, high = (float(ratio.mean()) + side * 4 * float(ratio.std()) / 4_000**0.5 for side in (-1, 1))
        assert low <= 1 <= high
    p = log_chance(*explained(read, kinds, room, known), bits).exp()
    for rate in (0.5, 0.1, 0.01):
        assert float((p <= rate).double().mean()) <= rate
    assert bool((log_chance(*explained(read, kinds, room, flat), bits) == 0).all())


def _unclamped(ones: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """`log_chance` by the definition, a site at a time, without its upper limit of 0."""
    likely = torch.ones(len(ones), 2, bits, dtype=torch.float64)
    for site in range(ones.shape[1]):
        likely[:, 0, site % bits] *= ones[:, site].double().exp()
        likely[:, 1, site % bits] *= zeros[:, site].double().exp()
    return math.log(len(SHARES) * len(SPREADS)) - likely.mean(dim=1).log().sum(dim=1)


def test_hard_kernels_get_fewer_slots_and_easy_ones_all() -> None:
    energy = 0.97 * 768 * (10**-4.2 - 0.28 / 255**2)
    easy, kernel = patch_kernel(small_model()), patch_kernel(reader_of(2.0))
    assert fitting_carriers(easy, (16, 16), most=4, energy=energy).count == 4
    hard = fitting_carriers(kernel, (16, 16), most=4, energy=energy)
    assert hard.count == 2
    assert hard.information(energy) > choose_carriers(kernel, (16, 16), count=4).information(energy)
    # No choice of basis or sign matters: only the space that the weight spans does.
    turned = reader_of(2.0)
    weight = turned.patch_projection.weight
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1)).double()).Q
    exact = scaled_weight(weight, torch.ones(3))[0]
    std = turned.preprocessing.std
    same = fitting_carriers(kernel_of(turn @ exact, std), (16, 16), most=4, energy=energy)
    assert same.count == hard.count and torch.equal(same.filters, hard.filters)


class FourSlots(HiddenMark):
    """Messages in four sites of every patch, whatever the kernel carries, read by sums of squares alone."""

    def __init__(self, model: SplitViT, key: str) -> None:
        super().__init__(model, key)
        self.lattice = replace(self.lattice, carriers=choose_carriers(self.kernel, model.patch_size, count=4))

    def detect(self, images: Tensor, **known: Any) -> list[Detection]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reading, "explained", lambda scores, kinds, room, known: (scores * room, scores * 0))
            patched.setattr(
                reading, "evidence", lambda s, ones, zeros, room, bits: log_p_value(bit_scores(s, bits, room))
            )
            return super().detect(images, **known)


def _by_squares(scores: Tensor, ones: Tensor, zeros: Tensor, room: Tensor, bits: int) -> Tensor:
    return log_p_value(bit_scores(scores, bits, room))


@pytest.mark.parametrize(("power", "message"), [(1.5, b"!"), (2.0, b"!")])
def test_messages_outlive_jpeg_50_on_kernels_that_read_as_photographs_do(power: float, message: bytes) -> None:
    model, images = reader_of(power), pictures(8)
    mark, four = HiddenMark(model, KEY), FourSlots(model, KEY)
    assert mark.warning(len(message)) is None and mark.room(len(message)) > ENOUGH
    marked = mark.embed(images, message)
    assert float(marked.psnr.min()) > 41.9
    assert _read(mark, marked.images, message) == 8
    assert _read(four, four.embed(images, message).images, message) <= 2


def _read(mark: HiddenMark, marked: Tensor, message: bytes) -> int:
    found = mark.detect(jpeg(marked, 50), length=len(message), psnr=42)
    return sum(each.message == message for each in found)


@pytest.mark.parametrize("power", [1.0, 1.75])
def test_what_is_not_warned_of_is_read(power: float) -> None:
    mark = HiddenMark(reader_of(power), KEY)
    lengths = [length for length in range(1, 9) if mark.warning(length) is None]
    assert 1 <= len(lengths) < 8
    for message in (b"messages"[:length] for length in lengths):
        assert _read(mark, mark.embed(pictures(4, seed=3), message).images, message) == 4


def test_a_message_is_found_by_its_tag_where_bits_have_hardly_a_slot_more_than_one_each() -> None:
    mark = HiddenMark(reader_of(2.0), KEY)
    found = mark.detect(jpeg(mark.embed(pictures(4), b"ab").images, 50), length=2, psnr=42)
    assert [each.message for each in found] == [b"ab"] * 4
    assert all(each.found and each.p_value <= 1e-6 for each in found)
    none = mark.detect(jpeg(mark.embed(pictures(4), b"ab").images, 50), length=2, psnr=42, false_positive_rate=1e-30)
    assert not any(each.found or each.message for each in none)


def test_a_kernel_that_carries_too_little_is_named() -> None:
    mark = HiddenMark(reader_of(3.0), KEY)
    assert "reads most of what survives JPEG: at 42 dB its kernel carries 1." in str(mark.warning(4))
    assert mark.room(4, psnr=34) > mark.room(4)

"""How often chance is taken for a mark: the law, against scipy and against measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from nullspace.model.vit import SplitViT
from nullspace.watermark.payload.code import coded_bits
from nullspace.watermark.payload.detection import bit_scores, log_p_value, scores
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.likelihood import explained
from nullspace.watermark.payload.reading import Search, evidence
from nullspace.watermark.payload.secret import Secret
from tests.nullspace.watermark.payload.marked import pictures, small_model

RATES = (1e-2, 1e-3, 1e-4)
EVERY = 5  # keys, by the likelihoods too


def test_scores_of_uniform_phases_are_normal() -> None:
    phases = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7 - 3
    assert stats.kstest(scores(phases).numpy(), "norm").pvalue > 1e-3


def test_a_one_speaks_up_and_a_zero_down() -> None:
    found = scores(torch.tensor([0.0, 1.0, -2.0, 0.5, -0.5, 0.25, 0.75]))
    assert bool((found[:3] > 3).all()) and bool((found[3:5] < -3).all())
    assert found[5:].abs().max() < 1e-6


def test_bits_are_sums_over_their_sites() -> None:
    sites = torch.randn(3, 11, dtype=torch.float64)
    expected = torch.stack([sites[:, bit::4].sum(-1) / len(sites[0, bit::4]) ** 0.5 for bit in range(4)], dim=-1)
    torch.testing.assert_close(bit_scores(sites, 4), expected)


def test_weights_leave_the_law_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    sites = torch.randn(4000, 22, generator=generator, dtype=torch.float64)
    weights = torch.rand(4000, 22, generator=generator, dtype=torch.float64).round(decimals=1)
    weights[:, 3::4] = 0
    found = bit_scores(sites, 4, weights)
    assert bool((found[:, 3] == 0).all())
    assert stats.kstest(found[:, :3].flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("bits", [48, 144, 432])
def test_p_values_are_the_chi_square_tail_down_to_nothing(bits: int) -> None:
    energy = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0, 6.0, 12.0], dtype=torch.float64) * bits
    rows = torch.zeros(len(energy), bits, dtype=torch.float64)
    rows[:, 0] = energy.sqrt()
    found = log_p_value(rows).numpy()
    expected = stats.chi2(bits).logsf(energy.numpy())
    known = expected > -600
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-6, atol=1e-12)
    assert (np.diff(found) < 0).all()
    # scipy's own logsf is -inf there; ours is the tail's leading term, which bounds it.
    assert np.isfinite(found).all()


def test_where_the_tail_underflows_it_goes_on_smoothly() -> None:
    energy = torch.linspace(1300, 1500, 60, dtype=torch.float64)
    rows = torch.zeros(60, 48, dtype=torch.float64)
    rows[:, 0] = energy.sqrt()
    steps = np.diff(log_p_value(rows).numpy())
    assert (steps < 0).all() and steps.std() < 0.01


def _false_alarms(model: SplitViT, images: Tensor, keys: int) -> tuple[np.ndarray, np.ndarray, int]:
    """How many of images × keys are below each rate, and how many there are. Keys are drawn after stretching.

    First by the sum of squares alone; then, for every fifth key, by what the reader goes by.
    """
    mark, hits, either = HiddenMark(model, "any key will do"), np.zeros(len(RATES)), np.zeros(len(RATES))
    patches = model.patchify(images.float() / 255)
    read = patches @ mark.lattice.filters
    for number in range(keys):
        lattice = replace(mark.lattice, secret=Secret(number.to_bytes(32, "big")))
        scores, room = lattice.scores(read, 42), lattice.weights(patches)
        p = log_p_value(bit_scores(scores, coded_bits(8), room)).exp()
        hits += [int((p <= rate).sum()) for rate in RATES]
        if number % EVERY == 0:
            ratios = explained(scores, lattice.kinds, room, lattice.tables(42))
            both = evidence(scores, *ratios, room, coded_bits(8)).exp()
            either += [int((both <= rate).sum()) for rate in RATES]
    return hits, either, keys * len(images)


def _agrees_with_theory(hits: np.ndarray, made: int) -> None:
    for count, rate in zip(hits, RATES, strict=True):
        low, high = stats.binom(made, rate).interval(0.9999)
        assert low <= count <= high, f"{count} of {made} at {rate}, expected {low} to {high}"


def _is_at_most(hits: np.ndarray, made: int) -> None:
    for count, rate in zip(hits, RATES, strict=True):
        assert count <= stats.binom(made, rate).ppf(0.9999), f"{count} of {made} at {rate}"


def test_false_positives_are_as_many_as_promised() -> None:
    """100 000 trials of images × keys, whatever the images: one is nearly flat."""
    images = torch.cat([pictures(99), pictures(1, low=0.5, high=0.51)])
    hits, either, made = _false_alarms(small_model(), images, 1000)
    assert made == 100_000
    _agrees_with_theory(hits, made)
    _is_at_most(either, made // EVERY)


@pytest.mark.real
def test_false_positives_on_real_images_are_as_many_as_promised(assets: Path) -> None:
    model = SplitViT.load("deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors")
    transform = model.preprocessing.transform()
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    hits, either, made = _false_alarms(model, images, 170)
    assert made >= 100_000
    _agrees_with_theory(hits, made)
    _is_at_most(either, made // EVERY)


def test_tags_that_chance_bears_are_as_rare_as_promised() -> None:
    """The p-value of the first word is at least its chance, 2^-32, times all decodings a search may make."""
    search = Search([8], [42], (0.55, 0.95), 1e-6)
    decodings = 3 * 2 * (1 + len(search.blurs))  # three readings by two kinds of bits, for each blur
    assert np.exp(search.log_valid_tag) == pytest.approx(3 * decodings * 2.0**-32)

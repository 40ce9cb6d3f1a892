"""Evidence of nullness: exact cases first, then controls, scaling, sums, transfer and norms against their promises."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.norms import mean_token_norm, token_norms
from nullspace.metrics.nullness import Evidence, control, evidence, is_null_exactly, measure_nullness
from nullspace.metrics.outcomes import outcomes, summarise
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.subspace.closure import SCALES, additivity, agreement_by_norm, scaling_curve, transfer
from nullspace.subspace.sensitivity import sensitivity_spectrum

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32, "patch_size": 8, "num_classes": 5,
}  # fmt: skip


def tiny(seed: int = 7) -> SplitViT:
    """A small random ViT whose encoder and head are scaled up, so that it does react to its input."""
    split = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in split.model.named_parameters():
            if weight.ndim == 2 and ("blocks" in name or "head" in name):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.5 * weight.shape[1] ** -0.5)
    return split


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


def held_out_of(model: SplitViT, injection: str = "patch_tokens", n: int = 20, **options: Any) -> EncoderData:
    encoder = Encoder(model, injection)
    with torch.no_grad():
        states = encoder.states(torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return EncoderData.of(encoder, states, **{"shift_invariant": True, "batch_size": 8, **options})


@pytest.fixture(scope="module")
def held_out(model: SplitViT) -> EncoderData:
    return held_out_of(model)


def noise_of(held_out: EncoderData, relative: float = 0.5, seed: int = 1) -> Tensor:
    drawn = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
    return held_out.unit.hold(drawn, relative)


def shift_of(held_out: EncoderData, size: float = 20.0, seed: int = 2) -> Tensor:
    """A multiple of (1,…,1) per token, far longer than the tokens."""
    lengths = torch.randn(16, 1, generator=torch.Generator().manual_seed(seed))
    return size * held_out.unit.token_norm * lengths.expand(16, 24)


@pytest.mark.parametrize("injection", ["patch_tokens", "block:1"])
def test_rows_are_those_of_the_model_itself(model: SplitViT, injection: str) -> None:
    held_out = held_out_of(model, injection)
    encoder, noise = held_out.encoder, noise_of(held_out)
    with torch.no_grad():
        clean, noised = encoder.outputs(held_out.states), encoder.outputs(encoder.add(held_out.states, noise))
    expected = summarise(outcomes(clean, noised))
    row = evidence(held_out, noise, "learned", seed=3)
    for name, value in expected.items():
        assert row.metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert row.n == 20 and row.agreement == expected["agreement"] and row.details == {"seed": 3}
    assert held_out.unit.token_norm == pytest.approx(mean_token_norm(encoder.patch_part(held_out.states)))
    assert row.relative_norm == pytest.approx(0.5, rel=1e-5) and row.spread == pytest.approx(1, rel=1e-5)
    assert row.norm == pytest.approx(row.effective_norm, rel=1e-5)


@pytest.mark.parametrize("injection", ["patch_tokens", "block:0", "block:1"])
def test_shift_noise_is_null_scaled_and_added(model: SplitViT, injection: str) -> None:
    held_out = held_out_of(model, injection)
    first, second = shift_of(held_out), shift_of(held_out, seed=3)
    assert is_null_exactly(held_out, first)
    rows = [*measure_nullness(held_out, first), *scaling_curve(held_out, first), *additivity(held_out, first, second)]
    assert len(rows) == 1 + len(SCALES) + 4
    for row in rows:
        assert row.agreement == 1 and row.metrics["mse_logits"] < 1e-4, row
        assert row.within(1e-4) == "inside"
        assert row.relative_norm < 1e-4 and row.effective_norm <= 1e-5 * max(row.norm, 1)
    assert rows[0].norm > 10 * held_out.unit.token_norm


def test_shift_counts_where_the_model_reads_it(model: SplitViT) -> None:
    held_out = held_out_of(model, shift_invariant=False)
    row = evidence(held_out, shift_of(held_out), "learned")
    assert not is_null_exactly(held_out, shift_of(held_out))
    assert row.effective_norm == row.norm and row.relative_norm > 1


def test_controls_have_the_norm_of_every_token(held_out: EncoderData) -> None:
    noise = noise_of(held_out) * torch.linspace(0.2, 2, 16)[:, None] + shift_of(held_out, 0.3)
    wanted = token_norms(held_out.unit.effective(noise))
    for name in ("permuted", "gaussian"):
        found = control(held_out, noise, name, seed=5)
        torch.testing.assert_close(token_norms(found), wanted, rtol=1e-5, atol=0)
        assert float(found.mean(-1).abs().max()) < 1e-4
        assert torch.equal(found, control(held_out, noise, name, seed=5))
        assert not torch.equal(found, control(held_out, noise, name, seed=6))
    with pytest.raises(NullspaceError, match="control of.*'uniform'"):
        control(held_out, noise, "uniform", seed=0)


def test_table_has_its_controls_at_equal_norm(held_out: EncoderData) -> None:
    rows = measure_nullness(held_out, noise_of(held_out), draws=3, seed=4)
    assert [row.condition for row in rows] == ["learned"] + ["permuted"] * 3 + ["gaussian"] * 3
    assert [row.details.get("seed") for row in rows] == [None, 4, 5, 6, 4, 5, 6]
    for row in rows:
        assert row.relative_norm == pytest.approx(0.5, rel=1e-5) and row.spread == pytest.approx(1, rel=1e-5)
    written = [row.to_dict() for row in rows]
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert {"condition", "effective_norm", "agreement_ci", "mse_features", "confidence_change_ci"} <= set(written[0])
    with pytest.raises(NullspaceError, match="draws >= 1, got 0"):
        measure_nullness(held_out, noise_of(held_out), draws=0)


def test_noise_of_nothing_is_null_and_has_no_spread(held_out: EncoderData) -> None:
    (row,) = measure_nullness(held_out, torch.zeros(16, 24))
    assert (row.agreement, row.norm, row.relative_norm, row.spread) == (1, 0, 0, 0)


def test_epsilon_region_is_judged_by_the_interval(held_out: EncoderData) -> None:
    row = evidence(held_out, noise_of(held_out), "learned")
    low, high = row.metrics["mse_probabilities_ci"]
    assert row.within(1.01 * high) == "inside" and row.within(0.99 * low) == "outside"
    assert row.within(row.metrics["mse_probabilities"]) == "undecided"
    single = Evidence("learned", 1, 1, 1, 1, {**row.metrics, "mse_probabilities_ci": None})
    assert single.within(10.0) == "undecided"
    with pytest.raises(NullspaceError, match="epsilon > 0, got 0"):
        row.within(0)


def test_scaling_curve_has_its_scales_and_its_clean_middle(held_out: EncoderData) -> None:
    noise = noise_of(held_out)
    rows = scaling_curve(held_out, noise)
    assert len(rows) == 3 * len(SCALES)
    for row in rows:
        assert row.relative_norm == pytest.approx(0.5 * abs(row.details["scale"]), rel=1e-5)
        if row.details["scale"] == 0:
            assert row.agreement == 1 and row.metrics["mse_logits"] < 1e-8
    minus = next(row for row in rows if row.condition == "learned" and row.details["scale"] == -1)
    assert minus.metrics == evidence(held_out, -noise, "").metrics
    assert len(scaling_curve(held_out, noise, scales=(1, 2), seed=None)) == 2


def test_sums_are_compared_at_equal_norms(held_out: EncoderData) -> None:
    first, second = noise_of(held_out), noise_of(held_out, 0.3, seed=5)
    rows = {row.condition: row for row in additivity(held_out, first, second)}
    assert list(rows)[:4] == ["first", "second", "sum", "sum rescaled"] and len(rows) == 8
    assert rows["sum"].metrics == evidence(held_out, first + second, "").metrics
    for name in ("permuted", "gaussian"):
        assert rows[f"{name} sum"].norm == pytest.approx(rows["sum"].norm, rel=1e-5)
        assert rows[f"{name} sum rescaled"].norm == pytest.approx(rows["first"].norm, rel=1e-5)
    assert rows["sum rescaled"].relative_norm == pytest.approx(0.5, rel=1e-5)


def test_transfer_crosses_noises_and_places(model: SplitViT, held_out: EncoderData) -> None:
    places = {
        "same": held_out,
        "other model": held_out_of(tiny(seed=8)),
        "wider unit": held_out_of(model, token_norm=9.0),
    }
    noises = {"seed 0": noise_of(held_out), "seed 1": noise_of(held_out, seed=3)}
    rows = transfer(places, noises, relative_norm=0.25)
    assert len(rows) == 3 * 2 * 3
    assert {(row.details["noise"], row.details["on"]) for row in rows} == {(v, p) for v in noises for p in places}
    for row in rows:
        assert row.relative_norm == pytest.approx(0.25, rel=1e-5)
    as_it_is = transfer({"same": held_out}, {"seed 0": noises["seed 0"]})
    assert as_it_is[0].metrics == evidence(held_out, noises["seed 0"], "").metrics
    with pytest.raises(NullspaceError, match=r"noise of shape \(16, 24\).*got \(24, 16\)"):
        transfer(places, {"turned": noises["seed 0"].T})


def test_agreement_by_norm_holds_every_token_at_every_norm(held_out: EncoderData) -> None:
    spectrum = sensitivity_spectrum(
        held_out.encoder, held_out.states, shift_invariant=True, k=8, cotangents=5, iterations=0
    )
    rows = agreement_by_norm(
        held_out, learned=noise_of(held_out), spectrum=spectrum, others={"start": noise_of(held_out, seed=8)},
        relative_norms=(0.1, 0.4),
    )  # fmt: skip
    assert len(rows) == 2 * 5
    assert {row.condition for row in rows} == {"gaussian", "learned", "permuted", "complement", "start"}
    for row in rows:
        assert row.relative_norm == pytest.approx(row.details["requested"], rel=1e-5)
        assert row.spread == pytest.approx(1, rel=1e-5)
        assert row.n == 20 and len(row.metrics["agreement_ci"]) == 2
    assert [row.condition for row in agreement_by_norm(held_out, relative_norms=[1.0])] == ["gaussian"]
    with pytest.raises(NullspaceError, match="relative norms > 0"):
        agreement_by_norm(held_out, relative_norms=(0.0, 1.0))


def test_batches_do_not_matter(model: SplitViT, held_out: EncoderData) -> None:
    whole = held_out_of(model, batch_size=64)
    one, other = (evidence(place, noise_of(held_out), "learned").metrics for place in (whole, held_out))
    assert one["mse_logits"] == pytest.approx(other["mse_logits"], rel=1e-4)
    assert one["agreement"] == other["agreement"]

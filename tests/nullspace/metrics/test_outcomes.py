"""Outcomes per image against their formulas; intervals against scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.outcomes import (
    Moments,
    Summary,
    largest_probability_change,
    mean_interval,
    outcomes,
    summarise,
    wilson_interval,
)
from nullspace.model.vit import Outputs


def outputs(n: int, seed: int, classes: int = 7, features: int = 5) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(torch.randn(n, features, generator=generator), 3 * torch.randn(n, classes, generator=generator))


def softmax(logits: Tensor) -> np.ndarray:
    shifted = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def test_columns_follow_their_formulas() -> None:
    clean, noised = outputs(50, 0), outputs(50, 1)
    columns = outcomes(clean, noised)
    p, q = softmax(clean.logits), softmax(noised.logits)
    chosen = p.argmax(1)
    rows = np.arange(50)
    expected = {
        "agree": chosen == q.argmax(1),
        "prediction_clean": chosen,
        "prediction_noised": q.argmax(1),
        "confidence_clean": p[rows, chosen],
        "confidence_noised": q[rows, chosen],
        "squared_feature_change": ((noised.features - clean.features).double().numpy() ** 2).sum(1),
        "squared_logit_change": ((noised.logits.double() - clean.logits.double()).numpy() ** 2).sum(1),
        "squared_probability_change": ((q - p) ** 2).sum(1),
        "max_abs_logit_change": np.abs((noised.logits.double() - clean.logits.double()).numpy()).max(1),
    }
    assert set(columns) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name].numpy(), values, rtol=1e-6, err_msg=name)
    assert columns["agree"].dtype == torch.bool and columns["prediction_clean"].dtype == torch.int64


@given(st.integers(1, 20), st.integers(0, 1000), st.floats(0.001, 1e4))
@settings(max_examples=40, deadline=None)
def test_equal_outputs_agree_and_do_not_change(n: int, seed: int, size: float) -> None:
    same = Outputs(outputs(n, seed).features * size, outputs(n, seed).logits * size)
    columns = outcomes(same, same)
    assert bool(columns["agree"].all())
    for name in ("squared_feature_change", "squared_logit_change", "squared_probability_change"):
        assert not columns[name].any()
    summary = summarise(columns)
    assert summary["agreement"] == 1.0 and summary["agreement_ci"][1] == 1.0
    assert summary["mse_logits"] == summary["max_abs_logit_change"] == summary["confidence_change"] == 0.0


@given(st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_changes_are_symmetric_and_bounded(n: int, seed: int) -> None:
    there, back = (outcomes(*pair) for pair in ((outputs(n, seed), outputs(n, seed + 1)),) * 2)
    swapped = outcomes(outputs(n, seed + 1), outputs(n, seed))
    assert torch.equal(there["agree"], swapped["agree"]) and torch.equal(there["agree"], back["agree"])
    torch.testing.assert_close(there["squared_probability_change"], swapped["squared_probability_change"])
    assert bool((there["squared_probability_change"] <= 2.0).all())


def test_small_changes_of_probability_keep_their_digits() -> None:
    clean = Outputs(torch.zeros(1, 2), torch.tensor([[30.0, 0.0]]))
    noised = Outputs(torch.zeros(1, 2), torch.tensor([[30.0, 1.0]]))
    change = float(outcomes(clean, noised)["squared_probability_change"])
    assert change == pytest.approx(2 * (math.exp(-29) - math.exp(-30)) ** 2, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["clean", "noised"])
@pytest.mark.parametrize("what", ["logits", "features"])
def test_outputs_that_are_not_finite_are_counted(bad: float, which: str, what: str) -> None:
    both = {"clean": outputs(6, 0), "noised": outputs(6, 0)}
    getattr(both[which], what)[1:4, 2] = bad
    with pytest.raises(NullspaceError, match=f"{which} {what} of 3 of 6 images"):
        outcomes(both["clean"], both["noised"])


def test_shapes_are_checked() -> None:
    with pytest.raises(NullspaceError, match="of one shape"):
        outcomes(outputs(3, 0), outputs(4, 0))
    with pytest.raises(NullspaceError, match="at least one image"):
        outcomes(outputs(0, 0), outputs(0, 0))


@pytest.mark.parametrize("n", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_interval_is_scipys(n: int, share: float, level: float) -> None:
    successes = round(n * share)
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    low, high = wilson_interval(successes, n, level)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize("n", [2, 5, 300])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_mean_interval_is_scipys(n: int, level: float) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    expected = stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values, level) == pytest.approx(expected, rel=1e-12)
    assert mean_interval(torch.tensor(values), level) == pytest.approx(expected, rel=1e-12)


def test_intervals_of_nothing_are_errors() -> None:
    with pytest.raises(NullspaceError, match="n=0"):
        wilson_interval(0, 0)
    with pytest.raises(NullspaceError, match="n=0"):
        mean_interval([])
    with pytest.raises(NullspaceError, match="0 <= successes <= n=3"):
        wilson_interval(4, 3)
    with pytest.raises(NullspaceError, match="level"):
        wilson_interval(1, 3, level=95)
    with pytest.raises(NullspaceError, match="1 of 2 entries are NaN"):
        mean_interval([1.0, math.nan])


def test_summary_is_json_and_comes_from_the_rows() -> None:
    columns = outcomes(outputs(40, 0), outputs(40, 3))
    rows = {name: values.numpy() for name, values in columns.items()}
    summary = summarise(rows)
    assert summary == summarise(columns) == json.loads(json.dumps(summary))
    assert summary["n"] == 40 and summary["agreement"] == rows["agree"].mean()
    assert summary["agreement_ci"] == list(wilson_interval(int(rows["agree"].sum()), 40))
    for name, column in (("features", "feature"), ("logits", "logit"), ("probabilities", "probability")):
        values = rows[f"squared_{column}_change"]
        assert summary[f"mse_{name}"] == pytest.approx(values.mean())
        assert summary[f"mse_{name}_ci"] == pytest.approx(list(mean_interval(values)))
    assert summary["confidence_change"] == pytest.approx((rows["confidence_noised"] - rows["confidence_clean"]).mean())
    assert summary["max_abs_logit_change"] == rows["max_abs_logit_change"].max()


def test_one_image_has_no_interval_of_a_mean() -> None:
    summary = summarise(outcomes(outputs(1, 0), outputs(1, 1)))
    assert summary["mse_logits_ci"] is None and summary["n"] == 1
    json.dumps(summary, allow_nan=False)


def test_summary_refuses_incomplete_rows() -> None:
    columns = outcomes(outputs(4, 0), outputs(4, 1))
    with pytest.raises(NullspaceError, match="column 'agree'"):
        summarise({})
    with pytest.raises(NullspaceError, match="4 rows in column 'squared_logit_change', got 3"):
        summarise({**columns, "squared_logit_change": columns["squared_logit_change"][:3]})
    with pytest.raises(NullspaceError, match="n=0"):
        summarise({name: values[:0] for name, values in columns.items()})


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=9), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_moments_of_parts_are_those_of_the_whole(parts: list[list[float]]) -> None:
    joined = [value for part in parts for value in part]
    found = sum((Moments.of(part) if part else Moments() for part in parts), Moments())
    assert found.n == len(joined)
    if joined:
        whole = Moments.of(joined)
        assert found.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-9)
        assert found.squares == pytest.approx(whole.squares, rel=1e-9, abs=1e-6)


def test_a_summary_taken_in_by_the_batch_is_that_of_all() -> None:
    clean, noised = outputs(50, 0), outputs(50, 1)
    whole = summarise(outcomes(clean, noised))
    parts = Summary()
    for cut in (slice(0, 1), slice(1, 20), slice(20, 50)):
        batch = (Outputs(found.features[cut], found.logits[cut]) for found in (clean, noised))
        parts += Summary.of(outcomes(*batch))
    found = parts.to_dict()
    assert set(found) == set(whole)
    for name, value in whole.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_the_largest_change_of_a_probability_is_that_of_the_softmax() -> None:
    before, after = torch.tensor([[0.0, 0.0], [3.0, -1.0]]), torch.tensor([[math.log(3), 0.0], [3.0, -1.0]])
    assert largest_probability_change(before, after).tolist() == pytest.approx([0.25, 0.0])
    with pytest.raises(NullspaceError, match="one shape"):
        largest_probability_change(before, after[:1])

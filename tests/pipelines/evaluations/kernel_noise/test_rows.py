"""Noise from the kernel in a few real digits: the rows, and the figures made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.engine.stage import Done
from pipelines.evaluations.base import NO_KERNEL
from pipelines.evaluations.kernel_noise.rows import EVALUATION
from pipelines.evaluations.kernel_noise.settings import KernelNoiseSettings
from pipelines.evaluations.pixel_noise import CONDITIONS
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import CERTIFICATE, CHANGES, OUTCOMES

SETTINGS = KernelNoiseSettings(rms=1.5, examples=2, batch_images=8)


@pytest.fixture(scope="module")
def evaluated(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("kernel_noise"), SETTINGS, made)


@pytest.fixture(scope="module")
def rows(evaluated: Done) -> Any:
    return tiny.rows(evaluated.folder)


def test_every_image_has_one_row_for_each_condition(rows: Any) -> None:
    assert set(rows.columns) == {"id", "label", "condition", "noise_rms"} | CERTIFICATE | OUTCOMES
    assert set(rows["condition"]) == set(CONDITIONS)
    for _, group in rows.groupby("condition"):
        assert sorted(group["id"]) == tiny.digits().ids[: tiny.COUNT]


def test_the_kernel_is_invisible_and_its_permutation_is_not(rows: Any) -> None:
    by = {str(condition): group for condition, group in rows.groupby("condition")}
    assert by["exact"]["agree"].all() and by["in_box"]["agree"].all()
    assert by["exact"]["max_abs_logit_change"].max() < 1e-3
    assert by["permuted"]["agree"].mean() < 0.8 and by["gaussian"]["agree"].mean() < 0.8


def test_controls_have_the_norm_of_the_kernel_noise(rows: Any) -> None:
    found = rows.pivot(index="id", columns="condition", values="noise_rms")
    for condition in ("exact", "permuted", "gaussian"):
        assert found[condition].to_numpy() == pytest.approx(1.5, rel=1e-5)
    assert (found["in_box"] < 1.5).all()


def test_rows_depend_neither_on_the_cut_nor_on_the_batch(rows: Any, tmp_path: Path) -> None:
    made = tiny.inputs(tmp_path, (5, 0, 12, 7), batch_images=5)
    settings = SETTINGS.model_copy(update={"batch_images": 5})
    keys = ["condition", "id"]
    one = rows.sort_values(keys).reset_index(drop=True)
    again = tiny.evaluated(EVALUATION, tmp_path / "kernel_noise", settings, made)
    other = tiny.rows(again.folder).sort_values(keys).reset_index(drop=True)
    same = [*keys, "label", "agree", "prediction_clean", "prediction_noised"]
    pd.testing.assert_frame_equal(one[same], other[same])
    # Batches of another size are summed in another order: float32 rounding, which logits of some 10 make 1e-4 of.
    np.testing.assert_allclose(one[CHANGES], other[CHANGES], rtol=1e-3, atol=1e-4)


def test_figures_count_all_images(evaluated: Done, rows: Any) -> None:
    conditions = evaluated.result["conditions"]
    assert list(conditions) == list(CONDITIONS)
    assert {found["n"] for found in conditions.values()} == {24}
    assert conditions["exact"]["agreement"] == 1
    for name, own in rows.groupby("condition"):
        found = conditions[name]
        assert found["noise_rms"] == pytest.approx(own["noise_rms"].mean())
        assert found["token_change"] == pytest.approx(own["token_change"].mean())
        assert found["largest_token_change"] == own["largest_token_change"].max()
        assert found["max_probability_change"] == own["probability_change"].max()


@pytest.mark.parametrize("count", [0, 2])
def test_as_many_examples_are_kept_as_asked_for(made: dict[str, Done], tmp_path: Path, count: int) -> None:
    tiny.evaluated(EVALUATION, tmp_path, KernelNoiseSettings(rms=1.5, examples=count, batch_images=10), made)
    names = ("original", "exact", "exact_difference", "in_box", "in_box_difference")
    expected = {f"{number:02d}_{name}.png" for number in range(count) for name in names}
    assert {path.name for path in tmp_path.glob("examples/*")} == expected


def test_a_model_without_a_kernel_is_skipped(made: dict[str, Done], tmp_path: Path) -> None:
    trivial = {**made, "kernel": replace(made["kernel"], result={**made["kernel"].result, "nullity": 0})}
    assert tiny.evaluated(EVALUATION, tmp_path, SETTINGS, trivial).result == {"skipped": NO_KERNEL}
    assert not list(tmp_path.iterdir())

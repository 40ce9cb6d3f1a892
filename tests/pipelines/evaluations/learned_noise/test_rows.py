"""A noise on the tokens of a few real digits: the rows, and the figures made of those it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.engine.stage import Done
from pipelines.evaluations.learned_noise.rows import EVALUATION
from pipelines.evaluations.learned_noise.settings import LearnedNoiseSettings
from pipelines.evaluations.token_noise import CONDITIONS
from tests.pipelines import tiny
from tests.pipelines.evaluations.outcome_columns import CHANGES, OUTCOMES


@pytest.fixture(scope="module")
def evaluated(made: dict[str, Done], tmp_path_factory: pytest.TempPathFactory) -> Done:
    settings = LearnedNoiseSettings(batch_images=8)
    return tiny.evaluated(EVALUATION, tmp_path_factory.mktemp("learned_noise"), settings, made)


@pytest.fixture(scope="module")
def rows(evaluated: Done) -> Any:
    return tiny.rows(evaluated.folder)


def test_every_image_has_one_row_for_each_condition(rows: Any) -> None:
    assert set(rows.columns) == {"id", "label", "split", "condition", "probability_change"} | OUTCOMES
    assert set(rows["condition"]) == set(CONDITIONS)
    for _, group in rows.groupby("condition"):
        assert sorted(group["id"]) == tiny.digits().ids[: tiny.COUNT]
    sizes = {"learn": 8, "validation": 6, "calibration": 4, "test": 6}
    assert rows.groupby("split")["id"].nunique().to_dict() == sizes


def test_rows_depend_neither_on_the_cut_nor_on_the_batch(rows: Any, tmp_path: Path) -> None:
    made = tiny.inputs(tmp_path, (5, 0, 12, 7), batch_images=5)
    keys = ["condition", "id"]
    again = tiny.evaluated(EVALUATION, tmp_path / "learned_noise", LearnedNoiseSettings(batch_images=5), made)
    one = rows.sort_values(keys).reset_index(drop=True)
    other = tiny.rows(again.folder).sort_values(keys).reset_index(drop=True)
    same = [*keys, "label", "split", "agree", "prediction_clean", "prediction_noised"]
    pd.testing.assert_frame_equal(one[same], other[same])
    # Batches of another size are summed in another order: float32 rounding, which logits of some 10 make 1e-4 of.
    np.testing.assert_allclose(one[CHANGES], other[CHANGES], rtol=1e-3, atol=1e-4)


def test_figures_count_the_images_that_the_noise_has_not_seen(evaluated: Done, rows: Any) -> None:
    conditions = evaluated.result["conditions"]
    assert {name: found["n"] for name, found in conditions.items()} == dict.fromkeys(CONDITIONS, 6)
    for name, own in rows[rows.split == "test"].groupby("condition"):
        assert conditions[name]["agreement"] == own["agree"].mean()
        assert conditions[name]["max_probability_change"] == own["probability_change"].max()
    assert not {"noise_rms", "token_change"} & conditions["learned"].keys()


def test_size_and_limit_of_the_noise_stand_beside_its_figures(evaluated: Done) -> None:
    assert (evaluated.result["relative_norm"], evaluated.result["epsilon"]) == (0.5, 0.05)


def test_no_pictures_are_kept(evaluated: Done) -> None:
    assert not (evaluated.folder / "examples").exists()

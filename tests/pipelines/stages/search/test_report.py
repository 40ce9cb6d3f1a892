"""The report on a search: its space, what decided the radius, the guarantee of the noise, its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.report.outcomes import Mean
from pipelines.report.parts import Cell
from pipelines.report.view import Result
from pipelines.stages.search.figures import search_curves, trials_scatter
from pipelines.stages.search.report import REPORT, facts, lines, sentence, trials_table
from tests.pipelines.report.results import view, write_search

SEARCH: dict[str, Any] = {
    "space": {"relative_norm": [0.25, 2.0], "learning_rate": [0.001, 0.1], "steps": [200, 400]},
    "importance": {"learning_rate": 0.25, "relative_norm": 0.7, "steps": 0.05},
}


def test_the_facts_list_the_range_of_every_searched_setting() -> None:
    text = dict(facts(Result(SEARCH)))["Searched"]
    assert text == "relative norm 0.25 to 2; learning rate 0.001 to 0.1; steps 200 to 400"


def test_the_facts_list_what_decided_the_radius_largest_share_first() -> None:
    text = dict(facts(Result(SEARCH)))["What decided the radius"]
    assert text.startswith("relative norm 70") and text.endswith("of its variance over the trials (fANOVA)")
    assert text.index("relative norm") < text.index("learning rate 25") < text.index("steps 5")


def test_a_search_without_space_and_importance_has_no_facts_of_them() -> None:
    for nothing in ({}, {"space": None, "importance": None}, {"space": {}, "importance": {}}):
        assert not {"Searched", "What decided the radius"} & dict(facts(Result(nothing))).keys()


def test_the_guarantee_is_stated_with_bound_confidence_and_n() -> None:
    guarantee = {"epsilon": 0.05, "bound": 0.0481, "confidence": 0.95, "n": 200, "scale": 0.84, "tested": []}
    noise = {**SEARCH, "relative_norm": 2.07, "guarantee": guarantee}
    text = dict(facts(Result(noise)))["Guarantee"]
    assert text.startswith("mean ‖Δprobabilities‖² ≤ 0.0481 on new images")
    assert "confidence 95 %" in text and "200 calibration" in text
    size = "2.07 times the token norm; mean |dp|^2 <= 0.0481 on new images, with confidence 95 %"
    assert lines(view(**noise)) == [size]
    assert "Guaranteed: mean ‖Δprobabilities‖² ≤ 0.0481" in sentence(Result(noise))


def test_without_a_guarantee_only_the_size_is_stated() -> None:
    assert sentence(Result({"relative_norm": 2.07})) == "Noise 2.07 times the token norm."
    assert lines(view(relative_norm=2.07)) == ["2.07 times the token norm"]
    assert REPORT.columns["Relative norm"](view(relative_norm=2.07)) == Cell("2.07", figure=Mean(2.07))
    assert "Guarantee" not in dict(facts(Result({"relative_norm": 2.07})))


def test_the_best_trials_are_a_table(tmp_path: Path) -> None:
    write_search(tmp_path / "search")
    (table,) = trials_table(view(tmp_path / "search"))
    assert table.caption.startswith("Best 10 of 12 trials, ") and len(table.rows) == 10
    radius = table.columns.index("Radius")
    shown = [row[radius].text for row in table.rows]
    assert [float(text.removeprefix("≥ ")) for text in shown] == sorted(
        (float(text.removeprefix("≥ ")) for text in shown), reverse=True
    )
    assert [row[0].text for row in table.rows if row[radius].text.startswith("≥ ")] == ["t02"], "ended at the limit"
    assert {row[table.columns.index("Status")].text for row in table.rows} == {"finished"}
    assert not list(trials_table(view()))


def test_the_course_of_the_search_is_drawn(tmp_path: Path) -> None:
    write_search(tmp_path / "search")
    figures = list(REPORT.figures(view(tmp_path / "search")))
    assert [figure.name for figure in figures] == ["trials", "search-loss", "search-radius"]
    assert not list(REPORT.figures(view()))


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: trials_scatter(one_trial(radius=np.nan)), id="no-radius"),
        pytest.param(lambda: trials_scatter(one_trial(radius=1.0), best="t"), id="one-trial"),
        pytest.param(lambda: search_curves(one_trial(radius=np.nan)), id="no-radius-curve"),
        pytest.param(lambda: search_curves(one_trial(loss=-1.0), column="loss", best="t"), id="one-negative-loss"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_figures_of_little_data(draw: Any) -> None:
    assert draw().startswith(b"\x89PNG")


def one_trial(**columns: float) -> pd.DataFrame:
    row = {"trial_id": "t", "step": 1, "relative_norm": 0.5, "learning_rate": 0.05}
    return pd.DataFrame([row | columns])

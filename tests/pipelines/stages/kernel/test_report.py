"""The report on the exact kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.report.outcomes import Mean
from pipelines.report.parts import Cell
from pipelines.report.view import Result
from pipelines.stages.kernel.figures import spectrum
from pipelines.stages.kernel.report import REPORT, facts, nullity_fact, sentence
from tests.pipelines.report.results import model_results, view, write_kernel

KERNEL: dict[str, Any] = model_results(trivial=False)["kernel"]
TRIVIAL: dict[str, Any] = model_results(trivial=True)["kernel"]


def test_dimensions_evidence_and_shift_are_facts() -> None:
    values = dict(facts(Result(KERNEL)))
    assert values["Nullity"] == "96 of 192 directions (3·p·p)" and values["Rank"] == "96, embedding dimension 96"
    assert values["Tolerance"] == "1.2e-13 (rtol 4.3e-14, decided in float64)" and "Gap at the rank" not in values
    shift = "invisible: max |Δlogit| 8.1e-5 at 10 times the token norm, random noise of that norm 6.4"
    assert values["Shift of whole tokens"] == shift
    assert dict(facts(Result({**KERNEL, "gap": 2e9})))["Gap at the rank"] == "2.0e9 times"
    seen = {**KERNEL, "shift": {**KERNEL["shift"], "invariant": False}}
    assert dict(facts(Result(seen)))["Shift of whole tokens"].startswith("not invisible")
    assert "Shift of whole tokens" not in dict(facts(Result({**KERNEL, "shift": {"skipped": "no images"}})))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"modulo_shift": True, "plain_nullity": 96}, "96 of 192 directions (3·p·p); no change of a patch only shifts"),
        ({"modulo_shift": True, "plain_nullity": 95}, "modulo the shift: 95 leave the token as it is, one only shifts"),
        ({"modulo_shift": True}, "no change of a patch only shifts its token"),
    ],
)
def test_the_direction_that_only_shifts_a_token_is_counted_apart(more: dict[str, Any], expected: str) -> None:
    assert expected in nullity_fact(Result({**KERNEL, **more}))


def test_the_sentence_on_a_trivial_kernel() -> None:
    assert "sees all 768 directions of a patch (nullity 0)" in sentence(Result(TRIVIAL))
    assert sentence(Result(KERNEL)) == "The model is blind to 96 of 192 directions of a patch."
    assert REPORT.columns["Nullity"](view(**TRIVIAL)) == Cell("0", "of 768", figure=Mean(0))


def test_the_spectrum_is_drawn_where_it_was_kept(tmp_path: Path) -> None:
    write_kernel(tmp_path / "kernel", 96)
    (figure,) = REPORT.figures(view(tmp_path / "kernel", **KERNEL))
    assert figure.name == "spectrum" and "from 2.78 down to 0.00713" in figure.alt
    assert not list(REPORT.figures(view(**KERNEL))), "only results.json at hand"


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: spectrum([1.0, 0.0], 1e-12), id="zero-singular-value"),
        pytest.param(lambda: spectrum([1.0], 1e-12, patch_dim=9), id="one-value"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_figures_of_little_data(draw: Any) -> None:
    assert draw().startswith(b"\x89PNG")

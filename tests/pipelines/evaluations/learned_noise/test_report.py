"""The report on the learned noise, beside its controls."""

from __future__ import annotations

import pytest

from pipelines.evaluations.learned_noise.report import REPORT, epsilon_verdict, figures, section, sentence, tile
from pipelines.report.view import Result
from tests.pipelines.report.results import model_results, outcome, view

FOUND = model_results(trivial=False)["learned_noise"]
VIEW = view(**FOUND)


def test_the_learned_number_has_its_controls_beside_it() -> None:
    assert sentence(Result(FOUND)) == (
        "Noise 0.82 times the token norm leaves 95.3 % [94.2, 96.4] of predictions unchanged; the same noise permuted "
        "leaves 41.2 % [38.9, 43.5], Gaussian noise of that norm 40.5 % [38.2, 42.8]."
    )
    assert (tile(VIEW).value, tile(VIEW).sentence) == ("95.3 %", sentence(Result(FOUND)))


def test_the_sentence_says_when_a_control_does_as_well() -> None:
    conditions = {**FOUND["conditions"], "gaussian": outcome(0.95, 0.023, 12.2)}
    assert "The intervals overlap" in sentence(Result({**FOUND, "conditions": conditions}))
    alone = {**FOUND, "conditions": {"learned": FOUND["conditions"]["learned"]}}
    assert sentence(Result(alone)).endswith("of predictions unchanged.")


@pytest.mark.parametrize(
    ("change", "ends", "text"),
    [
        (0.03, [0.02, 0.04], "inside: ‖Δprobabilities‖² 0.03 [0.02, 0.04], ε = 0.05"),
        (0.045, [0.03, 0.06], "not shown to be inside: ‖Δprobabilities‖² 0.045 [0.03, 0.06], ε = 0.05"),
        (0.03, None, "not shown to be inside: ‖Δprobabilities‖² 0.03, ε = 0.05"),
        (0.07, [0.06, 0.08], "outside: ‖Δprobabilities‖² 0.07 [0.06, 0.08], ε = 0.05"),
    ],
)
def test_noise_is_inside_only_when_its_whole_interval_is(change: float, ends: list[float] | None, text: str) -> None:
    learned = {"n": 9, "mse_probabilities": change, "mse_probabilities_ci": ends}
    found = Result({"epsilon": 0.05, "conditions": {"learned": learned}})
    assert epsilon_verdict(found) == text
    assert dict(section(view(**found.content)).facts)["ε-region, test images"] == text


def test_rows_columns_and_bars_are_of_all_conditions() -> None:
    assert [(row.title, row.control) for row in REPORT.outcomes(VIEW)] == [
        ("learned noise", False),
        ("same noise, permuted", True),
        ("Gaussian noise, same norm", True),
    ]
    cells = [column(VIEW) for column in REPORT.columns.values()]
    assert [cell.text for cell in cells] == ["95.3 %", "41.2 %", "40.5 %"]
    (figure,) = figures(VIEW)
    assert "learned noise 95.3 % [94.2, 96.4]; same noise, permuted 41.2 %" in figure.alt

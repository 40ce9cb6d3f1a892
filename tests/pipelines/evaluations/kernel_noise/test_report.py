"""The report on noise from the kernel, beside its controls."""

from __future__ import annotations

from pipelines.evaluations.kernel_noise.report import REPORT, figures, lines, section, tile
from pipelines.report.parts import Cell
from tests.pipelines.report.results import model_results, outcome, view

VIEW = view(**model_results(trivial=False)["kernel_noise"])


def test_every_condition_is_a_row_and_controls_are_muted() -> None:
    (table,) = section(VIEW).tables
    assert [cells[0].text for cells in table.rows] == [
        *("kernel noise", "kernel noise, valid pixels"),
        *("same noise, permuted", "Gaussian noise, same norm"),
    ]
    assert table.muted == [False, False, True, True]
    assert table.rows[0][1:3] == [Cell("100 %", "[99.8, 100]"), Cell("1,797")]
    assert [(row.title, row.control) for row in REPORT.outcomes(VIEW)] == [
        (cells[0].text, muted) for cells, muted in zip(table.rows, table.muted, strict=True)
    ]


def test_the_headline_has_its_control_beside_it() -> None:
    found = tile(VIEW)
    assert (found.value, found.unit) == ("100 %", "unchanged")
    assert found.sentence == (
        "Noise in the kernel leaves 100 % [99.8, 100] of predictions unchanged, the same noise permuted "
        "21.4 % [19.5, 23.3]."
    )
    alone = view(conditions={"exact": outcome(1.0, 0.002, 1e-6)})
    assert tile(alone).sentence == "Noise in the kernel leaves 100 % [99.8, 100] of predictions unchanged."


def test_what_8_bits_cost_is_a_line() -> None:
    saved = outcome(1.0, 0.002, 1e-6, largest_token_change=0.0003, max_probability_change=4.7e-4)
    text = lines(view(conditions={"exact": saved, "in_box": saved}))
    assert text == ["8 bits: tokens moved by 0.03 % of their norm at most, probabilities by 4.7e-4"]
    assert lines(view(conditions={"exact": saved})) == []


def test_models_are_compared_by_exact_noise() -> None:
    cell = Cell("100 %", "[99.8, 100]\nn = 1,797", figure=VIEW.result.conditions["exact"].agreement, n=1797)
    assert REPORT.columns["Kernel noise"](VIEW) == cell
    assert REPORT.columns["Kernel noise"](view(conditions={})) == Cell("—")


def test_the_figure_says_in_words_what_it_shows() -> None:
    (figure,) = figures(VIEW)
    assert "kernel noise 100 % [99.8, 100]; same noise, permuted 21.4 %" in figure.alt

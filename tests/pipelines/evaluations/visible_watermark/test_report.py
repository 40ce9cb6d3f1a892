"""The report on the visible watermark: how it looks, what it costs the model, also after JPEG."""

from __future__ import annotations

from pipelines.evaluations.visible_watermark.report import REPORT, lines, section, sentence
from pipelines.report.outcomes import Outcome
from pipelines.report.parts import Cell
from pipelines.report.view import Result
from tests.pipelines.report.results import mark, outcome, view


def test_the_section_has_a_table_after_jpeg() -> None:
    plain = {"agreement": 0.99, "n": 600, "max_abs_logit_change": 0.3}
    marked = {"psnr": 20.0, "max_probability_change": 0.004, **plain}
    found = section(view(conditions={"marked": marked, "plain": plain, "jpeg_95": plain, "jpeg_75": plain}))
    assert [cells[0].text for cells in found.tables[0].rows] == ["visible watermark", "same mark laid on plainly"]
    assert [cells[0].text for cells in found.tables[1].rows] == ["JPEG 95", "JPEG 75"]
    assert dict(found.facts)["Largest change of a probability"] == "0.004"


def test_quality_contrast_and_certificate_are_facts() -> None:
    moved = {"token_change": 2e-4, "token_change_ci": [1e-4, 3e-4], "largest_token_change": 0.0031}
    found = section(view(conditions={"marked": {**mark(), **moved, "unmarked": 3}}))
    values = dict(found.facts)
    assert values["PSNR to the original"] == "17.5 dB [17.2, 17.7]"
    assert values["SSIM to the original"] == "0.713 [0.706, 0.72]"
    assert values["Texture contrast without the mark"] == "-0.08 [-0.1, -0.06]"
    assert values["Tokens moved, ‖A·δ‖ in token norms"] == "0.02 % (root mean square), 0.3 % in the worst patch"
    assert values["Left as they were"] == "3 images leave no room for it"
    unmoved = dict(section(view(conditions={"marked": mark()})).facts)
    assert not {"Left as they were", "Tokens moved, ‖A·δ‖ in token norms"} & unmoved.keys()
    assert len(found.tables) == 1, "no table of JPEG where there was none"


def test_its_rows_have_both_controls() -> None:
    conditions = {"marked": mark(), "plain": outcome(0.4, 0.1, 6), "permuted": outcome(0.9, 0.1, 3)}
    assert [(row.title, row.control) for row in REPORT.outcomes(view(conditions=conditions))] == [
        ("visible watermark", False),
        ("same mark laid on plainly", True),
        ("its change, permuted", True),
    ]


def test_the_tile_the_lines_and_the_cell_of_the_comparison() -> None:
    one = view(conditions={"marked": {**mark(), "largest_token_change": 0.0003, "max_probability_change": 4.7e-4}})
    assert lines(one) == [
        "PSNR 17.5 dB, SSIM 0.713",
        "8 bits: tokens moved by 0.03 % of their norm at most, probabilities by 4.7e-4",
    ]
    text = "A visible mark of PSNR 17.5 dB, saved as 8-bit pixels, leaves 99.97 % [99.9, 100] of predictions unchanged."
    assert sentence(one.result) == text
    assert REPORT.tile is not None and REPORT.tile(one).sentence == text
    cell = Cell("99.97 %", "[99.9, 100]\nn = 1,797", figure=one.result.conditions["marked"].agreement, n=1797)
    assert REPORT.columns["Visible watermark"](one) == cell


def test_marks_without_room_have_no_psnr() -> None:
    given = {name: value for name, value in mark().items() if not name.startswith("psnr")}
    assert "PSNR —," in sentence(Result({"conditions": {"marked": given}}))
    assert dict(section(view(conditions={"marked": given})).facts)["PSNR to the original"] == "—"
    assert Outcome.of(given).text("psnr") == ("—", "")

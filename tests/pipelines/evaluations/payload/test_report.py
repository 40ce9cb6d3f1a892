"""The report on hidden messages: after which distortions they are read, and what the model notices."""

from __future__ import annotations

from typing import Any

from pipelines.evaluations.payload.report import REPORT, messages, section
from pipelines.report.outcomes import Share
from pipelines.report.parts import Cell
from pipelines.report.view import Result
from tests.pipelines.report.results import share, view

READ = {
    "n": 600,
    "max_probability_change": 0.01,
    **share("bit_accuracy", 1.0),
    **share("word_accuracy", 0.98),
    **share("found_at_1e-6", 1.0),
    **share("agreement", 0.99),
}
UNMARKED = {"n": 600, **share("found_at_1e-3", 0.0)}
SETTINGS = {"message_bytes": 8}


def result(**conditions: dict[str, Any]) -> dict[str, Any]:
    return {"conditions": {"unmarked": UNMARKED, **conditions}, "settings": SETTINGS}


def test_hidden_messages_have_a_row_for_every_distortion() -> None:
    quality = {"psnr": 42.3, "psnr_ci": [42.2, 42.4], "ssim": 0.98, "ssim_ci": [0.97, 0.99]}
    found = section(view(**result(**{"none": {**READ, **quality}, "noise_0.02+jpeg_75": READ})))
    (table,) = found.tables
    assert [cells[0].text for cells in table.rows] == ["saved as PNG", "noise 0.02 + jpeg 75"]
    assert [cell.text for cell in table.rows[0][1:]] == ["100 %", "98.0 %", "100 %", "99.0 %", "0.01"]
    assert table.rows[0][2].detail == "[97.0, 99.0]"
    facts = dict(found.facts)
    assert facts["Message"] == "64 bits of its own in every image, n = 600" and facts["SSIM to the original"] == "0.98"
    assert facts["PSNR to the original"] == "42.3 dB [42.2, 42.4]"
    assert facts["Largest change of a probability"] == "0.01"
    assert facts["Found where there is none"] == "0 % at a stated rate of 0.1 %"


def test_where_no_picture_was_only_saved_there_is_no_quality() -> None:
    facts = dict(section(view(**result(blur_1=READ))).facts)
    assert facts.keys() == {"Message", "Found where there is none"}


def read_after(shares: dict[str, tuple[float, list[float]]]) -> dict[str, Any]:
    conditions: dict[str, dict[str, Any]] = {
        name: {"word_accuracy": value, "word_accuracy_ci": ends, "n": 600} for name, (value, ends) in shares.items()
    }
    if "none" in conditions:
        conditions["none"] |= {"psnr": 40.31, "psnr_ci": [40.2, 40.4]}
    return result(**conditions)


def test_how_many_messages_are_read_is_a_line_in_the_terminal() -> None:
    found = read_after({"none": (1.0, [0.99, 1.0]), "jpeg_50": (0.98, [0.96, 0.99]), "jpeg_50+blur_1": (0.1, [0, 0.2])})
    text = "8 bytes, 40.3 dB; read after PNG 100 %, JPEG 50 98.0 %, least [96.0, 99.0], n = 600"
    assert messages(Result(found)) == text
    assert REPORT.lines(view(**found)) == [text]
    assert REPORT.tile is not None
    tile = REPORT.tile(view(**found))
    assert (tile.value, tile.unit, tile.sentence) == ("98.0 %", "read after saving, at least", f"{text}.")
    cell = Cell("98.0 %", "[96.0, 99.0]\nn = 600", figure=Share(0.98, 0.96, 0.99), n=600)
    assert REPORT.columns["Messages read"](view(**found)) == cell


def test_without_pictures_only_saved_there_is_no_line_on_messages() -> None:
    found = read_after({"jpeg_50+blur_1": (0.1, [0, 0.2])})
    assert messages(Result(found)) is None and messages(Result({})) is None
    assert REPORT.lines(view(**found)) == []
    assert REPORT.tile is not None and REPORT.tile(view(**found)).value == "—"
    assert REPORT.columns["Messages read"](view(**found)) == Cell("—")

"""The report on explanations: a sentence for each map, tables with controls, pictures in their order."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluations.attribution.report import REPORT, figures, section, sentence
from pipelines.report.drawing import LIGHT
from pipelines.report.view import Result, StageView
from tests.pipelines.report.results import attribution, view, write_pictures

FOUND = attribution(exact=True)
VIEW = view(**FOUND)
ATTENTION = "gradient-weighted attention"


def test_a_sentence_says_what_becomes_of_each_map() -> None:
    facts = dict(section(VIEW).facts)
    assert facts["input × gradient"] == (
        "noise in the kernel cannot change it (rank correlation 1) over tokens, and pixel by pixel it does: 12.0 % of "
        "its largest stay; no noise was searched for"
    )
    assert facts[ATTENTION].startswith("noise in the kernel cannot change it (rank correlation 1); search moves it to ")
    assert "-0.31 [-0.33, -0.29] at 4/255 (100 % [98.0, 100] of predictions unchanged)" in facts[ATTENTION]
    assert "at 0.1 token norms" in facts[ATTENTION]


def test_the_headline_is_the_search_at_the_least_epsilon_beside_random_signs() -> None:
    text = sentence(Result(FOUND))
    assert text.startswith(f"{ATTENTION} moved, ε = 4/255: rank correlation -0.31 [-0.33, -0.29], random signs")
    assert "0.94" in text and text.endswith("; 100 % unchanged")
    assert REPORT.tile is not None and REPORT.tile(VIEW).value == "-0.31"
    assert REPORT.columns["Map moved"](VIEW).text == "-0.31"
    assert [each.title for each in REPORT.outcomes(VIEW) if not each.control] == [
        "input × gradient moved in the kernel", f"{ATTENTION} moved, ε = 4/255",
    ]  # fmt: skip


def test_every_table_has_its_controls_muted() -> None:
    tables = {table.caption.partition(" ")[0]: table for table in section(VIEW).tables}
    assert set(tables) == {"Rank", "Share", "Correlation", "SSIM", "Shift", "Likeness", "Of", "Probability"}
    rank = tables["Rank"]
    assert len(rank.rows) == len(FOUND["conditions"]) - 1 == len(rank.muted)
    muted = [row[0].text for row, is_muted in zip(rank.rows, rank.muted, strict=True) if is_muted]
    assert muted[:3] == ["weights in random order", "a random map", "its change, permuted"]
    assert all(len(row) == len(table.columns) for table in tables.values() for row in table.rows)
    assert [row[1].text for row in tables["Probability"].rows] == ["0.31", "0.31", "0.31"]


def test_without_a_kernel_or_a_search_it_says_what_there_is() -> None:
    facts = dict(section(view(**attribution(exact=False))).facts)
    assert facts["input × gradient"].startswith("there is no noise in the kernel")
    found = {name: figures for name, figures in FOUND["conditions"].items() if not name.startswith(("away", "towards"))}
    settings = {**FOUND["settings"], "searched": []}
    assert sentence(Result({"conditions": found, "settings": settings})) == (
        "Noise in the kernel leaves 12.0 % of the largest pixels where they were."
    )


def test_pictures_stand_in_the_order_of_the_conditions(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("steered_difference", "steered", "image_map_pixels", "image"))
    shown = section(StageView("digits", Result(FOUND), tmp_path))
    assert shown.pictures is not None
    assert shown.pictures.columns == ["image", "image_map_pixels", "steered", "steered_difference"]
    assert shown.picture_titles["image_map_pixels"] == "input × gradient, pixels"


def test_the_figure_is_drawn_and_said_in_words() -> None:
    (figure,) = figures(VIEW)
    assert figure.draw(LIGHT).startswith(b"\x89PNG") and f"{ATTENTION} moved, ε = 4/255: " in figure.alt


def test_nothing_found_is_no_error() -> None:
    missing = {"conditions": {}, "settings": FOUND["settings"]}
    assert sentence(Result(missing)) == "Nothing was asked." and section(view(**missing)).tables

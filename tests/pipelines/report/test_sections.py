"""What the report says about a search: the space that was searched, and which of its values decided the radius."""

from __future__ import annotations

from typing import Any

from pipelines import wording
from pipelines.report import terminal
from pipelines.report.inputs import StageFolders
from pipelines.workflow.model_part import hidden_section, noise_facts, watermark_section

SEARCH: dict[str, Any] = {
    "space": {"relative_norm": [0.25, 2.0], "learning_rate": [0.001, 0.1], "steps": [200, 400]},
    "importance": {"learning_rate": 0.25, "relative_norm": 0.7, "steps": 0.05},
}


def test_the_space_searched_is_told_value_by_value() -> None:
    said = dict(noise_facts(SEARCH))["Searched"]
    assert said == "relative norm 0.25 to 2; learning rate 0.001 to 0.1; steps 200 to 400"


def test_what_decided_the_radius_is_told_largest_share_first() -> None:
    said = dict(noise_facts(SEARCH))["What decided the radius"]
    assert said.startswith("relative norm 70") and said.endswith("of its variance over the trials (fANOVA)")
    assert said.index("relative norm") < said.index("learning rate 25") < said.index("steps 5")


def test_a_search_that_kept_neither_says_nothing_of_them() -> None:
    for nothing in ({}, {"space": None, "importance": None}, {"space": {}, "importance": {}}):
        assert not {"Searched", "What decided the radius"} & dict(noise_facts(nothing)).keys()


def test_hidden_messages_have_a_row_for_every_distortion() -> None:
    row = {
        "bit_accuracy": 1.0,
        "word_accuracy": 0.98,
        "found_at_1e-6": 1.0,
        "agreement": 0.99,
        "max_probability_change": 0.01,
    }
    hidden = {
        "message_bytes": 8,
        "n": 600,
        "psnr": 42.3,
        "ssim": 0.98,
        "max_probability_change": 0.002,
        "unmarked": {"found_at_1e-3": 0.0},
        "distortions": [
            {"distortion": "none", "family": "none", **row},
            {"distortion": "noise_0.02+jpeg_75", "family": "combined", **row},
        ],
    }
    section = hidden_section({"watermark": {"psnr": 20.0, "hidden": hidden}})
    assert [cells[0].text for cells in section.tables[0].rows] == ["saved as PNG", "noise 0.02 + jpeg 75"]
    assert [cell.text for cell in section.tables[0].rows[0][1:]] == ["100 %", "98.0 %", "100 %", "99.0 %", "0.01"]
    facts = dict(section.facts)
    assert facts["Message"] == "64 bits of its own in every image, n = 600" and facts["SSIM to the original"] == "0.98"


def test_how_many_messages_are_read_is_a_line_in_the_terminal() -> None:
    shares = {"none": (1.0, [0.99, 1.0]), "jpeg_50": (0.98, [0.96, 0.99]), "jpeg_50+blur_1": (0.1, [0, 0.2])}
    distortions = [
        {"distortion": name, "word_accuracy": share, "word_accuracy_ci": ends, "n": 600}
        for name, (share, ends) in shares.items()
    ]
    mark = {"psnr": 20.0, "hidden": {"message_bytes": 8, "psnr": 40.31, "distortions": distortions}}
    said = "8 bytes, 40.3 dB; read after PNG 100 %, JPEG 50 98.0 %, least [96.0, 99.0], n = 600"
    assert wording.messages(mark) == said
    assert f"  messages   {said}" in list(terminal.facts({"watermark": mark}))
    none = [{"psnr": 20.0}, {"skipped": "no kernel"}, {"psnr": 20.0, "hidden": {"skipped": "too few"}}, {}]
    assert not any(wording.messages(mark) for mark in none)
    assert wording.messages({"psnr": 20.0, "hidden": {"message_bytes": 8, "distortions": distortions[2:]}}) is None


def test_why_there_are_no_hidden_messages_is_said() -> None:
    assert hidden_section({"watermark": {"hidden": {"skipped": "too few places"}}}).missing == "too few places"
    assert hidden_section({"watermark": {"skipped": "no kernel"}}).missing == "no kernel"


def test_the_visible_mark_is_told_after_jpeg_too() -> None:
    outcome = {"agreement": 0.99, "n": 600, "max_abs_logit_change": 0.3}
    mark = {"psnr": 20.0, "max_probability_change": 0.004, **outcome, "controls": {"plain": outcome}}
    mark["after_jpeg"] = {"95": outcome, "75": outcome}
    section = watermark_section("a", {"watermark": mark}, StageFolders())
    assert [cells[0].text for cells in section.tables[1].rows] == ["JPEG 95", "JPEG 75"]
    assert dict(section.facts)["Largest change of a probability"] == "0.004"


def test_what_is_promised_is_said_with_bound_confidence_and_n() -> None:
    guarantee = {"epsilon": 0.05, "bound": 0.0481, "confidence": 0.95, "n": 200, "scale": 0.84, "tested": []}
    noise = {**SEARCH, "relative_norm": 2.07, "guarantee": guarantee}
    said = dict(noise_facts(noise))["Guarantee"]
    assert said.startswith("mean ‖Δprobabilities‖² ≤ 0.0481 on new images")
    assert "confidence 95 %" in said and "200 calibration" in said
    size = "2.07 times the token norm; mean |dp|^2 <= 0.0481 on new images, with confidence 95 %"
    assert terminal.noise_size(noise) == size
    conditions = {"learned": {"agreement": 0.97, "n": 300}}
    assert "Guaranteed: mean ‖Δprobabilities‖² ≤ 0.0481" in wording.noise_sentence({**noise, "conditions": conditions})

"""The report on natural corruptions, and why there is no mCE."""

from __future__ import annotations

import copy
import io
from typing import Any

from PIL import Image

from nullspace.robustness.corruptions.names import NAMES, SEVERITIES
from pipelines.evaluations.corruption.figures import agreement_map
from pipelines.evaluations.corruption.report import REPORT, figures, section, sentence
from pipelines.report.drawing import LIGHT
from pipelines.report.parts import Cell
from tests.pipelines.report.results import corruption, share, view

RESULT = corruption(exact=True)
VIEW = view(**RESULT)


def facts(result: dict[str, Any]) -> dict[str, str]:
    return dict(section(view(**result)).facts)


def changed(**mean: Any) -> dict[str, Any]:
    """The results with other figures of the mean."""
    result = copy.deepcopy(RESULT)
    result["conditions"]["mean"] |= mean
    return result


def test_each_corruption_and_severity_is_a_row_beside_its_control() -> None:
    kinds, severities, cells = section(VIEW).tables
    assert [row[0].text for row in kinds.rows] == ["gaussian noise", "JPEG compression", "all"]
    assert [row[0].text for row in severities.rows] == ["severity 1", "severity 3"]
    assert len(cells.rows) == 4 and cells.folded and cells.rows[1][0].text == "gaussian noise 3"
    for table in (kinds, severities, cells):
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert (row[1].text, row[2].text, row[3].text) == ("32.0 %", "71.0 %", "52.0 %")
            assert (row[7].text, row[8].text) == ("21.0 %", "50.0 %")


def test_error_has_its_interval_and_the_clean_one_beside_it() -> None:
    found = facts(RESULT)
    assert found["Mean error"] == (
        "32.0 % [31.0, 33.0]; of the clean images 4.0 %, a difference of 28.0 % [27.0, 29.0]"
    )
    assert sentence(VIEW.result).startswith("mean error 32.0 % [31.0, 33.0], clean 4.0 %; 71.0 %")
    assert REPORT.columns["Mean corruption error"](VIEW).text == "32.0 %"
    assert REPORT.columns["Mean corruption error"](view(conditions={})) == Cell("—")
    assert [(each.title, each.control) for each in REPORT.outcomes(VIEW)] == [
        ("natural corruptions", False), ("their changes, permuted", True),
    ]  # fmt: skip


def test_the_share_in_the_kernel_stands_beside_that_of_white_noise() -> None:
    assert facts(RESULT)["Share of the changes in the kernel"].endswith("; of white noise 50.0 %, by dimension")
    assert facts(corruption(exact=False))["Share of the changes in the kernel"] == "none: the kernel is trivial"


def test_mce_is_given_or_it_is_said_why_not() -> None:
    title = "mCE, relative to AlexNet"
    assert facts(RESULT)[title] == "not defined: it needs all 15 corruptions at all 5 severities"
    assert facts(changed(**share("mce", 0.711)))[title] == "71.1 % [70.1, 72.1]"
    unlabelled = changed()
    for name in ("error", "error_ci", "excess_error", "excess_error_ci"):
        unlabelled["conditions"]["mean"].pop(name)
    assert facts(unlabelled)[title] == "not defined: the images have no labels"
    assert facts(unlabelled)["Error"] == "the images have no labels"
    whole: dict[str, Any] = {"names": list(NAMES), "severities": list(SEVERITIES)}
    everywhere = copy.deepcopy(RESULT)
    one = everywhere["conditions"]["gaussian_noise_1"]
    names = [*NAMES, *(f"severity_{each}" for each in SEVERITIES), *(f"{n}_{s}" for n in NAMES for s in SEVERITIES)]
    everywhere["conditions"] = {**dict.fromkeys(names, one), **everywhere["conditions"]}
    assert facts({**everywhere, "settings": whole})[title] == (
        "not defined: the model does not have the 1000 classes of ImageNet"
    )


def test_the_heat_map_says_in_words_what_it_shows() -> None:
    (figure,) = figures(VIEW)
    assert "at severities 1, 3: gaussian noise 71.0 %, 71.0 %; JPEG compression" in figure.alt
    assert Image.open(io.BytesIO(figure.draw(LIGHT))).width > 800
    assert Image.open(io.BytesIO(agreement_map([[0.1, 1.0]], ["fog"], [1, 5]))).height > 100

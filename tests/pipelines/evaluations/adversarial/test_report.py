"""The report on attacks: verdicts with intervals beside controls, what broke images, how small a change is enough."""

from __future__ import annotations

from pipelines.evaluations.adversarial.report import REPORT, curves_of, figures, section, sentence
from pipelines.report.drawing import LIGHT
from pipelines.report.view import Result
from tests.pipelines.report.results import adversarial, view

FOUND = adversarial(exact=True)
VIEW = view(**FOUND)


def test_the_headline_is_the_largest_epsilon_beside_random_signs() -> None:
    text = sentence(Result(FOUND))
    assert text == "Linf 4/255: 0 % [0, 1.0] of 40 images stay robust, after random signs of that size 80.0 %"
    assert REPORT.tile is not None and REPORT.tile(VIEW).value == "0 %"
    assert REPORT.columns["Robust"](VIEW).n == 40
    assert [each.title for each in REPORT.outcomes(VIEW) if not each.control] == [
        "attacked: Linf 1/255", "attacked: Linf 4/255",
    ]  # fmt: skip


def test_tables_have_controls_muted_and_every_image_broken_by_one() -> None:
    robust, broken, sizes = section(VIEW).tables
    assert [row[0].text for row, muted in zip(robust.rows, robust.muted, strict=True) if not muted] == [
        "Linf 1/255", "Linf 4/255",
    ]  # fmt: skip
    assert len(robust.rows) == 12 and robust.rows[0][1].text == "25.0 %" and robust.rows[0][4].text == "31.5"
    assert [cell.text for cell in broken.rows[0]] == ["Linf 1/255", "8", "20", "4", "0", "0", "0", "0"]
    assert [cell.text for cell in sizes.rows[0]][1:] == ["0.21", "150", "714", "40"]
    assert all(len(row) == len(table.columns) for table in (robust, broken, sizes) for row in table.rows)
    assert len(section(view(**adversarial(exact=False))).tables[0].rows) == 6


def test_the_figure_shows_robust_accuracy_over_epsilon() -> None:
    curves = curves_of(Result(FOUND), "linf")
    assert {name: [share.value for share in row.values()] for name, row in curves.items()} == {
        "attacked": [0.25, 0.0], "random signs, same size": [0.8, 0.8],
    }  # fmt: skip
    (found,) = figures(VIEW)
    assert found.draw(LIGHT).startswith(b"\x89PNG") and "attacked: 25.0 % at 1, 0 % at 4" in found.alt

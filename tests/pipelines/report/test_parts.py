"""The one table every noise is shown in."""

from __future__ import annotations

from pipelines.report.outcomes import Mean, Outcome, Share
from pipelines.report.parts import stability_table

SHARE = Share(0.5, 0.4, 0.6)
CONDITIONS = {
    "control": Outcome(10, SHARE, {"mse_logits": Mean(2.0, 1.0, 3.0)}, {"max_abs_logit_change": 4.0}),
    "noise": Outcome(10, SHARE, {"mse_logits": Mean(1.0), "blur": Mean(0.25, 0.2, 0.3)}),
}
LABELS = {"noise": "noise", "control": "a control of its own"}


def test_conditions_come_in_the_order_of_the_labels_and_controls_are_muted() -> None:
    table = stability_table("A table", CONDITIONS, LABELS, controls=("control",))
    assert [row[0].text for row in table.rows] == ["noise", "a control of its own"] and table.muted == [False, True]
    assert table.columns == ["Noise", "Unchanged", "n", "‖Δlogits‖²", "max |Δlogit|"]
    assert (table.rows[1][3].text, table.rows[1][3].detail, table.rows[0][4].text) == ("2", "[1, 3]", "—")


def test_a_figure_of_ones_own_is_shown_by_its_title() -> None:
    table = stability_table("A table", CONDITIONS, LABELS, own={"blur": "Blur"})
    assert "Blur" in table.columns
    assert table.rows[0][table.columns.index("Blur")].detail == "[0.2, 0.3]"

"""One shape for what a model answers under a condition: read from JSON, and said with its interval."""

from __future__ import annotations

import pytest

from pipelines.report.outcomes import Mean, Outcome, Share, in_order, mean_in, separated
from pipelines.report.view import Result
from tests.pipelines.report.results import outcome


def test_an_outcome_is_read_from_json() -> None:
    found = Outcome.of({**outcome(0.953, 0.011, 1.93), "unmarked": 3, "family": "none", "vif": None})
    assert found.n == 1797 and found.agreement == Share(0.953, 0.953 - 0.011, 0.953 + 0.011)
    assert found.means["mse_logits"] == Mean(1.93, 0.8 * 1.93, 1.2 * 1.93)
    assert found.means["confidence_change"] == Mean(-1.93 / 90), "measured on one image: no interval"
    assert (found.numbers["max_abs_logit_change"], found.numbers["unmarked"]) == (3 * 1.93, 3)
    assert not {"family", "vif", "agreement", "mse_logits"} & found.numbers.keys()
    assert found.unchanged == "95.3 % [94.2, 96.4]"


def test_a_figure_has_its_interval_or_is_a_dash() -> None:
    found = Outcome.of(
        {"n": 9, "psnr": 41.23, "psnr_ci": [41.0, 41.4], "max_probability_change": 0.004, "ssim_ci": None}
    )
    assert found.text("psnr") == ("41.2", "[41, 41.4]") and found.text("max_probability_change") == ("0.004", "")
    assert found.text("ssim") == found.text("never") == ("—", "")
    assert (found.agreement, found.unchanged) == (None, "—")


def test_a_mean_may_be_a_share() -> None:
    found = Outcome.of({"n": 9, "word_accuracy": 0.98, "word_accuracy_ci": [0.96, 0.99]})
    assert found.share("word_accuracy") == Share(0.98, 0.96, 0.99) and found.share("bit_accuracy") is None
    assert Share(0.98, 0.96, 0.99).both == "98.0 % [96.0, 99.0]" and Share(0.98).both == "98.0 %"


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((0.9, 0.8, 0.95), (0.5, 0.4, 0.6), True),
        ((0.9, 0.55, 0.95), (0.5, 0.4, 0.6), False),
        ((0.9, None, None), (0.5, 0.4, 0.6), None),
        (None, (0.5, 0.4, 0.6), None),
    ],
)
def test_outcomes_are_apart_when_their_whole_intervals_are(
    ours: tuple[float, float | None, float | None] | None, theirs: tuple[float, float, float], said: bool | None
) -> None:
    better = Outcome(9, None if ours is None else Share(*ours))
    assert separated(better, Outcome(9, Share(*theirs))) is said


def test_conditions_come_in_the_order_of_their_labels() -> None:
    conditions: dict[str, Outcome] = {name: Outcome(1, None) for name in ["odd", "permuted", "exact"]}
    assert in_order(conditions, {"exact": "", "in_box": "", "permuted": ""}) == ["exact", "permuted", "odd"]


def test_what_a_result_does_not_hold_is_none_or_empty() -> None:
    said = Result({"conditions": {"a": {"n": 2}, "b": {}, "c": {"n": 0}}, "gap": None, "flag": True, "name": "x"})
    assert list(said.conditions) == ["a"], "conditions without a row are left out"
    assert (said.value("gap"), said.value("never"), said.number("gap")) == (None, None, "—")
    assert (said.text("never"), said.flag("never"), said.flag("flag"), said.value("flag")) == ("", False, True, None)
    assert not said.below("never") and said.skipped is None and said.mean("gap") is None
    assert Result({"skipped": "no kernel"}).skipped == "no kernel" and Result({}).conditions == {}
    assert mean_in({"psnr": 40, "psnr_ci": None}, "psnr") == Mean(40)

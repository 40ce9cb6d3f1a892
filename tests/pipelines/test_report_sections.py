"""What the report says about a search: the space that was searched, and which of its values decided the radius."""

from __future__ import annotations

from typing import Any

from pipelines.report_sections import noise_facts

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

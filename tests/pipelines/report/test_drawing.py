"""Figures that several stages draw, also of little data."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.report import drawing
from pipelines.report.outcomes import Outcome, Share


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"odd": Outcome(1, Share(0.5))}, id="no-interval"),
        pytest.param({"odd": Outcome(1, None)}, id="no-agreement"),
        pytest.param({}, id="no-condition"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bars_of_little_data(conditions: Any) -> None:
    assert drawing.agreement_bars(conditions, labels={}).startswith(b"\x89PNG")


def test_conditions_without_a_share_have_no_bar() -> None:
    one = {"learned": Outcome(9, Share(0.5, 0.4, 0.6))}
    with_nothing = {**one, "permuted": Outcome(9, None)}
    labels = {"learned": "learned noise", "permuted": "permuted"}
    assert drawing.agreement_bars(with_nothing, labels=labels) == drawing.agreement_bars(one, labels=labels)

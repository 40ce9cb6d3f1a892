"""How numbers are spelled: short, and never more certain than they are."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import wording


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.0, "0 %"), (0.9996, "99.96 %"), (0.00004, "0.004 %"), (0.953, "95.3 %"), (None, "—")],
)
def test_a_share_is_never_rounded_to_certainty(share: float | None, text: str) -> None:
    assert wording.format_percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1797, "1,797"), (2.1e-5, "2.1e-5"), (0.0, "0"), (0.8234, "0.823"), (1234.5, "1,234"), (3e9, "3.0e9"),
     (float("nan"), "—"), (True, "—"), (float("inf"), "∞")],
)  # fmt: skip
def test_numbers_are_short(value: Any, text: str) -> None:
    assert wording.format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (59.99, "60.0 s"), (252, "4 min 12 s"), (7499, "2 h 04 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.format_duration(seconds) == text

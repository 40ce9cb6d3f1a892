"""Figures of fooled pictures: shares with Wilson's interval and medians, beside what every evaluation has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nullspace.metrics.outcomes import median, wilson_interval
from pipelines.evaluations.fooling.measures import QUALITY, RELATIVE
from pipelines.evaluations.fooling.ways import JUDGED, judged
from pipelines.evaluations.tallies import OutcomeTally, finite_values

_MEANS = (*RELATIVE, *QUALITY, "confidence_off", "token_difference", "passes")
_SHARES = ("as_look", "nearer_than_pairs")


class FoolingTally(OutcomeTally):
    """Also counts shares, and keeps the values of a few columns for their medians: pairs are few hundred."""

    def __init__(self, judges: Sequence[str]) -> None:
        """`judges` are the labels of the other models that were asked."""
        super().__init__(_MEANS)
        answers = (judged(label, name) for label in judges for name in JUDGED)
        self.shares: dict[str, tuple[int, int]] = dict.fromkeys((*_SHARES, *answers), (0, 0))
        self.medians = {name: np.empty(0) for name in RELATIVE}

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        super().add(rows)
        for name, (count, n) in self.shares.items():
            values = finite_values(rows, name)
            self.shares[name] = count + int(values.sum()), n + len(values)
        for name, known in self.medians.items():
            self.medians[name] = np.concatenate([known, finite_values(rows, name)])

    def to_dict(self) -> dict[str, Any]:
        found = super().to_dict()
        for name, (count, n) in self.shares.items():
            found |= {name: count / n, f"{name}_ci": list(wilson_interval(count, n))} if n else {}
        for name, values in self.medians.items():
            found |= median(f"median_{name}", values) if len(values) else {}
        return found

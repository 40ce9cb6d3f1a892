"""Figures of corruptions: error and agreement with their intervals, and means over corruptions for each image."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nullspace.metrics.outcomes import Moments, wilson_interval
from pipelines.evaluations.corruption.ways import AGREEMENT, AVERAGED, ERROR, EXCESS, KERNEL, MCE, RMS
from pipelines.evaluations.tallies import OutcomeTally, finite_values

_SHARES = (ERROR, AGREEMENT, KERNEL)


class CellTally(OutcomeTally):
    """One corruption at one severity: also how many answers are wrong, of images with a label."""

    def __init__(self) -> None:
        super().__init__((KERNEL, RMS))
        self.wrong, self.labelled = 0, 0

    def add(self, rows: pa.Table) -> None:
        super().add(rows)
        errors = finite_values(rows, ERROR)
        self.wrong += int(errors.sum())
        self.labelled += len(errors)

    def to_dict(self) -> dict[str, Any]:
        found = super().to_dict()
        if self.labelled:
            ends = wilson_interval(self.wrong, self.labelled)
            found |= {ERROR: self.wrong / self.labelled, f"{ERROR}_ci": list(ends), "labelled": self.labelled}
        return found


class MeanTally:
    """Means over images of what is already a mean of each image's."""

    def __init__(self) -> None:
        self.n, self.moments = 0, dict.fromkeys((*AVERAGED, EXCESS, MCE), Moments())

    def add(self, rows: pa.Table) -> None:
        self.n += rows.num_rows
        for name in self.moments:
            values = finite_values(rows, name)
            self.moments[name] += Moments.of(values) if len(values) else Moments()

    def to_dict(self) -> dict[str, Any]:
        """Empty where there was no row; figures that no image has are left out."""
        if not self.n:
            return {}
        found: dict[str, Any] = {"n": self.n, "labelled": self.moments[ERROR].n}
        for name, moments in self.moments.items():
            found |= moments.named(name) if moments.n else {}
        for ends in (f"{name}_ci" for name in _SHARES):
            if found.get(ends):  # Student's interval of a share near 0 or 1 reaches beyond
                found[ends] = [min(max(end, 0.0), 1.0) for end in found[ends]]
        return found

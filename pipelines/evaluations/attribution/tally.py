"""Figures of maps: their means with intervals, beside what every evaluation has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.evaluations.attribution.ways import LIKENESS, PIXELS, RANDOM
from pipelines.evaluations.tallies import OutcomeTally
from pipelines.evaluations.token_noise import tested


class AttributionTally(OutcomeTally):
    """Means of the columns that a condition has."""

    def __init__(self, maps: Sequence[str], *, learned: bool) -> None:
        """`learned` counts only images that learned noise has not seen."""
        figures = [f"{measure}_{name}" for name in (*maps, "goal") for measure in LIKENESS]
        figures += [f"deletion_{way}_{name}" for name in (*maps, RANDOM) for way in ("along", "across")]
        super().__init__([*figures, PIXELS], only=tested if learned else None)

    def add(self, rows: pa.Table) -> None:
        nothing = pa.array(np.full(rows.num_rows, np.nan))
        for name in self.means:
            if name not in rows.column_names:
                rows = rows.append_column(name, nothing)
        super().add(rows)

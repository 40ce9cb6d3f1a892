"""Figures of attacks: shares with Wilson's interval, counts of what broke images, medians of sizes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from nullspace.metrics.outcomes import median, wilson_interval
from pipelines.evaluations.tallies import OutcomeTally

ROBUST = "robust"
PASSES = ("forwards", "backwards")
SIZES = ("smallest_l2", "invisible_l2", "invisible_over_smallest")
BY = "by"
"""Figures `by_NAME` count the images that an attack broke."""


class AdversarialTally(OutcomeTally):
    """Also how many images stay robust. Sizes may be infinite, where nothing was found: they have medians, no means."""

    def __init__(self) -> None:
        super().__init__()
        self.robust, self.asked = 0, 0
        self.by: Counter[str] = Counter()
        self.passes = dict.fromkeys(PASSES, 0)
        self.sizes = {name: np.empty(0) for name in SIZES}

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        super().add(rows)
        if ROBUST in rows.column_names:
            values = rows.column(ROBUST).drop_null()
            self.robust, self.asked = self.robust + sum(values.to_pylist()), self.asked + len(values)
        if BY in rows.column_names:
            self.by.update(name for name in rows.column(BY).to_pylist() if name)
        for name in PASSES:
            if name in rows.column_names:
                self.passes[name] += sum(rows.column(name).drop_null().to_pylist())
        for name in SIZES:
            if name in rows.column_names:
                values = rows.column(name).drop_null().to_numpy().astype(np.float64)
                self.sizes[name] = np.concatenate([self.sizes[name], values[~np.isnan(values)]])

    def to_dict(self) -> dict[str, Any]:
        found = super().to_dict()
        if self.asked:
            interval = list(wilson_interval(self.robust, self.asked))
            found |= {ROBUST: self.robust / self.asked, f"{ROBUST}_ci": interval}
            found |= {name: count / self.asked for name, count in self.passes.items() if count}
        found |= {f"{BY}_{name}": count for name, count in self.by.items()}
        for name, values in self.sizes.items():
            found |= median(f"median_{name}", values) if len(values) and np.isfinite(np.median(values)) else {}
        return found

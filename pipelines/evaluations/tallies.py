"""Rows of a stage added up shard by shard, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nullspace.metrics.outcomes import Moments, Summary

MAXIMA = {
    "probability_change": "max_probability_change",
    "largest_token_change": "largest_token_change",
}
"""Columns of which the largest value counts, and the names of the figures."""


class Tally(Protocol):
    """What adds up the rows of one condition."""

    def add(self, rows: pa.Table) -> None: ...

    def to_dict(self) -> dict[str, Any]: ...


def take_in(files: Iterable[Path], tallies: Mapping[str, Tally]) -> None:
    """Give every tally the rows of its condition, one file after the other."""
    for file in files:
        table = pq.read_table(file)
        for condition, tally in tallies.items():
            tally.add(table.filter(pc.field("condition") == condition))


def finite_values(rows: pa.Table, name: str) -> np.ndarray:
    """The values of a column that a condition has, float64; none where it has not."""
    if name not in rows.column_names:
        return np.empty(0)
    values = rows.column(name).drop_null().to_numpy().astype(np.float64)
    return values[np.isfinite(values)]


class OutcomeTally:
    """Changes of the model's outputs under one condition, and means of other columns; see `MAXIMA`.

    A mean is that of the finite values: where the pixel range leaves a mark no room (a black image) nothing changes,
    and an infinite PSNR has no mean.
    """

    def __init__(self, means: Sequence[str] = (), *, only: Callable[[pa.Table], pa.Table] | None = None) -> None:
        """`only` picks the rows that count."""
        self.outcomes, self.means, self.only = Summary(), dict.fromkeys(means, Moments()), only
        self.largest: dict[str, float] = {}

    def add(self, rows: pa.Table) -> None:
        rows = rows if self.only is None else self.only(rows)
        if not rows.num_rows:
            return
        columns = {name: rows.column(name).to_numpy() for name in rows.column_names}
        self.outcomes += Summary.of(columns)
        for name in self.means:
            finite = columns[name][np.isfinite(columns[name])]
            self.means[name] += Moments.of(finite) if len(finite) else Moments()
        for name in MAXIMA.keys() & columns.keys():
            self.largest[name] = max(self.largest.get(name, 0.0), float(columns[name].max()))

    def to_dict(self) -> dict[str, Any]:
        """Empty where there was no row."""
        if not self.outcomes.means:
            return {}
        found = {figure: self.largest[name] for name, figure in MAXIMA.items() if name in self.largest}
        for name, moments in self.means.items():
            found |= moments.named(name) if moments.n else {}
        return found | self.outcomes.to_dict()

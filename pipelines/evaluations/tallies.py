"""Rows of a stage taken in shard by shard, so that aggregates cost no memory for their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class Tally(Protocol):
    """What adds up the rows of one condition."""

    def add(self, rows: pa.Table) -> None: ...


def take_in(files: Iterable[Path], tallies: Mapping[str, Tally]) -> None:
    """Give every tally the rows of its condition, one file after the other."""
    for file in files:
        table = pq.read_table(file)
        for condition, tally in tallies.items():
            tally.add(table.filter(pc.field("condition") == condition))

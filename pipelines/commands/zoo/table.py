"""Rows of the zoo as a table for people, CSV, JSON or Markdown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nullspace.kernel.zoo import ZooRow

HEADS = {
    "name": "model",
    "embed_dim": "D",
    "patch": "p",
    "patch_dim": "3p²",
    "tokens": "N",
    "rank": "rank",
    "nullity": "nullity",
    "modulo_shift": "modulo shift",
    "natural_share": "natural",
    "per_channel_nullity": "per channel",
    "shift_directions": "shifts",
    "note": "note",
}
"""Columns for people, by field; CSV and JSON have every field of a row under its own name."""
_WIDE = 10_000  # columns: no line of a table is ever broken


def render(rows: Sequence[ZooRow], style: str) -> str:
    """All rows in the style "table", "csv", "json" or "markdown", with a newline at the end."""
    return STYLES[style](rows)


def cells(row: ZooRow) -> list[str]:
    """One row for people; the note is the reason of a refusal, else how shifts were measured."""
    values = row.to_dict() | {"note": row.reason or row.shift_measured, "patch": _patch(row.patch_size)}
    share = row.natural_share
    values["natural_share"] = None if share is None else f"{100 * share:.1f} %"
    values["modulo_shift"] = None if row.modulo_shift is None else "yes" if row.modulo_shift else "no"
    return ["-" if values[key] is None else str(values[key]) for key in HEADS]


def as_csv(rows: Sequence[ZooRow]) -> str:
    records = [row.to_dict() | {"patch_size": _patch(row.patch_size)} for row in rows]
    # As objects: in a column of numbers pandas would turn whole numbers beside a missing one into floats.
    return pd.DataFrame(records, columns=list(ZooRow("", "").to_dict()), dtype=object).to_csv(index=False)


def as_json(rows: Sequence[ZooRow]) -> str:
    return json.dumps([row.to_dict() for row in rows], indent=2, ensure_ascii=False) + "\n"


def as_markdown(rows: Sequence[ZooRow]) -> str:
    return _drawn([[cell.replace("|", "\\|") for cell in cells(row)] for row in rows], Table(box=box.MARKDOWN))


def as_table(rows: Sequence[ZooRow]) -> str:
    return _drawn(map(cells, rows), Table(box=None, padding=(0, 2, 0, 0), pad_edge=False))


def _drawn(lines: Any, table: Table) -> str:
    """Columns as wide as their widest cell: names and notes to the left, numbers to the right."""
    for key, head in HEADS.items():
        table.add_column(head, justify="left" if key in ("name", "note") else "right", no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    text = io.StringIO()
    Console(file=text, width=_WIDE).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines() if line.strip())


def _patch(size: Any) -> str | None:
    if size is None:
        return None
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


STYLES: dict[str, Callable[[Sequence[ZooRow]], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "markdown": as_markdown,
}

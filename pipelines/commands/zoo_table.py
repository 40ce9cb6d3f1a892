"""Rows of the zoo as a table for people, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

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
    "per_channel_nullity": "per channel",
    "shift_directions": "shifts",
    "note": "note",
}
"""Columns for people, by what they hold; CSV and JSON have every field of a row under its own name."""


def render(rows: Sequence[ZooRow], style: str) -> str:
    """All rows in the style "table", "csv", "json" or "markdown", with a newline at the end."""
    return STYLES[style](rows)


def cells(row: ZooRow) -> list[str]:
    """One row for people; the note is the reason of a refusal, else how shifts were measured."""
    values = row.to_dict() | {"note": row.reason or row.shift_measured, "patch": _patch(row.patch_size)}
    values["modulo_shift"] = None if row.modulo_shift is None else "yes" if row.modulo_shift else "no"
    return ["-" if values[key] is None else str(values[key]) for key in HEADS]


def as_csv(rows: Sequence[ZooRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(ZooRow("", "").to_dict()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_dict() | {"patch_size": _patch(row.patch_size) or ""} for row in rows)
    return text.getvalue()


def as_json(rows: Sequence[ZooRow]) -> str:
    return json.dumps([row.to_dict() for row in rows], indent=2, ensure_ascii=False) + "\n"


def as_markdown(rows: Sequence[ZooRow]) -> str:
    lines = [list(HEADS.values()), ["---"] * len(HEADS), *map(cells, rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def as_table(rows: Sequence[ZooRow]) -> str:
    """Columns as wide as their widest cell: names to the left, numbers to the right, the note as long as it is."""
    lines = [list(HEADS.values()), *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    return "".join(_line(line, widths) for line in lines)


def _line(line: list[str], widths: list[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)]
    return "  ".join([line[0].ljust(widths[0]), *numbers, line[-1]]).rstrip() + "\n"


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

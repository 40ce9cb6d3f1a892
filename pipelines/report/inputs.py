"""What the report reads from the stage folders: small tables, samples and pictures, never a stage's rows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from pipelines.files import read_json

PICTURE_NAME = re.compile(r"(?P<row>\d+)_(?P<column>.+)\.png")
KNOWN_COLUMNS = ("original", "image", "look", "plain", "marked", "difference")
LARGEST_SIDE = 256  # pixels: a page with many examples of 1000 pixels would have tens of megabytes


def small_table(path: Path) -> pd.DataFrame | None:
    """A stage's small summary table (spectrum, trials, curves); None when absent or empty."""
    if not path.is_file():
        return None
    rows = pq.read_table(path).to_pandas()
    return rows if len(rows) else None


@dataclass(frozen=True)
class Unreadable:
    """The first unreadable images (id, path, reason), how many there are, and the files that hold all of them."""

    total: int
    rows: list[dict[str, str]]
    files: list[str]


def unreadable(folders: Sequence[Path], limit: int = 50) -> Unreadable:
    """A sample of the error rows of ingest. Several folders are several preprocessings of the same images:
    the one with most errors is shown."""
    by_folder = {folder: sorted(folder.glob("errors-*.parquet")) for folder in folders}
    totals = {folder: sum(pq.read_metadata(file).num_rows for file in files) for folder, files in by_folder.items()}
    if not totals or not max(totals.values()):
        return Unreadable(0, [], [])
    worst = max(totals, key=lambda folder: totals[folder])
    files = [str(folder / "errors-*.parquet") for folder, total in totals.items() if total]
    return Unreadable(totals[worst], list(_first_rows(by_folder[worst], limit)), files)


def _first_rows(files: Sequence[Path], limit: int) -> Iterator[dict[str, str]]:
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=limit, columns=["id", "path", "reason"]):
            for row in batch.to_pylist():
                if limit == 0:
                    return
                limit -= 1
                yield {name: str(value) for name, value in row.items()}


@dataclass(frozen=True)
class Examples:
    """Example pictures in rows of one image each; a row maps a column's name to the file."""

    columns: list[str]
    rows: list[dict[str, Path]]
    captions: list[dict[str, str]] = field(default_factory=list)
    """For each row, what stands below its pictures, by column; what the model says of them, for instance."""


def examples(folder: Path | None, limit: int = 6) -> Examples:
    """Pictures named `NN_column.png` under `folder`/examples, the first `limit` rows; their captions from `NN.json`."""
    rows: dict[str, dict[str, Path]] = {}
    for path in sorted((folder / "examples").glob("*.png")) if folder is not None else []:
        match = PICTURE_NAME.fullmatch(path.name)
        if match:
            rows.setdefault(match["row"], {})[match["column"]] = path
    keys = sorted(rows, key=int)[:limit]
    shown = [rows[key] for key in keys]
    captions = [_captions(folder / "examples" / f"{key}.json") for key in keys] if folder is not None else []
    names = {name for row in shown for name in row}
    known = [name for name in KNOWN_COLUMNS if name in names]
    return Examples(known + sorted(names.difference(known)), shown, captions)


def _captions(file: Path) -> dict[str, str]:
    return {name: str(text) for name, text in read_json(file).items()} if file.is_file() else {}


def thumbnail(path: Path) -> bytes:
    """The picture as PNG bytes, scaled down to `LARGEST_SIDE` when it is larger."""
    with Image.open(path) as image:
        if max(image.size) <= LARGEST_SIDE:
            return path.read_bytes()
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

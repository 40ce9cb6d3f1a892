"""Files that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}")


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield a path beside `target`; on success it replaces `target`, on failure it is removed."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def sweep(files: Iterable[Path]) -> None:
    """Of these files, remove those that a kill left while they were written aside."""
    for file in files:
        if _ASIDE.fullmatch(file.name):
            file.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> Path:
    with written_aside(target) as aside:
        aside.write_text(text, encoding="utf-8")
    return target


def write_json(target: Path, content: Any) -> Path:
    """JSON without NaN: a figure that does not exist is null, never an invalid token."""
    return write_text(target, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(target: Path, table: pa.Table) -> Path:
    with written_aside(target) as aside:
        pq.write_table(table, aside, compression="zstd")
    return target

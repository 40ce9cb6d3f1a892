"""The manifest: every record of a source, one row group per shard, and the shards named by what they are to hold."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import written_aside
from pipelines.sources import Record, Source

MANIFEST = "manifest.parquet"
_RECORD = pa.schema([("id", pa.string()), ("label", pa.int64()), ("location", pa.string()), ("row", pa.int64())])
_NAMES = "nullspace.shards"


def write_manifest(target: Path, source: Source, shard_images: int) -> None:
    """Stream the records of the source, in its own fixed order, to one row group per shard."""
    records = iter(source.records())
    names: list[str] = []
    with written_aside(target) as aside, pq.ParquetWriter(aside, _RECORD) as writer:
        while rows := list(itertools.islice(records, shard_images)):
            columns = {name: [getattr(record, name) for record in rows] for name in _RECORD.names}
            writer.write_table(pa.table(columns, schema=_RECORD), row_group_size=len(rows))
            names.append(_name(len(names), columns))
        writer.add_key_value_metadata({_NAMES: json.dumps(names)})


def planned_shards(manifest: Path) -> dict[str, int]:
    """Records of every shard by the shard's name, in order."""
    file = pq.ParquetFile(manifest)
    names = json.loads(file.metadata.metadata[_NAMES.encode()])
    return {name: file.metadata.row_group(group).num_rows for group, name in enumerate(names)}


def records_of(manifest: Path, shard: str) -> list[Record]:
    """The records of one shard."""
    rows = pq.ParquetFile(manifest).read_row_group(int(shard.partition("-")[0])).to_pylist()
    return [Record(**row) for row in rows]


def _name(number: int, columns: dict[str, list[Any]]) -> str:
    """Place and content: a file made for other records is never taken for this shard."""
    digest = hashlib.blake2b(json.dumps(columns, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{number:06d}-{digest}"

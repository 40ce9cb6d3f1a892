"""The manifest: every record of a source, one row group per shard, and the shards named by what they are to hold."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.data.sources import Record
from pipelines.files import written_aside

MANIFEST = "manifest.parquet"
RECORDS = pa.schema([("id", pa.string()), ("label", pa.int64()), ("location", pa.string()), ("row", pa.int64())])
_NAMES = "nullspace.shards"
_ROWS = 16_384  # held at a time


def tables_of(records: Iterable[Record]) -> Iterator[pa.Table]:
    """Records as tables of some thousand rows, streamed."""
    records = iter(records)
    while rows := list(itertools.islice(records, _ROWS)):
        yield pa.table({name: [getattr(row, name) for row in rows] for name in RECORDS.names}, schema=RECORDS)


def write_manifest(target: Path, tables: Iterable[pa.Table], shard_images: int) -> None:
    """Stream tables of records, in their order, to one row group per shard."""
    names: list[str] = []
    with written_aside(target) as aside, pq.ParquetWriter(aside, RECORDS) as writer:
        for rows in _cut(tables, shard_images):
            writer.write_table(rows, row_group_size=len(rows))
            names.append(_name(len(names), rows))
        writer.add_key_value_metadata({_NAMES: json.dumps(names)})


def _cut(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= size:
            whole = pa.concat_tables(held)
            rest = len(whole) % size
            for start in range(0, len(whole) - rest, size):
                yield whole.slice(start, size).combine_chunks()
            held = [whole.slice(len(whole) - rest)]
    if any(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()


def planned_shards(manifest: Path) -> dict[str, int]:
    """Records of every shard by the shard's name, in order."""
    file = pq.ParquetFile(manifest)
    names = json.loads(file.metadata.metadata[_NAMES.encode()])
    return {name: file.metadata.row_group(group).num_rows for group, name in enumerate(names)}


def records_of(manifest: Path, shard: str) -> list[Record]:
    """The records of one shard."""
    rows = pq.ParquetFile(manifest).read_row_group(int(shard.partition("-")[0])).to_pylist()
    return [Record(**row) for row in rows]


def _name(number: int, rows: pa.Table) -> str:
    """Place and content: a file made for other records is never taken for this shard."""
    texts = [column.cast(pa.string()) for column in rows.columns]
    join = pc.binary_join_element_wise  # pyright: ignore[reportAttributeAccessIssue]  made when pyarrow is imported
    joined = join(*texts, "\0", null_handling="replace", null_replacement="")
    digest = hashlib.blake2b("\n".join(joined.to_pylist()).encode(), digest_size=4).hexdigest()
    return f"{number:06d}-{digest}"

"""The listing of a source by tasks on all nodes: each writes the records of a few pieces, the driver joins the files.

A file of a listing appears whole or not at all, so one that was stopped goes on at the first file that is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.sources import Source
from pipelines.data.sources.record import Found, Piece, id_hash
from pipelines.engine.workers.shard_workers import Workers, message_or_raise
from pipelines.errors import SourceError
from pipelines.files import written_aside
from pipelines.stages.ingest.manifest import RECORDS, tables_of

_FILES = 256  # at most: a thousand class folders are no thousand tasks
_AHEAD = 2  # tasks given out per worker
_DEATHS = 3  # of a task's worker or node, before the listing is given up
_HASH = "hash"
_OTHERS = b"nullspace.left_out"


def listed(source: Source, folder: Path, workers: Workers) -> Iterator[pa.Table]:
    """Tables of all records of a source, in its order. What tasks write lies in `folder`. Raises SourceError."""
    pieces = source.pieces()
    if len(pieces) < 2:
        yield from tables_of(source.records())
        return
    folder.mkdir(exist_ok=True)
    groups = _grouped(pieces, folder)
    _list(source, {file: group for file, group in groups.items() if not file.exists()}, workers)
    found = Found()
    for file in groups:
        yield from _read(file, found)
    source.accept(found)


def _grouped(pieces: Sequence[Piece], folder: Path) -> dict[Path, Sequence[Piece]]:
    """Neighbouring pieces by the file they are written to, which is named by what they are."""
    size = -(-len(pieces) // _FILES)
    groups: dict[Path, Sequence[Piece]] = {}
    for start in range(0, len(pieces), size):
        group = pieces[start : start + size]
        text = json.dumps([astuple(piece) for piece in group])
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        groups[folder / f"{len(groups):03d}-{digest}.parquet"] = group
    return groups


def _list(source: Source, groups: dict[Path, Sequence[Piece]], workers: Workers) -> None:
    """Let tasks write the files, a few tasks at a time."""
    if not groups:
        return
    if workers.here:
        _refuse(write_listing(source, group, str(file)) for file, group in groups.items())
        return
    import ray

    task = ray.remote(write_listing).options(
        num_cpus=workers.cpus, scheduling_strategy="SPREAD", max_retries=_DEATHS, name="list"
    )
    packed, running = ray.put(source), []
    try:
        for file, group in groups.items():
            if len(running) >= _AHEAD * workers.count:
                done, running = ray.wait(running)
                _refuse(ray.get(done))
            running.append(task.remote(packed, list(group), str(file)))
        _refuse(ray.get(running))
    except BaseException:
        for left in running:
            ray.cancel(left)
        raise


def _refuse(answers: Iterable[str]) -> None:
    for refusal in answers:
        if refusal:
            raise SourceError(refusal)


def write_listing(source: Source, pieces: Sequence[Piece], target: str) -> str:
    """The work of one task; returns the reason of a failure, since Ray would add a traceback to an error."""
    try:
        _write(source, pieces, Path(target))
    except Exception as error:  # noqa: BLE001  returned or raised again
        return message_or_raise(error)
    return ""


def _write(source: Source, pieces: Sequence[Piece], target: Path) -> None:
    found = Found()
    records = (record for piece in pieces for record in source.listed(piece, found))
    schema = RECORDS.append(pa.field(_HASH, pa.uint64())) if source.repeats else RECORDS
    with written_aside(target) as aside, pq.ParquetWriter(aside, schema) as writer:
        for table in tables_of(records):
            if source.repeats:
                hashes = [id_hash(id_) for id_ in table.column("id").to_pylist()]
                table = table.append_column(schema.field(_HASH), pa.array(hashes, pa.uint64()))
            writer.write_table(table)
        writer.add_key_value_metadata({_OTHERS: json.dumps([found.others, found.other_names])})


def _read(file: Path, found: Found) -> Iterator[pa.Table]:
    """The records of one file, streamed; the rest of what it says is added to `found`."""
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        others, names = json.loads(opened.metadata.metadata[_OTHERS])
        found.add(Found(opened.metadata.num_rows, others, names))
        for batch in opened.iter_batches():
            table = pa.Table.from_batches([batch])
            if _HASH in table.column_names:
                found.hashes.frombytes(table.column(_HASH).to_numpy().astype(np.uint64).tobytes())
            yield table.select(RECORDS.names)

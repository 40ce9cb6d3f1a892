"""Ingest: bytes → decoded uint8 shards at the model's input size, once per preprocessing; one row per bad image."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nullspace.model.preprocessing import Preprocessing
from pipelines.data.decode import DecodeError, decode_counted
from pipelines.data.shards import PREFIX, shard_table, write_shard
from pipelines.data.sources import Source
from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Check, Context, Stage
from pipelines.engine.workers.shard_workers import ShardWorker, Workers, run_shards
from pipelines.errors import SourceError
from pipelines.files import write_table
from pipelines.settings import deciding
from pipelines.stages.branch import Means
from pipelines.stages.ingest.listing import listed
from pipelines.stages.ingest.manifest import MANIFEST, planned_shards, records_of, write_manifest
from pipelines.stages.ingest.settings import IngestSettings

VERSION = 8
_NAMED = 3
_FIRST_OF_MANY = b"nullspace.first_of_many"  # in the error file: images of which the first frame or page was read
_CONTENTS = b"nullspace.contents"  # in the error file: digest of the encoded images that could be read
_ERROR = pa.schema([("id", pa.string()), ("path", pa.string()), ("reason", pa.string())])


class IngestShards(ShardWorker):
    """Decodes the images of one slice of the manifest. An image that can't be read becomes an error row.

    Of an animation, or a file of several pages, the first is read, as timm does; they are counted beside the errors.
    """

    prefix = PREFIX.removesuffix("-")

    def __init__(self, out: str, source: Source, preprocessing: Preprocessing, max_pixels: int) -> None:
        super().__init__(out)
        self.source, self.max_pixels = source, max_pixels
        self.size = preprocessing.input_size
        self.transform = preprocessing.transform()

    def table(self, shard: str, read: None) -> pa.Table:
        ids: list[str] = []
        labels: list[int] = []
        images: list[np.ndarray] = []
        errors: list[dict[str, str]] = []
        first_of_many: list[str] = []
        contents = IdDigest()
        for record in records_of(self.out / MANIFEST, shard):
            try:
                data = self.source.read(record)
                image, count = decode_counted(data, self.transform, max_pixels=self.max_pixels)
            except (DecodeError, OSError) as error:
                errors.append({"id": record.id, "path": record.location, "reason": str(error)})
                continue
            first_of_many += [record.id] if count > 1 else []
            images.append(image)
            ids.append(record.id)
            labels.append(record.label)
            contents = contents.add([f"{record.id} {record.label} {hashlib.sha256(data).hexdigest()}"])
        # The error rows go first: the shard's own file is what says that the slice is done.
        metadata = {
            _FIRST_OF_MANY: json.dumps([len(first_of_many), first_of_many[:_NAMED]]),
            _CONTENTS: json.dumps(contents.to_dict()),
        }
        rows = pa.Table.from_pylist(errors, schema=_ERROR).replace_schema_metadata(metadata)
        write_table(self.out / f"errors-{shard}.parquet", rows)
        return shard_table(ids, np.stack(images) if images else np.empty((0, 3, *self.size), np.uint8), labels)

    def write(self, target: Path, table: pa.Table) -> None:
        write_shard(target, table)


def ingest(
    context: Context, *, source: Source, preprocessing: Preprocessing, settings: IngestSettings, workers: Workers
) -> dict[str, Any]:
    """Write shards and error rows of the whole source; returns counts and the digest of all ids."""
    manifest, listing = context.folder / MANIFEST, context.folder / "listing"
    if not manifest.exists():
        write_manifest(manifest, listed(source, listing, workers), settings.shard_images)
    shutil.rmtree(listing, ignore_errors=True)
    arguments = {"source": source, "preprocessing": preprocessing, "max_pixels": settings.max_pixels}
    shards = planned_shards(manifest)
    run_shards(IngestShards, arguments, shards, out=context.folder, workers=workers, progress=context.progress)
    return _result(context.folder, manifest)


def _result(folder: Path, manifest: Path) -> dict[str, Any]:
    shards = sorted(folder.glob(f"{PREFIX}*.parquet"))
    errors = sorted(folder.glob("errors-*.parquet"))
    expected = digest_files([manifest]).get("", IdDigest())
    check_ids("ingest", expected, digest_files([*shards, *errors]))
    reasons: Counter[str] = Counter()
    unreadable: list[list[str]] = []
    for file in errors:
        rows = pq.read_table(file, columns=["id", "reason"])
        reasons.update(rows.column("reason").to_pylist())
        first = rows.slice(0, _NAMED - len(unreadable)).to_pylist()
        unreadable += [[row["id"], row["reason"]] for row in first]
    readable = digest_files(shards).get("", IdDigest())
    return {
        "images": readable.count,
        "errors": sum(reasons.values()),
        "reasons": dict(reasons.most_common(10)),
        "unreadable": unreadable,
        "shards": len(shards),
        "ids": readable.to_dict(),
        "contents": _contents(errors),
        **_first_of_many(errors, readable.count),
    }


def _contents(files: list[Path]) -> str:
    """Digest of all images that could be read, as files: equal on any machine, for any model, in any order."""
    found = [IdDigest.from_dict(json.loads((pq.read_schema(file).metadata or {})[_CONTENTS])) for file in files]
    return str(sum(found, IdDigest()).to_dict()["total"])


def _first_of_many(files: list[Path], total: int) -> dict[str, Any]:
    """How many images are the first of several, and a warning where there are some."""
    found, names = 0, []
    for file in files:
        count, some = json.loads((pq.read_schema(file).metadata or {}).get(_FIRST_OF_MANY, b"[0, []]"))
        found, names = found + count, [*names, *some][:_NAMED]
    if not found:
        return {"first_of_many": 0, "warnings": []}
    some = ", ".join([*names, *(["…"] if found > len(names) else [])])
    warning = (
        f"{found} of {total} images are animations or have several pages; of each only the first is used, as timm does "
        f"({some})"
    )
    return {"first_of_many": found, "warnings": [warning]}


def ingest_stage(settings: IngestSettings, facts: ModelFacts, source_digest: str, means: Means, accept: Check) -> Stage:
    """The stage of every model with this one's preprocessing; `accept` checks its result beside the errors in it."""
    preprocessing, tolerated = facts.preprocessing, tolerates(settings.max_error_fraction)

    def make(context: Context) -> dict[str, Any]:
        return ingest(
            context,
            source=means.source,
            preprocessing=preprocessing,
            settings=settings,
            workers=context.workers(),
        )

    def check(result: dict[str, Any]) -> None:
        tolerated(result)
        accept(result)

    return Stage(
        name="ingest",
        branch=preprocessing.key(),
        version=VERSION,
        settings={"source": source_digest, "preprocessing": preprocessing.key(), **deciding(settings)},
        inputs={},
        make=make,
        accept=check,
        data="ingest",
    )


def tolerates(max_error_fraction: float) -> Check:
    """A check of the ingest result: raises SourceError past the tolerated share of unreadable images."""

    def check(result: dict[str, Any]) -> None:
        total = result["images"] + result["errors"]
        if result["errors"] > max_error_fraction * total or not result["images"]:
            named = [f"{name} ({reason})" for name, reason in result["unreadable"]]
            named += [f"and {result['errors'] - len(named)} more"] if result["errors"] > len(named) else []
            raise SourceError(
                f"{result['errors']} of {total} images cannot be read, more than ingest.max_error_fraction = "
                f"{max_error_fraction:g} allows: {', '.join(named)}. "
                "Repair the images or raise the limit; errors-*.parquet in the ingest folder names each"
            )

    return check

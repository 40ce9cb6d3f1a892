"""The guarantee that every id comes out of a stage exactly once, checked without holding the ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.errors import StageError

_MODULUS = 1 << 128


@dataclass(frozen=True)
class IdDigest:
    """Count and sum of hashes of a multiset of ids: order does not matter, a lost or doubled id does."""

    count: int = 0
    total: int = 0

    def add(self, ids: Iterable[str]) -> IdDigest:
        count, total = self.count, self.total
        for id_ in ids:
            count += 1
            total += int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=16).digest(), "big")
        return IdDigest(count, total % _MODULUS)

    def __add__(self, other: IdDigest) -> IdDigest:
        return IdDigest(self.count + other.count, (self.total + other.total) % _MODULUS)

    def to_dict(self) -> dict[str, int | str]:
        return {"count": self.count, "total": f"{self.total:032x}"}

    @classmethod
    def from_dict(cls, given: dict[str, int | str]) -> IdDigest:
        return cls(int(given["count"]), int(str(given["total"]), 16))


def digest_files(files: Iterable[Path], *, split_by: str | None = None) -> dict[str, IdDigest]:
    """Digest the `id` column of Parquet files, one digest per value of column `split_by` ('' without)."""
    digests: dict[str, IdDigest] = {}
    for file in files:
        columns = ["id"] if split_by is None else ["id", split_by]
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            ids = batch.column("id").to_pylist()
            keys = [""] * len(ids) if split_by is None else batch.column(split_by).to_pylist()
            for key in set(keys):
                own = (id_ for id_, other in zip(ids, keys, strict=True) if other == key)
                digests[key] = digests.get(key, IdDigest()).add(own)
    return digests


def check_ids(stage: str, expected: IdDigest, found: dict[str, IdDigest]) -> None:
    """Raise StageError unless every group of `found` holds exactly the expected ids."""
    for key, digest in found.items():
        if digest != expected:
            where = f" for {key!r}" if key else ""
            raise StageError(
                f"{stage}: expected each of {expected.count} ids once{where}, got {digest.count} rows"
                f"{' with other or doubled ids' if digest.count == expected.count else ''}; "
                "its folder was changed from outside: remove it and run again"
            )
    if not found and expected.count:
        raise StageError(f"{stage}: expected {expected.count} ids, got none")

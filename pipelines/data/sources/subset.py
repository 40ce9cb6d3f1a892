"""A fixed part of a source."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from nullspace.metrics.keyed import place
from pipelines.data.sources.record import InOnePiece, Record, Source, digest_of


@dataclass(frozen=True)
class Subset(InOnePiece):
    """The `limit` records with the smallest seeded hashes of their ids, in the source's order.

    The hash spreads them evenly over classes and folders; adding images to the source replaces few of them. The source
    is listed twice and `limit` hashes are held. A limit above the number of records takes all.
    """

    source: Source
    limit: int
    seed: int

    def records(self) -> Iterator[Record]:
        smallest = heapq.nsmallest(self.limit, (self._rank(record) for record in self.source.records()))
        for record in self.source.records():
            if self._rank(record) <= smallest[-1]:
                yield record

    def class_names(self) -> list[str] | None:
        return self.source.class_names()

    def read(self, record: Record) -> bytes:
        return self.source.read(record)

    def digest(self) -> str:
        return digest_of(["subset", self.limit, self.seed, self.source.digest()])

    def _rank(self, record: Record) -> tuple[int, str]:
        return place(record.id, self.seed), record.id

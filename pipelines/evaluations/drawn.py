"""The images that a question is asked of where asking it of every image would cost too much."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from nullspace.metrics.keyed import place
from pipelines.data.shards import ids_of


def draw(folder: Path, count: int, name: str, seed: int) -> frozenset[str]:
    """Ids of `count` images of an ingest folder: for a seed always the same, others for another question `name`."""
    return frozenset(first_of((id_ for _, part in ids_of(folder) for id_ in part), count, name, seed))


def first_of(ids: Iterable[str], count: int, name: str, seed: int) -> list[str]:
    """The first `count` ids in an order of their own for every seed and `name`."""
    return heapq.nsmallest(count, ids, key=lambda id_: place(f"{name}:{id_}", seed))


def shards_of(folder: Path, drawn: Collection[str]) -> dict[str, int]:
    """How many of the drawn images each shard holds; shards without any are left out."""
    return dict(Counter(name for name, ids in ids_of(folder) for id_ in ids if id_ in drawn))

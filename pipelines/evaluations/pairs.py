"""Pairs of images that the model puts into different classes, drawn by the seed and their ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor

from nullspace.metrics.keyed import place
from nullspace.model.vit import Outputs
from pipelines.data.shards import ids_of, read_shard, shard_path
from pipelines.engine.workers.model_workers import read_outputs

_KEPT = 4  # shards in memory at once, from which looks are taken


@dataclass(frozen=True)
class Looks:
    """For each image of a batch another one that people are to see: uint8 (n,3,H,W), and what the model says of it."""

    ids: list[str]
    images: Tensor
    outputs: Outputs


class Pairs:
    """Gives every drawn image another one of a different predicted class, by the seed and both ids alone."""

    def __init__(self, ingest: Path, reference: Path, drawn: frozenset[str] | None, seed: int) -> None:
        self.ingest, self.reference, self.seed = ingest, reference, seed
        self.predictions = predictions_of(ingest, reference, drawn)
        self.where = {id_: (name, at) for name, at, id_ in _places(ingest) if id_ in self.predictions}
        self._order = sorted(self.predictions, key=lambda id_: place(f"look:{id_}", seed))
        self._read = lru_cache(maxsize=_KEPT)(self._shard)

    @cached_property
    def usual_distance(self) -> float:
        """The least squared distance of features among random pairs of the drawn images."""
        known: dict[str, Tensor] = {}
        for name in dict.fromkeys(self.where[id_][0] for id_ in self._order):
            rows = pq.read_table(self.reference / f"rows-{name}.parquet", columns=["id", "features"])
            features = torch.tensor(rows.column("features").to_pylist(), dtype=torch.float64)
            known |= {
                id_: row for id_, row in zip(rows.column("id").to_pylist(), features, strict=True) if id_ in self.where
            }
        return least_distance(torch.stack([known[id_] for id_ in self._order]))

    def looks(self, ids: Sequence[str]) -> Looks:
        """The looks of images by their ids."""
        others = [self.partner(id_) for id_ in ids]
        found = [self._one(other) for other in others]
        images, features, logits = (torch.stack(part) for part in zip(*found, strict=True))
        return Looks(others, images, Outputs(features=features, logits=logits))

    def partner(self, id_: str) -> str:
        """The first image of another predicted class, from a keyed place on in a keyed order."""
        start = place(f"partner:{id_}", self.seed) % len(self._order)
        turned = (self._order[(start + step) % len(self._order)] for step in range(len(self._order)))
        return next(other for other in turned if self.predictions[other] != self.predictions[id_])

    def _one(self, id_: str) -> tuple[Tensor, Tensor, Tensor]:
        name, at = self.where[id_]
        images, outputs = self._read(name)
        return images[at], outputs.features[at], outputs.logits[at]

    def _shard(self, name: str) -> tuple[Tensor, Outputs]:
        return read_shard(shard_path(self.ingest, name)).images, read_outputs(self.reference, name)


def predictions_of(ingest: Path, reference: Path, drawn: frozenset[str] | None) -> dict[str, int]:
    """The predicted class of each of the drawn images, of all when `drawn` is None."""
    found: dict[str, int] = {}
    for name in dict.fromkeys(name for name, _ in ids_of(ingest)):
        rows = pq.read_table(reference / f"rows-{name}.parquet", columns=["id", "prediction"])
        pairs = zip(rows.column("id").to_pylist(), rows.column("prediction").to_pylist(), strict=True)
        found |= {id_: predicted for id_, predicted in pairs if drawn is None or id_ in drawn}
    return found


def least_distance(features: Tensor) -> float:
    """The least squared distance among 10 n random pairs of n features (n,F): what is nearer is no chance.

    The null distribution of Feather et al. (2023), with the squared distance as its measure. The features come in a
    random order.
    """
    count = len(features)
    steps = range(1, min(11, count))
    return min(float((features - features.roll(step, 0)).square().sum(dim=1).min()) for step in steps)


def _places(ingest: Path) -> Iterator[tuple[str, int, str]]:
    """Shard, place in it, and id of every image."""
    at: dict[str, int] = {}
    for name, ids in ids_of(ingest):
        begin = at.get(name, 0)
        at[name] = begin + len(ids)
        yield from ((name, begin + number, id_) for number, id_ in enumerate(ids))

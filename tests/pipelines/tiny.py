"""A few real digits as an ingest folder, and stages made from it without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from nullspace.metrics.keyed import place
from nullspace.noise.artifact import NullNoise
from pipelines.data.shards import shard_path, shard_sizes, shard_table
from pipelines.data.split import Split, make_split
from pipelines.digits import MODEL_NAME, data
from pipelines.engine.ids import IdDigest
from pipelines.engine.models import ModelFacts, ModelSpec, learn_facts
from pipelines.engine.progress import Progress
from pipelines.engine.settings import ModelSettings
from pipelines.engine.stage import Context, Done
from pipelines.engine.workers.shard_workers import ShardWorker, Workers
from pipelines.evaluations.base import Asked, Evaluation, evaluate
from pipelines.evaluations.settings import EvaluationSettings
from pipelines.files import write_table
from pipelines.stages.reference.stage import ReferenceShards

SEED = 3
COUNT = 24


@cache
def facts() -> ModelFacts:
    return learn_facts(ModelSettings(name=MODEL_NAME), seed=0)[0]


def spec() -> ModelSpec:
    return facts().spec


@cache
def digits() -> data.Digits:
    return data.load("held_out")


def ingested(folder: Path, sizes: tuple[int, ...] = (14, 10)) -> Path:
    """Shards of the first held-out digits, of the given sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, size in enumerate(sizes):
        part = slice(start, start + size)
        images = np.ascontiguousarray(digits().images[part].transpose(0, 3, 1, 2))
        table = shard_table(digits().ids[part], images, digits().labels[part].tolist())
        write_table(shard_path(folder, f"{number:06d}"), table)
        start += size
    return folder


def work_through(worker: ShardWorker, shards: Path) -> Path:
    """Let a worker do all shards, as Ray would, one at a time."""
    for name in shard_sizes(shards):
        list(worker.work([name]))
    return worker.out


def referenced(folder: Path, shards: Path, batch_images: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return work_through(ReferenceShards(str(folder), spec(), str(shards), "cpu", batch_images), shards)


def split(learn: int = 8, validation: int = 6, calibration: int = 4) -> Split:
    places = sorted(place(id_, SEED) for id_ in digits().ids[:COUNT])
    return make_split(places, SEED, learn=learn, validation=validation, calibration=calibration, total=COUNT)


def noise(size: float = 0.3) -> NullNoise:
    """Random noise of the digits model's shape, unequal from token to token."""
    found = facts()
    drawn = torch.randn(found.num_patches, found.embed_dim, generator=torch.Generator().manual_seed(1))
    tensor = size * drawn * torch.linspace(0.5, 1.5, found.num_patches)[:, None]
    return NullNoise(
        tensor=tensor,
        model_name=found.spec.name,
        weights_sha256=found.spec.weights_sha256,
        norm=float(tensor.norm()),
        effective_norm=float(tensor.norm()),
        relative_norm=0.5,
        spread=0.9,
        token_norm=5.0,
        shift_invariant=True,
        objective="none",
        seed=SEED,
        data_fingerprint="0",
    )


def finished(folder: Path, **result: Any) -> Done:
    """A finished stage, of which only some of the result is known."""
    return Done(folder, result, 1.0, reused=False)


def inputs(folder: Path, sizes: tuple[int, ...] = (14, 10), batch_images: int = 8) -> dict[str, Done]:
    """The stages that every evaluation reads, of as many digits as `sizes` have, beside a kernel and a found noise."""
    shards = ingested(folder / "ingest", sizes)
    ids = digits().ids[: sum(sizes)]
    found = folder / "search"
    found.mkdir(exist_ok=True)
    noise().save(found / "noise.safetensors")
    return {
        "ingest": finished(shards, ids=IdDigest().add(ids).to_dict(), images=len(ids)),
        "reference": finished(referenced(folder / "reference", shards, batch_images)),
        "kernel": finished(folder / "kernel", rtol=None, modulo_shift=False, nullity=672, patch_dim=768),
        "search": finished(found, split=asdict(split()), relative_norm=0.5, epsilon=0.05),
    }


def evaluated(
    evaluation: Evaluation[Any], out: Path, settings: EvaluationSettings, made: Mapping[str, Done], **changed: Any
) -> Done:
    """An evaluation of the digits model, done in this process: its rows in `out`, its figures as the result."""
    out.mkdir(parents=True, exist_ok=True)
    asked: Asked[Any] = Asked(**{"settings": settings, "model": spec(), "seed": SEED, "inputs": made, **changed})
    context = Context(out, made, Progress(), "", lambda: Workers(1, 1, 0, here=True))
    return Done(out, evaluate(context, evaluation, asked, "cpu"), 1.0, reused=False)


def rows(folder: Path) -> Any:
    """All rows of a stage as a data frame; Any, since pandas' stubs take its comparisons for series."""
    tables = [pq.read_table(file).to_pandas() for file in sorted(folder.glob("rows-*.parquet"))]
    return pd.concat(tables, ignore_index=True)

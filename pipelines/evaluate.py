"""Evaluate: one outcome row per image and condition; every aggregate is computed from these rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nullspace.artifact import NullNoise
from nullspace.kernel import patch_kernel
from nullspace.stability import outcomes, summarise
from nullspace.vit import Outputs
from pipelines.conditions import KERNEL_CONDITIONS, TOKEN_CONDITIONS, KernelNoise, TokenNoise
from pipelines.files import write_json
from pipelines.ids import IdDigest, check_ids, digest_files
from pipelines.models import ModelSpec
from pipelines.modelwork import ModelShards, read_outputs
from pipelines.pictures import save_difference, save_picture
from pipelines.shards import Shard, shard_sizes
from pipelines.shardwork import Spread, run_shards
from pipelines.split import Split
from pipelines.stages import Context

VERSION = 1


class EvaluateShards(ModelShards):
    """Runs every condition over the images of a shard."""

    def __init__(
        self,
        out: str,
        model: ModelSpec,
        shards: str,
        device: str,
        batch_images: int,
        reference: str,
        noise: str,
        split: Split,
        rms: float,
        rtol: float | None,
        examples: tuple[str, int],
    ) -> None:
        super().__init__(out, model, shards, device, batch_images)
        self.reference, self.split, self.examples = Path(reference), split, examples
        self.token_noise = TokenNoise(NullNoise.load(noise), split.seed)
        kernel = patch_kernel(self.model, rtol=rtol)
        self.kernel_noise = None if kernel.is_trivial else KernelNoise(self.model, kernel, rms, split.seed)

    def rows(self, name: str, shard: Shard) -> pa.Table:
        clean = read_outputs(self.reference, name)
        self._keep_examples(name, shard)
        parts = [table for batch in shard.batches(self.batch_images) for table in self._batch(shard, clean, batch)]
        return pa.concat_tables(parts)

    def _batch(self, shard: Shard, clean: Outputs, batch: slice) -> Iterator[pa.Table]:
        ids, images = shard.ids[batch], self.pixels(shard, batch)
        before = Outputs(features=clean.features[batch], logits=clean.logits[batch])
        tokens = self.model.tokens(images)
        for condition in TOKEN_CONDITIONS:
            after = self.model.outputs_from_tokens(tokens + self.token_noise.draw(condition, ids, self.device))
            yield self._table(shard, batch, condition, before, after, None)
        if self.kernel_noise is None:
            return
        for condition in KERNEL_CONDITIONS:
            noised = self.kernel_noise.images(condition, images, ids)
            after = self.model.outputs_from_tokens(self.model.tokens(noised, check_range=False))
            yield self._table(shard, batch, condition, before, after, self.kernel_noise.rms_of(noised - images))

    def _table(
        self, shard: Shard, batch: slice, condition: str, before: Outputs, after: Outputs, rms: Tensor | None
    ) -> pa.Table:
        ids = shard.ids[batch]
        columns: dict[str, Any] = {
            "id": ids,
            "label": shard.labels[batch].numpy(),
            "split": [self.split.part(id_) for id_ in ids],
            "condition": [condition] * len(ids),
            "noise_rms": pa.array([None] * len(ids) if rms is None else rms.cpu().tolist(), pa.float64()),
        }
        changes = outcomes(before, Outputs(features=after.features.float(), logits=after.logits.float()))
        return pa.table(columns | {key: value.numpy() for key, value in changes.items()})

    def _keep_examples(self, name: str, shard: Shard) -> None:
        chosen, count = self.examples
        if name != chosen or not count or not self.kernel_noise:
            return
        folder = self.out / "examples"
        folder.mkdir(exist_ok=True)
        batch = slice(0, count)
        images = self.pixels(shard, batch)
        for condition in ("kernel_exact", "kernel_in_box"):
            noised = self.kernel_noise.images(condition, images, shard.ids[batch])
            for number, (image, with_noise) in enumerate(zip(images, noised, strict=True)):
                save_picture(folder / f"{number:02d}_original.png", image)
                save_picture(folder / f"{number:02d}_{condition.removeprefix('kernel_')}.png", with_noise)
                save_difference(
                    folder / f"{number:02d}_{condition.removeprefix('kernel_')}_difference.png", image, with_noise
                )


def evaluate(
    context: Context, *, arguments: dict[str, Any], rms: float, examples: int, spread: Spread
) -> dict[str, Any]:
    """Run all conditions over all shards; returns the summary of each: token noise on test images, kernel on all."""
    ingested, searched = context.inputs["ingest"], context.inputs["search"]
    shards = shard_sizes(ingested.folder)
    more = {
        "shards": str(ingested.folder),
        "reference": str(context.inputs["reference"].folder),
        "noise": str(searched.folder / "noise.safetensors"),
        "split": Split(**searched.result["split"]),
        "rms": rms,
        "examples": (next(iter(shards)), examples),
    }
    work = {**arguments, **more}
    run_shards(EvaluateShards, work, shards, out=context.folder, spread=spread, progress=context.progress)
    files = [context.folder / f"rows-{name}.parquet" for name in shards]
    expected = IdDigest.from_dict(ingested.result["ids"])
    check_ids("evaluate", expected, digest_files(files, split_by="condition"))
    result = _summaries(files)
    write_json(context.folder / "evaluate.json", result)
    return result


def _summaries(files: list[Path]) -> dict[str, Any]:
    # Learned noise has seen its learn and validation images, so only test images count; the kernel has seen none.
    token = {condition: _summary(files, condition, test_only=True) for condition in TOKEN_CONDITIONS}
    kernel = {c.removeprefix("kernel_"): _summary(files, c, test_only=False) for c in KERNEL_CONDITIONS}
    return {"noise": token, "kernel": {name: said for name, said in kernel.items() if said}}


def _summary(files: list[Path], condition: str, *, test_only: bool) -> dict[str, Any]:
    wanted = [("condition", "=", condition), *([("split", "=", "test")] if test_only else [])]
    table = pq.read_table([str(file) for file in files], filters=wanted)
    if not table.num_rows:
        return {}
    numbers = [name for name in table.column_names if name not in ("id", "label", "split", "condition", "noise_rms")]
    summary = summarise({name: torch.from_numpy(table.column(name).to_numpy().copy()) for name in numbers})
    rms = table.column("noise_rms").drop_null()
    return summary | ({"noise_rms": float(rms.to_numpy().mean())} if len(rms) else {})

"""Evaluate: one outcome row per image and condition; every aggregate is computed from these rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.metrics.outcomes import Moments, Summary, largest_probability_change, outcomes
from nullspace.model.vit import Outputs
from nullspace.noise.artifact import NullNoise
from nullspace.watermark.certify import mean_and_worst
from pipelines.data.shards import Shard, shard_sizes
from pipelines.data.split import Split
from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.engine.model_workers import ModelShards, read_outputs
from pipelines.engine.models import ModelSpec
from pipelines.engine.shard_workers import Spread, run_shards
from pipelines.engine.stage import Context
from pipelines.evaluations.kernel_noise.noise import KERNEL_CONDITIONS, TOKEN_CONDITIONS, KernelNoise, TokenNoise
from pipelines.evaluations.pictures import save_difference, save_picture
from pipelines.evaluations.tallies import take_in
from pipelines.files import write_json

VERSION = 3
_MOVED = ("token_change", "largest_token_change")  # |A·δ| over the mean token norm: its mean, the worst patch's
_CONDITIONS = (*TOKEN_CONDITIONS, *KERNEL_CONDITIONS)


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
        modulo_shift: bool,
        examples: tuple[str, int],
    ) -> None:
        super().__init__(out, model, shards, device, batch_images)
        self.reference, self.split, self.examples = Path(reference), split, examples
        self.token_noise = TokenNoise(NullNoise.load(noise), split.seed)
        kernel = patch_kernel(self.model, rtol=rtol, modulo_shift=modulo_shift)
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
            yield self._table(shard, batch, condition, before, after)
        if self.kernel_noise is None:
            return
        drawn = self.kernel_noise.draw(ids)
        for condition in KERNEL_CONDITIONS:
            noised = self.kernel_noise.images(condition, images, ids, drawn)
            after = self.model.outputs_from_tokens(self.model.tokens(noised, check_range=False))
            moved = mean_and_worst(self.kernel_noise.token_changes(images, noised))
            sizes = {"noise_rms": self.kernel_noise.rms_of(noised - images), **dict(zip(_MOVED, moved, strict=True))}
            yield self._table(shard, batch, condition, before, after, sizes)

    def _table(
        self,
        shard: Shard,
        batch: slice,
        condition: str,
        before: Outputs,
        after: Outputs,
        sizes: Mapping[str, Tensor] | None = None,
    ) -> pa.Table:
        """Rows of one condition; `sizes` of noise in the pixels, which noise in the tokens has none of."""
        ids, sizes = shard.ids[batch], sizes or {}
        missing = pa.nulls(len(ids), pa.float64())
        columns: dict[str, Any] = {
            "id": ids,
            "label": shard.labels[batch].numpy(),
            "split": [self.split.part(id_) for id_ in ids],
            "condition": [condition] * len(ids),
            "probability_change": largest_probability_change(before.logits, after.logits.float()).numpy(),
        }
        for name in ("noise_rms", *_MOVED):
            columns[name] = pa.array(sizes[name].cpu().tolist(), pa.float64()) if name in sizes else missing
        changes = outcomes(before, Outputs(features=after.features.float(), logits=after.logits.float()))
        return pa.table(columns | {key: value.numpy() for key, value in changes.items()})

    def _keep_examples(self, name: str, shard: Shard) -> None:
        chosen, count = self.examples
        if name != chosen or not count or not self.kernel_noise:
            return
        folder = self.out / "examples"
        folder.mkdir(exist_ok=True)
        batch = slice(0, count)
        images, ids = self.pixels(shard, batch), shard.ids[batch]
        drawn = self.kernel_noise.draw(ids)
        for condition in ("kernel_exact", "kernel_in_box"):
            noised = self.kernel_noise.images(condition, images, ids, drawn)
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
    exact = context.inputs["kernel"].result
    shards = shard_sizes(ingested.folder)
    more = {
        "shards": str(ingested.folder),
        "reference": str(context.inputs["reference"].folder),
        "noise": str(searched.folder / "noise.safetensors"),
        "split": Split(**searched.result["split"]),
        "rms": rms,
        "modulo_shift": exact["modulo_shift"],
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
    tallies = {condition: _Tally(test_only=condition in TOKEN_CONDITIONS) for condition in _CONDITIONS}
    take_in(files, tallies)
    token = {condition: tallies[condition].to_dict() for condition in TOKEN_CONDITIONS}
    kernel = {condition.removeprefix("kernel_"): tallies[condition].to_dict() for condition in KERNEL_CONDITIONS}
    return {"noise": token, "kernel": {name: said for name, said in kernel.items() if said}}


class _Tally:
    """Aggregates of one condition, shard by shard: rows are many, and only one shard's are in memory."""

    def __init__(self, *, test_only: bool) -> None:
        self.test_only, self.outcomes, self.rms = test_only, Summary(), Moments()
        self.change, self.moved, self.furthest = 0.0, Moments(), 0.0

    def add(self, rows: pa.Table) -> None:
        rows = rows.filter(pc.field("split") == "test") if self.test_only else rows
        if not rows.num_rows:
            return
        self.outcomes += Summary.of({name: rows.column(name).to_numpy() for name in rows.column_names})
        rms = rows.column("noise_rms").drop_null()
        self.rms += Moments.of(rms.to_numpy()) if len(rms) else Moments()
        self.change = max(self.change, *rows.column("probability_change").to_pylist())
        moved, furthest = (rows.column(name).drop_null().to_numpy() for name in _MOVED)
        self.moved += Moments.of(moved) if len(moved) else Moments()
        self.furthest = max([self.furthest, *furthest.tolist()])

    def to_dict(self) -> dict[str, Any]:
        """Nothing where no row was."""
        if not self.outcomes.means:
            return {}
        said = self.outcomes.to_dict() | {"max_probability_change": self.change}
        if self.rms.n:
            said |= {"noise_rms": self.rms.mean}
        if self.moved.n:
            said |= self.moved.named("token_change") | {"largest_token_change": self.furthest}
        return said

"""Watermark: a mark people see, laid on every image through the kernel and the pixel box; the model does not see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.metrics.controls import in_random_order
from nullspace.metrics.keyed import generator
from nullspace.metrics.outcomes import Moments, Summary, largest_probability_change, outcomes
from nullspace.model.vit import Outputs
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.projection import from_uint8, round_to_uint8
from nullspace.watermark.attacks import attack_named, attacked
from nullspace.watermark.certify import mean_and_worst, token_changes
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.visible import embed
from pipelines.configs.pipeline import WatermarkSettings
from pipelines.data.shards import Shard, shard_sizes
from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.engine.model_workers import ModelShards, read_outputs
from pipelines.engine.models import ModelSpec
from pipelines.engine.shard_workers import Spread, run_shards
from pipelines.engine.stage import Context
from pipelines.evaluations.image_quality import psnr, ssim
from pipelines.evaluations.payload import rows as hidden
from pipelines.evaluations.pictures import save_difference, save_picture
from pipelines.evaluations.tallies import take_in
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES, make_mark
from pipelines.files import write_json

VERSION = 9
SKIPPED = (
    "the patch embedding has no kernel, also not modulo the shift of its tokens: nothing can be added to pixels that "
    "the model does not see"
)
# The mark as saved; the same mark laid on plainly; and the mark's own change in random order, of equal norm.
CONDITIONS = ("marked", "plain", "permuted")
# How far the mark is from its ground by its texture, at full and half size, and as a control the clean picture there.
_CONTRAST = ("texture_contrast", "texture_contrast_half", "clean_texture_contrast")
_QUALITY = ("psnr", "ssim", *_CONTRAST, "token_change")


class WatermarkShards(ModelShards):
    """Marks the images of a shard, rounds them to 8 bits in the kernel, and asks the model."""

    def __init__(
        self,
        out: str,
        model: ModelSpec,
        shards: str,
        device: str,
        batch_images: int,
        reference: str,
        settings: WatermarkSettings,
        seed: int,
        rtol: float | None,
        modulo_shift: bool,
        examples: tuple[str, int],
    ) -> None:
        super().__init__(out, model, shards, device, batch_images)
        self.reference, self.settings, self.examples = Path(reference), settings, examples
        self.seed = seed
        self.kernel = patch_kernel(self.model, rtol=rtol, modulo_shift=modulo_shift)
        self.within = jpeg_kernel(self.model, self.kernel) if settings.jpeg else self.kernel
        self.eight_bits = EightBits.of(self.model, self.kernel)
        self.mark = make_mark(settings, self.model.preprocessing.input_size)

    def rows(self, name: str, shard: Shard) -> pa.Table:
        clean = read_outputs(self.reference, name)
        keep = self.examples[1] if name == self.examples[0] else 0
        parts = []
        for batch in shard.batches(self.batch_images):
            parts.extend(self._batch(shard, clean, batch, keep))
            keep = max(0, keep - len(shard.ids[batch]))
        return pa.concat_tables(parts)

    def _batch(self, shard: Shard, clean: Outputs, batch: slice, keep: int) -> Iterator[pa.Table]:
        images = self.pixels(shard, batch)
        mark, alpha = (part.to(self.device) for part in self.mark)
        iterations = self.settings.iterations
        made = embed(self.model, self.kernel, images, mark, alpha, within=self.within, iterations=iterations)
        saved = from_uint8(self.eight_bits.save(images, made.marked))
        plain = from_uint8(round_to_uint8(made.plain))
        self._keep_examples(batch.start, keep, images, plain, saved)
        before = Outputs(features=clean.features[batch], logits=clean.logits[batch])
        shuffled = images + _permuted(saved - images, shard.ids[batch], self.seed)
        for condition, changed in zip(CONDITIONS, (saved, plain, shuffled), strict=True):
            yield self._table(shard, batch, condition, images, changed, before)
        for quality in JPEG_QUALITIES:
            clean_jpeg, marked_jpeg = (_as_jpeg(each, quality) for each in (images, saved))
            yield self._table(shard, batch, _jpeg(quality), clean_jpeg, marked_jpeg, self._outputs(clean_jpeg))

    def _table(
        self,
        shard: Shard,
        batch: slice,
        condition: str,
        images: Tensor,
        changed: Tensor,
        before: Outputs,
    ) -> pa.Table:
        """Rows of one condition: how `changed` looks beside `images`, and what the model says."""
        after = self._outputs(changed)
        moved, worst = mean_and_worst(token_changes(self.model, self.eight_bits.plan.mapping, images, changed))
        columns: dict[str, Any] = {
            "id": shard.ids[batch],
            "label": shard.labels[batch].numpy(),
            "condition": [condition] * len(changed),
            "psnr": psnr(changed, images).cpu().numpy(),
            "ssim": ssim(changed, images).cpu().numpy(),
            **self._contrasts(images, changed),
            "token_change": moved.cpu().numpy(),
            "largest_token_change": worst.cpu().numpy(),
            "probability_change": largest_probability_change(before.logits, after.logits).numpy(),
        }
        return pa.table(columns | {key: value.numpy() for key, value in outcomes(before, after).items()})

    def _contrasts(self, images: Tensor, changed: Tensor) -> dict[str, Any]:
        alpha = self.mark[1]
        looks = (changed, 1), (changed, 2), (images, 1)
        found = [texture_contrast(look, alpha, shrink=shrink).cpu().numpy() for look, shrink in looks]
        return dict(zip(_CONTRAST, found, strict=True))

    def _outputs(self, images: Tensor) -> Outputs:
        found = self.model.outputs_from_tokens(self.model.tokens(images, check_range=False))
        return Outputs(features=found.features.float(), logits=found.logits.float())

    def _keep_examples(self, start: int, keep: int, images: Tensor, plain: Tensor, marked: Tensor) -> None:
        folder = self.out / "examples"
        for number in range(min(keep, len(images))):
            folder.mkdir(exist_ok=True)
            stem = folder / f"{start + number:02d}"
            save_picture(Path(f"{stem}_original.png"), images[number])
            save_picture(Path(f"{stem}_plain.png"), plain[number])
            save_picture(Path(f"{stem}_marked.png"), marked[number])
            save_difference(Path(f"{stem}_difference.png"), images[number], marked[number])


def _as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Images (n,3,H,W) in [0,1] as a JPEG file of each keeps them."""
    files = attacked(round_to_uint8(images), attack_named(_jpeg(quality)), [0] * len(images))
    return from_uint8(files).to(images.device)


def _jpeg(quality: int) -> str:
    return f"jpeg_{quality}"


def _permuted(change: Tensor, ids: list[str], seed: int) -> Tensor:
    """The change (n,3,H,W) of each image with its elements in random order: same norm, no structure."""
    sources = [generator(seed, "mark_permuted", id_) for id_ in ids]
    return torch.stack([in_random_order(row, source) for row, source in zip(change, sources, strict=True)])


def watermark(
    context: Context, *, arguments: dict[str, Any], settings: WatermarkSettings, spread: Spread
) -> dict[str, Any]:
    """Mark all images; returns quality and the model's answer, or why there is nothing to do."""
    exact = context.inputs["kernel"].result
    if not exact["nullity"]:
        return {"skipped": SKIPPED}
    ingested = context.inputs["ingest"]
    shards = shard_sizes(ingested.folder)
    more = {
        "shards": str(ingested.folder),
        "reference": str(context.inputs["reference"].folder),
        "settings": settings,
        "modulo_shift": exact["modulo_shift"],
        "examples": (next(iter(shards)), settings.examples),
    }
    work = {**arguments, **more}
    progress = context.progress.part("visible mark")
    run_shards(WatermarkShards, work, shards, out=context.folder, spread=spread, progress=progress)
    files = [context.folder / f"rows-{name}.parquet" for name in shards]
    check_ids("watermark", IdDigest.from_dict(ingested.result["ids"]), digest_files(files, split_by="condition"))
    found = _summaries(files)
    messages = _hidden(context, arguments, settings, spread, shards)
    result = {
        **found.pop("marked"),
        "after_jpeg": {str(quality): found.pop(_jpeg(quality)) for quality in JPEG_QUALITIES},
        "controls": found,
        "hidden": messages,
        "warnings": [messages["warning"]] if messages.get("warning") else [],
    }
    write_json(context.folder / "watermark.json", result)
    return result


def _hidden(
    context: Context, arguments: dict[str, Any], settings: WatermarkSettings, spread: Spread, shards: dict[str, int]
) -> dict[str, Any]:
    """Hidden messages in the same images, or why there are none."""
    exact = context.inputs["kernel"].result
    model = arguments["model"].load("cpu")
    reason = hidden.why_not(model, settings.hidden, exact)
    if reason:
        return {"skipped": reason}
    work = {
        **{name: arguments[name] for name in ("model", "device", "batch_images", "seed")},
        "shards": str(context.inputs["ingest"].folder),
        "settings": settings.hidden,
        "examples": (next(iter(shards)), settings.examples),
    }
    progress = context.progress.part("hidden messages")
    run_shards(hidden.HiddenShards, work, shards, out=context.folder, spread=spread, progress=progress)
    files = [context.folder / f"{hidden.PREFIX}-{name}.parquet" for name in shards]
    ids = IdDigest.from_dict(context.inputs["ingest"].result["ids"])
    check_ids("hidden messages", ids, digest_files(files, split_by="condition"))
    return {**hidden.summarised(files, settings.hidden), "warning": hidden.warning(model, settings.hidden)}


class _Tally:
    """Aggregates of one condition, shard by shard."""

    def __init__(self) -> None:
        self.outcomes, self.unmarked, self.change, self.furthest = Summary(), 0, 0.0, 0.0
        self.quality = dict.fromkeys(_QUALITY, Moments())

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self.outcomes += Summary.of({name: rows.column(name).to_numpy() for name in rows.column_names})
        self.change = max(self.change, float(rows.column("probability_change").to_numpy().max()))
        self.furthest = max(self.furthest, float(rows.column("largest_token_change").to_numpy().max()))
        self.unmarked += int(np.isinf(rows.column("psnr").to_numpy()).sum())
        for name in _QUALITY:
            values = rows.column(name).to_numpy()
            # Where the pixel box leaves a mark no room (a black image) nothing changes: an infinite PSNR has no mean.
            finite = values[np.isfinite(values)]
            self.quality[name] += Moments.of(finite) if len(finite) else Moments()

    def to_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "unmarked": self.unmarked,
            "max_probability_change": self.change,
            "largest_token_change": self.furthest,
        }
        for name, moments in self.quality.items():
            said |= moments.named(name)
        return said | self.outcomes.to_dict()


def _summaries(files: list[Path]) -> dict[str, dict[str, Any]]:
    tallies = {condition: _Tally() for condition in (*CONDITIONS, *map(_jpeg, JPEG_QUALITIES))}
    take_in(files, tallies)
    return {condition: tally.to_dict() for condition, tally in tallies.items()}

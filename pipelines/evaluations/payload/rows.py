"""Hidden messages measured: written into every image, attacked, read again, and shown to the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.keyed import distortion_seed, message
from nullspace.metrics.outcomes import Moments, largest_probability_change, wilson_interval
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import patch_map
from nullspace.pixels.projection import from_uint8
from nullspace.watermark.attacks import attack_named, attacked
from nullspace.watermark.certify import mean_and_worst, token_changes
from nullspace.watermark.payload.hidden_mark import HiddenMark
from pipelines.configs.pipeline import HiddenSettings
from pipelines.data.shards import Shard
from pipelines.engine.model_workers import ModelShards
from pipelines.engine.models import ModelSpec
from pipelines.evaluations.image_quality import fidelity, psnr, ssim
from pipelines.evaluations.pictures import save_difference, save_picture
from pipelines.evaluations.tallies import take_in

PREFIX = "hidden"
RATES = (1e-3, 1e-6)  # false positives, at which is counted how many marks are found
UNMARKED = "unmarked"  # the condition that shows how often a mark is found where there is none
_QUALITY = ("psnr", "ssim", "fidelity")
_SEEN = ("probability_change", "token_change", "largest_token_change")


def why_not(model: SplitViT, settings: HiddenSettings, kernel: Mapping[str, Any]) -> str | None:
    """Why messages of this length cannot be hidden from this model, whose kernel stage found `kernel`, or None."""
    try:
        mark = _mark(model, 0)
    except NullspaceError as error:
        if kernel["nullity"] > 1 or not kernel["modulo_shift"]:
            return str(error)
        return (
            "the kernel has one direction per patch, which only shifts the token: too few for messages, whose bits "
            "each need a brightness pattern of their own that survives JPEG; choose a model with a larger kernel, e.g. "
            "deit_tiny_patch16_224"
        )
    if mark.longest < settings.message_bytes:
        return (
            f"an image has {mark.slots} places for bits, too few for messages of {settings.message_bytes} bytes; "
            "larger images have more"
        )
    return None


def _mark(model: SplitViT, seed: int) -> HiddenMark:
    # The key of a measurement need not be secret, only fixed. The kernel is that of the embedding alone: reading must
    # not hang on a measurement of the model, and the one direction that a shift may add carries nothing.
    return HiddenMark(model, f"nullspace measurement, seed {seed}")


def warning(model: SplitViT, settings: HiddenSettings) -> str | None:
    """What speaks against such messages in this model, a sentence, or None."""
    said = _mark(model, 0).warning(settings.message_bytes, psnr=settings.psnr)
    return None if said is None else f"hidden messages: {said}"


class HiddenShards(ModelShards):
    """Writes a message of its own into every image, attacks it, reads it, and asks the model."""

    prefix = PREFIX

    def __init__(
        self,
        out: str,
        model: ModelSpec,
        shards: str,
        device: str,
        batch_images: int,
        settings: HiddenSettings,
        seed: int,
        examples: tuple[str, int],
    ) -> None:
        super().__init__(out, model, shards, device, batch_images)
        self.settings, self.seed, self.examples = settings, seed, examples
        self.mark = _mark(self.model, seed)
        self.mapping = patch_map(self.model)
        self.attacks = [attack_named(name) for name in settings.attacks]

    def rows(self, name: str, shard: Shard) -> pa.Table:
        keep = self.examples[1] if name == self.examples[0] else 0
        return pa.concat_tables(
            table for batch in shard.batches(self.batch_images) for table in self._batch(shard, batch, keep)
        )

    def _batch(self, shard: Shard, batch: slice, keep: int) -> Iterator[pa.Table]:
        ids, images = shard.ids[batch], shard.images[batch]
        messages = [self._message(id_) for id_ in ids]
        marked = self.mark.embed(images, messages, psnr=self.settings.psnr).images
        self._keep_examples(batch.start, keep - batch.start, images, marked)
        before, after = from_uint8(images), from_uint8(marked)
        quality = {name: measure(after, before) for name, measure in zip(_QUALITY, (psnr, ssim, fidelity), strict=True)}
        yield self._table(ids, UNMARKED, images, images, messages, {})
        for attack in self.attacks:
            seeds = [distortion_seed(self.seed, attack.name, id_) for id_ in ids]
            yield self._table(
                ids,
                attack.name,
                attacked(images, attack, seeds),
                attacked(marked, attack, seeds),
                messages,
                quality if attack.name == "none" else {},
            )

    def _table(
        self,
        ids: list[str],
        condition: str,
        clean: Tensor,
        marked: Tensor,
        messages: list[bytes],
        quality: dict[str, Tensor],
    ) -> pa.Table:
        found = self.mark.detect(marked, length=self.settings.message_bytes, psnr=self.settings.psnr)
        seen = self._seen(clean, marked) if condition != UNMARKED else {}
        missing = pa.nulls(len(ids), pa.float64())
        columns: dict[str, Any] = {
            "id": ids,
            "condition": [condition] * len(ids),
            "bit_accuracy": [
                _right(each.message or each.as_read, sent) for each, sent in zip(found, messages, strict=True)
            ],
            "read": [each.message == sent for each, sent in zip(found, messages, strict=True)],
            "p_value": [each.p_value for each in found],
            "same_prediction": pa.nulls(len(ids), pa.bool_()) if not seen else seen["same"].tolist(),
        }
        for name in _SEEN:
            columns[name] = seen[name].double().tolist() if name in seen else missing
        for name in _QUALITY:
            columns[name] = quality[name].double().tolist() if name in quality else missing
        return pa.table(columns)

    def _seen(self, clean: Tensor, marked: Tensor) -> dict[str, Tensor]:
        """Whether the model says the same of both, and the certificate of each: (n,) each."""
        images = [from_uint8(each).to(self.device) for each in (clean, marked)]
        with torch.no_grad():
            logits = [self.model(each) for each in images]
            moved, worst = mean_and_worst(token_changes(self.model, self.mapping, *images))
        return {
            "same": (logits[0].argmax(1) == logits[1].argmax(1)).cpu(),
            "probability_change": largest_probability_change(logits[0], logits[1]),
            "token_change": moved,
            "largest_token_change": worst,
        }

    def _message(self, id_: str) -> bytes:
        return message(self.seed, id_, self.settings.message_bytes)

    def _keep_examples(self, start: int, keep: int, images: Tensor, marked: Tensor) -> None:
        folder = self.out / "examples"
        for number in range(min(keep, len(images))):
            folder.mkdir(exist_ok=True)
            before, after = (from_uint8(each[number]) for each in (images, marked))
            save_picture(folder / f"{start + number:02d}_hidden.png", after)
            save_difference(folder / f"{start + number:02d}_hidden_difference.png", before, after)


def _right(read: bytes, sent: bytes) -> float:
    """Share of bits that were read as sent."""
    ours, theirs = (np.unpackbits(np.frombuffer(each, np.uint8)) for each in (read, sent))
    return float((ours == theirs).mean())


def summarised(files: list[Path], settings: HiddenSettings) -> dict[str, Any]:
    """Figures of all images from the rows: `attacks` has a row each, `unmarked` says how often chance was a mark."""
    tallies = {name: _Tally() for name in (UNMARKED, *settings.attacks)}
    take_in(files, tallies)
    unmarked = tallies.pop(UNMARKED)
    rows = [{"attack": name, "family": attack_named(name).family, **tally.to_dict()} for name, tally in tallies.items()]
    untouched = next((row for row in rows if row["attack"] == "none"), {})
    kept = ("n", "psnr", "ssim", "fidelity", "agreement", "agreement_ci", "bit_accuracy", "word_accuracy")
    said = {f"{name}{end}": untouched.get(f"{name}{end}") for name in kept for end in ("", "_ci")}
    return {
        **{name: value for name, value in said.items() if value is not None},
        **{name: untouched.get(name) for name in ("max_probability_change", "token_change", "largest_token_change")},
        "message_bytes": settings.message_bytes,
        "wanted_psnr": settings.psnr,
        "unmarked": {name: value for name, value in unmarked.to_dict().items() if name.startswith(("n", "found"))},
        "attacks": rows,
    }


class _Tally:
    """Counts of one condition, shard by shard."""

    def __init__(self) -> None:
        self.n = self.read = self.same = self.compared = 0
        self.found = dict.fromkeys(RATES, 0)
        self.bits, self.change, self.moved, self.furthest = Moments(), 0.0, Moments(), 0.0
        self.quality = dict.fromkeys(_QUALITY, Moments())

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        columns = {name: rows.column(name).drop_null().to_numpy() for name in rows.column_names}
        self.n += rows.num_rows
        self.read += int(columns["read"].sum())
        self.bits += Moments.of(columns["bit_accuracy"])
        for rate in RATES:
            self.found[rate] += int((columns["p_value"] <= rate).sum())
        self.compared += len(columns["same_prediction"])
        self.same += int(columns["same_prediction"].sum())
        self.change = max([self.change, *columns["probability_change"].tolist()])
        if len(columns["token_change"]):
            self.moved += Moments.of(columns["token_change"])
            self.furthest = max(self.furthest, float(columns["largest_token_change"].max()))
        for name in _QUALITY:
            finite = columns[name][np.isfinite(columns[name])]
            self.quality[name] += Moments.of(finite) if len(finite) else Moments()

    def to_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {"n": self.n, **self.bits.named("bit_accuracy")}
        low, high = said["bit_accuracy_ci"] or (None, None)
        said["bit_accuracy_ci"] = None if high is None else [low, min(high, 1.0)]  # a share: none is above 1
        for name, count in (("word_accuracy", self.read), *((_found(rate), self.found[rate]) for rate in RATES)):
            said |= {name: count / self.n, f"{name}_ci": list(wilson_interval(count, self.n))}
        if self.compared:
            interval = list(wilson_interval(self.same, self.compared))
            said |= {"agreement": self.same / self.compared, "agreement_ci": interval}
            said |= {"max_probability_change": self.change, **self.moved.named("token_change")}
            said["largest_token_change"] = self.furthest
        for name, moments in self.quality.items():
            said |= moments.named(name) if moments.n else {}
        return said


def _found(rate: float) -> str:
    return f"found_at_1e{round(math.log10(rate))}"

"""Are hidden messages read again, and does the model notice? One in every image, distorted, then read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.metrics.outcomes import Moments, largest_probability_change, wilson_interval
from nullspace.model.images import from_uint8
from nullspace.model.vit import Outputs, SplitViT
from nullspace.pixels.lift import patch_map
from nullspace.watermark.certify import mean_and_worst, token_changes
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.payload.hidden_mark import HiddenMark
from pipelines.evaluations.base import Asked, Columns, Evaluation, EvaluationShards, ImageBatch, Verdict, needs_kernel
from pipelines.evaluations.image_quality import psnr, ssim
from pipelines.evaluations.payload.settings import PayloadSettings
from pipelines.evaluations.pictures import keep
from pipelines.evaluations.visual_information import vif

RATES = (1e-3, 1e-6)  # false positives, at which is counted how many marks are found
UNMARKED = "unmarked"  # the condition that shows how often a mark is found where there is none
_QUALITY = ("psnr", "ssim", "vif")
_MEASURES = (psnr, ssim, vif)
_FEW_DIRECTIONS = (
    "the kernel has one direction per patch, which only shifts the token: too few for messages, whose bits each need a "
    "brightness pattern of their own that survives JPEG; choose a model with a larger kernel, e.g. "
    "deit_tiny_patch16_224"
)


class PayloadShards(EvaluationShards[PayloadSettings]):
    """Writes a message of its own into every image, distorts it, reads it, and asks the model."""

    def __init__(self, out: str, asked: Asked[PayloadSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        self.mark = _mark(self.model, self.seed)
        self.mapping = patch_map(self.model)
        self.distortions = [distortion_named(name) for name in self.settings.distortions]

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        messages = Draws(self.seed, "message", batch.ids).bytes(self.settings.message_bytes)
        marked = self.mark.embed(batch.saved, messages, psnr=self.settings.psnr).images
        before, after = (from_uint8(each[: batch.keep]) for each in (batch.saved, marked))
        keep(self.out, batch, {"original": before, "hidden": after}, {"hidden_difference": (before, after)})
        yield UNMARKED, self._read(batch.saved, messages)
        for distortion in self.distortions:
            draws = Draws(self.seed, distortion.name, batch.ids)
            clean, after = (distorted(each, distortion, draws) for each in (batch.saved, marked))
            looks = {} if distortion.steps else _looks(batch.images, self.on_device(marked))
            before = None if distortion.steps else batch.before
            yield distortion.name, self._read(after, messages) | looks | self._seen(clean, after, before)

    def _read(self, pictures: Tensor, messages: list[bytes]) -> dict[str, Any]:
        """What is read in pictures uint8 (n,3,H,W), beside what was written."""
        found = self.mark.detect(pictures, length=self.settings.message_bytes, psnr=self.settings.psnr)
        pairs = list(zip(found, messages, strict=True))
        return {
            "bit_accuracy": [_right(each.message or each.as_read, sent) for each, sent in pairs],
            "read": [each.message == sent for each, sent in pairs],
            "p_value": [each.p_value for each in found],
        }

    def _seen(self, clean: Tensor, marked: Tensor, before: Outputs | None) -> dict[str, Tensor]:
        """Whether the model says the same of both, and the certificate of each: (n,) each.

        `before` is what it says of `clean`, where that is known.
        """
        images = [self.on_device(each) for each in (clean, marked)]
        logits = [(before or self.outputs(images[0])).logits, self.outputs(images[1]).logits]
        logits = [each.cpu() for each in logits]
        moved, worst = mean_and_worst(token_changes(self.model, self.mapping, *images))
        return {
            "same_prediction": logits[0].argmax(1) == logits[1].argmax(1),
            "probability_change": largest_probability_change(logits[0], logits[1]).double(),
            "token_change": moved.double(),
            "largest_token_change": worst.double(),
        }


def _looks(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    return {name: measure(after, before).double() for name, measure in zip(_QUALITY, _MEASURES, strict=True)}


def _right(read: bytes, sent: bytes) -> float:
    """Share of bits that were read as sent."""
    ours, theirs = (np.unpackbits(np.frombuffer(each, np.uint8)) for each in (read, sent))
    return float((ours == theirs).mean())


def _mark(model: SplitViT, seed: int) -> HiddenMark:
    # The key of a measurement need not be secret, only fixed. The kernel is that of the embedding alone: reading must
    # not hang on a measurement of the model, and the one direction that a shift may add carries nothing.
    return HiddenMark(model, f"nullspace measurement, seed {seed}")


def verdict(asked: Asked[PayloadSettings]) -> Verdict:
    """Why messages of this length cannot be hidden from this model, or warnings about them."""
    exact, settings = asked.inputs["kernel"].result, asked.settings
    if not exact["nullity"]:
        return needs_kernel(asked)
    try:
        mark = _mark(asked.model.load("cpu"), 0)
    except NullspaceError as error:
        return Verdict(_FEW_DIRECTIONS if exact["nullity"] == 1 and exact["modulo_shift"] else str(error))
    if mark.longest < settings.message_bytes:
        return Verdict(
            f"an image has {mark.sites} embedding sites, too few for messages of {settings.message_bytes} bytes; "
            "larger images have more"
        )
    found = mark.warning(settings.message_bytes, psnr=settings.psnr)
    return Verdict(warnings=() if found is None else (f"hidden messages: {found}",))


class _Tally:
    """Counts of one condition, shard by shard."""

    def __init__(self, family: str | None) -> None:
        """`family` of the distortion; None for pictures without a mark, for which only false positives are counted."""
        self.family = family
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
        self._add_seen(columns)
        for name in set(_QUALITY) & columns.keys():
            finite = columns[name][np.isfinite(columns[name])]
            self.quality[name] += Moments.of(finite) if len(finite) else Moments()

    def _add_seen(self, columns: dict[str, np.ndarray]) -> None:
        if not len(columns.get("same_prediction", ())):
            return
        self.compared += len(columns["same_prediction"])
        self.same += int(columns["same_prediction"].sum())
        self.change = max(self.change, float(columns["probability_change"].max()))
        self.moved += Moments.of(columns["token_change"])
        self.furthest = max(self.furthest, float(columns["largest_token_change"].max()))

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"n": self.n}
        for rate in RATES:
            found |= _share(_found(rate), self.found[rate], self.n)
        if self.family is None:
            return found
        found |= {
            "family": self.family,
            **self.bits.named("bit_accuracy"),
            **_share("word_accuracy", self.read, self.n),
        }
        low, high = found["bit_accuracy_ci"] or (None, None)
        found["bit_accuracy_ci"] = None if high is None else [low, min(high, 1.0)]  # a share: none is above 1
        if self.compared:
            found |= _share("agreement", self.same, self.compared)
            found |= {"max_probability_change": self.change, **self.moved.named("token_change")}
            found["largest_token_change"] = self.furthest
        for name, moments in self.quality.items():
            found |= moments.named(name) if moments.n else {}
        return found


def _share(name: str, count: int, n: int) -> dict[str, Any]:
    return {name: count / n, f"{name}_ci": list(wilson_interval(count, n))}


def _found(rate: float) -> str:
    return f"found_at_1e{round(math.log10(rate))}"


def _tallies(asked: Asked[PayloadSettings]) -> dict[str, _Tally]:
    names = asked.settings.distortions
    return {UNMARKED: _Tally(None)} | {name: _Tally(distortion_named(name).family) for name in names}


EVALUATION = Evaluation(
    name="payload",
    version=2,
    settings=PayloadSettings,
    worker=PayloadShards,
    tallies=_tallies,
    needs=("kernel",),
    verdict=verdict,
    headlines=tuple(f"jpeg_{quality}.word_accuracy" for quality in (90, 75, 50)),
)

"""Does the model notice noise from its kernel? Noise of a given RMS in every image, beside controls of equal norm."""

from __future__ import annotations

from collections.abc import Iterator

from nullspace.watermark.certify import mean_and_worst
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    needs_kernel,
    outcome_columns,
)
from pipelines.evaluations.found_kernel import found_kernel
from pipelines.evaluations.kernel_noise.settings import KernelNoiseSettings
from pipelines.evaluations.pictures import keep
from pipelines.evaluations.pixel_noise import CONDITIONS, KernelNoise
from pipelines.evaluations.tallies import OutcomeTally

_SHOWN = ("exact", "in_box")  # conditions of which pictures are kept


class KernelNoiseShards(EvaluationShards[KernelNoiseSettings]):
    """Adds noise from the kernel, and its controls, to the images of a shard."""

    def __init__(self, out: str, asked: Asked[KernelNoiseSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        kernel = found_kernel(asked, self.model)
        self.noise = KernelNoise(self.model, kernel, self.settings.rms, self.seed)

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        drawn = self.noise.draw(batch.ids)
        for condition in CONDITIONS:
            noised = self.noise.images(condition, batch.images, batch.ids, drawn)
            if condition in _SHOWN:
                pictures = {"original": batch.images, condition: noised}
                keep(self.out, batch, pictures, {f"{condition}_difference": (batch.images, noised)})
            moved, worst = mean_and_worst(self.noise.token_changes(batch.images, noised))
            sizes = {
                "noise_rms": self.noise.rms_of(noised - batch.images).double(),
                "token_change": moved.double(),
                "largest_token_change": worst.double(),
            }
            yield condition, outcome_columns(batch.before, self.outputs(noised)) | sizes


EVALUATION = Evaluation(
    name="kernel_noise",
    version=2,
    settings=KernelNoiseSettings,
    worker=KernelNoiseShards,
    tallies=lambda asked: {name: OutcomeTally(("noise_rms", "token_change")) for name in CONDITIONS},
    needs=("kernel",),
    verdict=needs_kernel,
    headlines=("exact.agreement", "exact.max_abs_logit_change", "permuted.agreement"),
)

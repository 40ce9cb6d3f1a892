"""How small a change of pixels changes a prediction? The worst case of several attacks, image by image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.attacks.cascade import Cascade, Verdicts, attacked
from nullspace.robustness.attacks.losses import FEWEST_CLASSES
from nullspace.robustness.attacks.smallest import smallest_l2
from pipelines.engine.class_names import class_names
from pipelines.evaluations.adversarial.beside import Beside, reached
from pipelines.evaluations.adversarial.settings import AdversarialSettings
from pipelines.evaluations.adversarial.tally import BY, ROBUST, AdversarialTally
from pipelines.evaluations.adversarial.ways import SMALLEST, Way, beside, conditions_of, shown, ways_of
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    Verdict,
    outcome_columns,
)
from pipelines.evaluations.found_kernel import kernel_of
from pipelines.evaluations.pictures import keep, keep_captions

NAME = "adversarial"
_TRACKED = (".robust", ".robust_ci.low", ".robust_ci.high", ".agreement", ".forwards", ".backwards")


class AdversarialShards(EvaluationShards[AdversarialSettings]):
    """Attacks the drawn images of a shard."""

    gradients = True

    def __init__(self, out: str, asked: Asked[AdversarialSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        kernel = kernel_of(asked, self.model)
        self.beside = Beside(self.model, kernel, self.seed)
        self.besides = beside(self.settings, kernel=kernel is not None)
        self.names = class_names(self.model)

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        labels = known_labels(batch)
        for norm in self.settings.norms:
            ways = [way for way in ways_of(self.settings) if way.norm == norm]
            verdicts = attacked(
                self.model, batch.images, labels, Draws(self.seed, f"{NAME}_{norm}", batch.ids, self.device),
                norm=norm, epsilons=[way.epsilon for way in ways],
                cascade=Cascade.of(self.settings.steps, self.settings.attacks),
            )  # fmt: skip
            for number, way in enumerate(ways):
                yield from self._at(way, number, verdicts, batch, labels)
        if self.settings.smallest:
            yield SMALLEST, self._smallest(batch, labels)

    def _at(
        self, way: Way, number: int, verdicts: Verdicts, batch: ImageBatch, labels: Tensor
    ) -> Iterator[tuple[str, Columns]]:
        """Rows of the attack at one size, and of what stands beside it."""
        robust = verdicts.robust[number]
        pictures = reached(verdicts.pictures, batch.images, robust)
        answer = self.outputs(pictures)
        if way == shown(self.settings):
            shown_pictures = {"image": batch.images, way.name: pictures}
            keep(self.out, batch, shown_pictures, {f"{way.name}_difference": (batch.images, pictures)})
            keep_captions(self.out, batch, self.names, {"image": batch.before, way.name: answer})
        yield (
            way.name,
            {
                **outcome_columns(batch.before, answer),
                ROBUST: robust,
                BY: verdicts.by[number],
                "distance": torch.where(robust, torch.inf, verdicts.distance),
                "forwards": verdicts.forwards[number],
                "backwards": verdicts.backwards[number],
            },
        )
        for what in self.besides:
            made = self.beside.made(what, way, batch.images, pictures, labels, batch.ids)
            after = self.outputs(made)
            kept = after.logits.argmax(dim=1).cpu() == verdicts.labels.cpu()
            yield way.condition(what), outcome_columns(batch.before, after) | {ROBUST: kept}

    def _smallest(self, batch: ImageBatch, labels: Tensor) -> dict[str, Tensor]:
        """The smallest adversarial change in L2, beside the largest that is invisible."""
        found = smallest_l2(self.model, batch.images, labels, Draws(self.seed, NAME, batch.ids, self.device))
        invisible = self.beside.largest_invisible(batch.images, batch.ids)
        return {
            **outcome_columns(batch.before, self.outputs(found.pictures)),
            **_sizes(found.distance, invisible),
            "forwards": found.forwards,
            "backwards": found.backwards,
        }


def _sizes(distance: Tensor, invisible: Tensor) -> dict[str, Tensor]:
    """Lengths (n,) of the smallest adversarial change, infinite where none was found, and of the largest invisible one.

    Images that are taken for another class as they are have none: NaN.
    """
    found = torch.where(distance > 0, distance, torch.nan)
    return {"smallest_l2": found, "invisible_l2": invisible, "invisible_over_smallest": invisible / found}


def known_labels(batch: ImageBatch) -> Tensor:
    """Labels (n,), and the clean prediction where none is known."""
    return torch.where(batch.labels >= 0, batch.labels, batch.before.logits.argmax(dim=1)).to(batch.images.device)


def verdict(asked: Asked[AdversarialSettings]) -> Verdict:
    """Skipped for models without classes; says where the ratio of logits gives way to the margin."""
    classes = asked.model.load("cpu").num_classes
    if classes < 2:
        return Verdict(f"the model has {classes} classes: there is no prediction to change")
    few = classes < FEWEST_CLASSES and "apgd_t" in asked.settings.attacks
    text = f"adversarial: with {classes} classes the difference of logits ratio is not defined; apgd_t uses the margin"
    return Verdict(warnings=(text,) if few else ())


def _tallies(asked: Asked[AdversarialSettings]) -> dict[str, AdversarialTally]:
    kernel = bool(asked.inputs["kernel"].result["nullity"])
    return {name: AdversarialTally() for name in conditions_of(asked.settings, kernel=kernel)}


EVALUATION = Evaluation(
    name=NAME,
    version=1,
    settings=AdversarialSettings,
    worker=AdversarialShards,
    tallies=_tallies,
    needs=("kernel",),
    draws=lambda settings: settings.images,
    verdict=verdict,
    tracked=lambda place: place.endswith(_TRACKED) or ".median_" in place,
    headlines=("linf_eps1.robust", "linf_eps4.robust", "smallest.median_smallest_l2"),
)

"""Can a picture show people one image and the model another? Pairs of images: one for people, one for the model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nullspace.fooling.exact import nearest_look
from nullspace.fooling.metamer import metamers
from nullspace.fooling.universal import changed
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.pixels.eight_bits import EightBits
from nullspace.watermark.distortions import distorted, distortion_named
from pipelines.engine.class_names import class_names
from pipelines.evaluations.base import Asked, Columns, Evaluation, EvaluationShards, ImageBatch, Verdict
from pipelines.evaluations.changes import controls
from pipelines.evaluations.fooling.judges import load_judges
from pipelines.evaluations.fooling.measures import Measures, Pair, columns_of_judges
from pipelines.evaluations.fooling.pictures import keep_examples
from pipelines.evaluations.fooling.settings import FoolingSettings
from pipelines.evaluations.fooling.tally import FoolingTally
from pipelines.evaluations.fooling.universal import few_images, learns, preparation, read_change
from pipelines.evaluations.fooling.ways import CONTROLS, Way, conditions_of, shown, ways_of
from pipelines.evaluations.found_kernel import kernel_of
from pipelines.evaluations.pairs import Pairs, predictions_of

_TRACKED = (
    ".agreement", ".agreement_ci.low", ".agreement_ci.high", ".as_look", ".median_relative_logits", ".confidence_off",
    ".psnr_to_look", ".psnr_to_image", ".mse_probabilities",
)  # fmt: skip


class FoolingShards(EvaluationShards[FoolingSettings]):
    """Makes fooled pictures of the drawn images of a shard, and asks the model and the judges."""

    gradients = True

    def __init__(self, out: str, asked: Asked[FoolingSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        self.kernel = kernel_of(asked, self.model)
        self.eight_bits = None if self.kernel is None else EightBits.of(self.model, self.kernel)
        self.ways = ways_of(self.settings, kernel=self.kernel is not None, universal=learns(asked))
        self.shown = shown(self.ways)
        named = [way.name for way in self.ways if way.universal is not None]
        self.changes = {name: read_change(self.out, name).to(self.device) for name in named}
        ingest, reference = (asked.inputs[name].folder for name in ("ingest", "reference"))
        self.pairs = Pairs(ingest, reference, asked.drawn, asked.seed)
        self.measures = Measures(self.model, self.pairs.usual_distance)
        self.judges = load_judges(asked.others, self.model, device)
        self.names = class_names(self.model)
        self.distortions = [distortion_named(name) for name in self.settings.distortions]

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        found = self.pairs.looks(batch.ids)
        other = from_uint8(found.images).to(self.device)
        for way in self.ways:
            look = other if way.look == "image" else self._nothing(way.look, batch)
            before = found.outputs if way.look == "image" else self.outputs(look)
            yield from self._asked(way, batch, Pair(batch.images, batch.before, look, before))

    def _asked(self, way: Way, batch: ImageBatch, pair: Pair) -> Iterator[tuple[str, Columns]]:
        """Rows for the pictures of one way, for their controls, and for the pictures after distortions."""
        fooled, passes = self._made(way, pair)
        answer = self.outputs(fooled)
        if way.name in self.shown:
            keep_examples(self.out, way, batch, pair, fooled, answer, self.names)
        judged = columns_of_judges(self.judges, fooled, pair)
        yield way.name, self.measures.of(fooled, answer, pair) | judged | {"passes": passes}
        base = pair.images if way.keeps_image else pair.look
        for name, control in zip(CONTROLS, controls(base, fooled, batch.ids, self.seed, EVALUATION.name), strict=True):
            yield way.condition(name), self.measures.of(control, self.outputs(control), pair)
        for distortion in self.distortions:
            draws = Draws(self.seed, distortion.name, batch.ids)
            after = from_uint8(distorted(round_to_uint8(fooled), distortion, draws))
            yield way.condition(distortion.name), self.measures.of(after, self.outputs(after), pair)

    def _made(self, way: Way, pair: Pair) -> tuple[Tensor, Tensor]:
        """Pictures (n,3,H,W) as 8 bits keep them, and passes of the network for each."""
        if way.exact:
            assert self.kernel is not None
            found = nearest_look(self.model, pair.images, pair.look, self.kernel, eight_bits=self.eight_bits)
            return from_uint8(found.saved), torch.zeros(len(found.saved))
        if way.universal is not None:
            return from_uint8(changed(pair.images, self.changes[way.name])), torch.zeros(len(pair.images))
        limit = None if way.epsilon is None else way.epsilon / 255
        with torch.enable_grad():
            near = metamers(self.model, pair.images, pair.look, at=way.at, epsilon=limit, steps=self.settings.steps)
        return from_uint8(near.saved), near.passes

    def _nothing(self, look: str, batch: ImageBatch) -> Tensor:
        """A look without content for each image: mid-grey, or uniform noise drawn by its id."""
        if look == "grey":
            return from_uint8(torch.full_like(batch.saved, 128)).to(self.device)
        drawn = Draws(self.seed, "look_noise", batch.ids, self.device).uniform(*batch.images.shape[1:])
        return from_uint8(round_to_uint8(drawn))


def verdict(asked: Asked[FoolingSettings]) -> Verdict:
    """Skipped where no two images are of different classes; warns of judges that cannot judge."""
    predictions = predictions_of(asked.inputs["ingest"].folder, asked.inputs["reference"].folder, asked.drawn)
    if len(set(predictions.values())) < 2:
        return Verdict(
            f"the model puts all {len(predictions)} images into one class: there are no pairs of different classes "
            "(random weights do that; give trained ones)"
        )
    wanted = [label for label in asked.settings.judges if label != asked.model.label]
    missing = [label for label in wanted if label not in asked.others]
    texts = [f"fooling: the judge {label} could not be loaded and was not asked" for label in missing]
    if asked.settings.universal and not learns(asked):
        texts.append(few_images(asked))
    return Verdict(warnings=tuple(texts))


def tracked(place: str) -> bool:
    """Whether a figure becomes a metric: a few of each condition, of which there are six for every way."""
    return place.endswith(_TRACKED) or ".judge_" in place


def _tallies(asked: Asked[FoolingSettings]) -> dict[str, FoolingTally]:
    kernel = bool(asked.inputs["kernel"].result["nullity"])
    names = conditions_of(asked.settings, kernel=kernel, universal=learns(asked))
    return {name: FoolingTally(list(asked.others)) for name in names}


EVALUATION = Evaluation(
    name="fooling",
    version=5,
    settings=FoolingSettings,
    worker=FoolingShards,
    tallies=_tallies,
    needs=("kernel",),
    draws=lambda settings: settings.pairs,
    others=lambda settings: settings.judges,
    verdict=verdict,
    prepares=preparation,
    tracked=tracked,
    headlines=("logits_eps4.agreement", "logits_eps4.median_relative_logits", "exact.agreement", "look_grey.agreement"),
)

"""What do explanations show of noise that the model does not notice, and what can they be made to show?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.attribution.gradients import gradient
from nullspace.attribution.maps import map_named, reasons_against
from nullspace.attribution.places import PixelPlace, Place, TokenPlace, token_noise
from nullspace.attribution.random_weights import with_weights_in_random_order
from nullspace.attribution.search import move_map
from nullspace.attribution.steering import elsewhere, steer
from nullspace.metrics.draws import Draws
from nullspace.metrics.norms import hold_token_norm, token_norms
from nullspace.model.images import from_uint8
from nullspace.pixels.eight_bits import EightBits
from pipelines.evaluations.attribution.measures import Maps, Measures, count_of
from pipelines.evaluations.attribution.pictures import keep_maps, keep_pictures
from pipelines.evaluations.attribution.settings import AttributionSettings
from pipelines.evaluations.attribution.tally import AttributionTally
from pipelines.evaluations.attribution.ways import (
    CLEAN,
    LEARNED,
    RANDOM_MAP,
    RANDOM_WEIGHTS,
    STEERED,
    Way,
    control,
    controls_of,
    searches,
    ways_of,
)
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    Verdict,
    as_float,
    outcome_columns,
)
from pipelines.evaluations.changes import controls
from pipelines.evaluations.found_kernel import kernel_of
from pipelines.evaluations.pairs import Pairs, predictions_of
from pipelines.evaluations.token_noise import TokenNoise

NAME = "attribution"
_ITERATIONS = 30  # of steering in the kernel
_ON_A_CPU = 4  # images whose graphs of a gradient's gradient are in memory there at once
_TRACKED = (".agreement", ".agreement_ci.low", ".agreement_ci.high", ".mse_probabilities", ".pixels_top")


_SEARCHED = tuple(
    f"away_gradient_weighted_attention_eps{epsilon}.{figure}"
    for epsilon in (4, 8)
    for figure in ("agreement", "spearman_gradient_weighted_attention")
)


@dataclass(frozen=True)
class Explained:
    """A batch with what is explained: the class that the model gives each image, and all maps of it."""

    batch: ImageBatch
    classes: Tensor
    maps: Maps


class AttributionShards(EvaluationShards[AttributionSettings]):
    """Explains the drawn images of a shard, before and after noise."""

    gradients = True

    def __init__(self, out: str, asked: Asked[AttributionSettings], device: str, with_examples: str) -> None:
        super().__init__(out, asked, device, with_examples)
        self.missing = reasons_against(self.model, self.settings.maps)
        self.measures = Measures(self.model, [name for name in self.settings.maps if name not in self.missing])
        self.kernel = kernel_of(asked, self.model)
        self.eight_bits = None if self.kernel is None else EightBits.of(self.model, self.kernel)
        self.mixed = with_weights_in_random_order(self.model, self.seed)
        ingest, reference = (asked.inputs[name].folder for name in ("ingest", "reference"))
        self.pairs = Pairs(ingest, reference, asked.drawn, asked.seed)
        self.learned = has_noise(asked)
        if self.learned:
            self.noise = TokenNoise.found(asked.inputs["search"])

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        classes = batch.before.logits.argmax(dim=1).to(self.device)
        explained = Explained(batch, classes, self.measures.maps(batch.images, classes))
        keep_maps(self.model, self.out, batch, CLEAN, batch.images, explained.maps, self.settings.searched)
        yield CLEAN.name, self._said(batch, batch.images) | self.measures.deleted(batch.images, classes, explained.maps)
        yield from self._sanity(explained)
        if self.kernel is not None:
            yield from self._steered(explained)
        if self.learned:
            yield from self._learned(explained)
        for way in searches(self.settings):
            if way.map not in self.missing:
                yield from self._searched(way, explained)

    def _sanity(self, explained: Explained) -> Iterator[tuple[str, Columns]]:
        """Maps that have nothing to do with what the model learned."""
        batch, maps = explained.batch, explained.maps
        after = as_float(self.mixed.outputs_from_tokens(self.mixed.tokens(batch.images)))
        mixed = self.measures.maps(batch.images, explained.classes, model=self.mixed)
        yield RANDOM_WEIGHTS.name, outcome_columns(batch.before, after) | self.measures.alike(maps, mixed)
        drawn = Draws(self.seed, "attribution_map", batch.ids, self.device).uniform(self.model.num_patches)
        random = dict.fromkeys(maps, drawn)
        deleted = self.measures.deleted(batch.images, explained.classes, {"random": drawn})
        yield RANDOM_MAP.name, self._said(batch, batch.images) | self.measures.alike(maps, random) | deleted

    def _steered(self, explained: Explained) -> Iterator[tuple[str, Columns]]:
        """Noise in the kernel that puts input × gradient on other pixels, beside its controls."""
        assert self.kernel is not None
        images, classes, share = explained.batch.images, explained.classes, self.settings.largest_pixels
        slope = gradient(self.model, images, classes)
        wanted = elsewhere(self.model, images, slope, count_of(share, images[0, 0].numel()))
        found = steer(self.model, images, slope, wanted, self.kernel, steps=_ITERATIONS, eight_bits=self.eight_bits)
        pictures = from_uint8(found.saved)
        for way, each in self._beside(STEERED, explained.batch.ids, images, pictures):
            columns = self._asked(way, explained, each) | self.measures.pixels(images, each, classes, share)
            if way is STEERED:
                columns |= self._deleted(each, explained)
                keep_pictures(self.out, explained.batch, way, images, pictures, self.measures, classes)
            yield way.name, columns

    def _deleted(self, pictures: Tensor, explained: Explained) -> dict[str, Tensor]:
        """Deletion from changed pictures by the maps of the clean ones: along patches it cannot see the kernel."""
        return self.measures.deleted(pictures, explained.classes, explained.maps)

    def _learned(self, explained: Explained) -> Iterator[tuple[str, Columns]]:
        """The learned noise on tokens, and its controls."""
        batch = explained.batch
        parts = self.noise.parts(batch.ids)
        for condition, way in LEARNED.items():
            noise = self.noise.draw(condition, batch.ids, self.device)
            yield way.name, parts | self._on_tokens(explained, noise)

    def _searched(self, way: Way, explained: Explained) -> Iterator[tuple[str, Columns]]:
        """Noise that moves one map and holds the prediction, beside its controls."""
        batch = explained.batch
        base, goal = self._sought(way, explained)
        made = self._moved(way, batch, base, goal)
        if way.relative_norm is not None:
            draws = Draws(self.seed, "attribution_tokens", batch.ids)
            permuted = hold_token_norm(draws.shuffled(made), token_norms(made))
            for each, noise in ((way, made), (control(way, "permuted"), permuted)):
                yield each.name, self._on_tokens(explained, noise)
            return
        pictures = from_uint8(made)
        keep_pictures(self.out, batch, way, base, pictures, self.measures, explained.classes)
        for each, changed in self._beside(way, batch.ids, base, pictures):
            yield each.name, self._asked(each, explained, changed, goal)

    def _sought(self, way: Way, explained: Explained) -> tuple[Tensor, Tensor | None]:
        """The pictures that are changed, and the map that is wanted; None where the map is to be any other."""
        images, own = explained.batch.images, explained.maps[way.map]
        if way.goal == "away":
            return images, None
        other = self.pairs.looks(explained.batch.ids)
        pictures = from_uint8(other.images).to(self.device)
        if way.goal == "as_image":
            return pictures, own
        theirs = other.outputs.logits.argmax(dim=1).to(self.device)
        return images, map_named(way.map)(self.model, pictures, theirs).detach()

    def _moved(self, way: Way, batch: ImageBatch, base: Tensor, goal: Tensor | None) -> Tensor:
        """What the search makes: pictures uint8, or noise on tokens; a few images at once, as graphs are large."""
        count = len(batch.ids)
        size = count if batch.images.is_cuda else _ON_A_CPU
        made = []
        for start in range(0, count, size):
            part = slice(start, start + size)
            place = self._place(way, batch.images[part], base[part], batch.ids[part])
            wanted = None if goal is None else goal[part]
            found = map_named(way.map)
            moved = move_map(self.model, batch.images[part], found, place, towards=wanted, steps=self.settings.steps)
            made.append(moved.made)
        return torch.cat(made)

    def _place(self, way: Way, images: Tensor, base: Tensor, ids: list[str]) -> Place:
        draws = Draws(self.seed, f"attribution_{way.name}", ids)
        if way.relative_norm is not None:
            return TokenPlace.of(self.model, images, draws, relative_norm=way.relative_norm)
        assert way.epsilon is not None
        return PixelPlace.around(self.model, base, draws, epsilon=way.epsilon / 255)

    def _beside(self, way: Way, ids: list[str], base: Tensor, pictures: Tensor) -> Iterator[tuple[Way, Tensor]]:
        """A way with its pictures, and its controls with theirs."""
        yield way, pictures
        found = controls(base, pictures, ids, self.seed, NAME)
        made: dict[str, Tensor] = dict(zip(("permuted", "signs"), found, strict=True))
        yield from ((control(way, what), made[what]) for what in controls_of(way))

    def _asked(self, way: Way, explained: Explained, pictures: Tensor, goal: Tensor | None = None) -> dict[str, Tensor]:
        """What became of the answers and of every map in pictures; how near one came to its goal."""
        after = self.measures.maps(pictures, explained.classes)
        columns = self._said(explained.batch, pictures) | self.measures.alike(explained.maps, after)
        if goal is not None:
            columns |= {f"{name}_goal": each for name, each in self._near(goal, after[way.map], way).items()}
        return columns

    def _near(self, goal: Tensor, after: Tensor, way: Way) -> dict[str, Tensor]:
        named = self.measures.alike({way.map: goal}, {way.map: after})
        return {name.removesuffix(f"_{way.map}"): each for name, each in named.items()}

    def _on_tokens(self, explained: Explained, noise: Tensor) -> dict[str, Tensor]:
        """The same for noise (n,N,D) on the tokens of the images."""
        images = explained.batch.images
        with token_noise(self.model, noise):
            after = self.measures.maps(images, explained.classes)
        noised = as_float(self.model.outputs_from_tokens(self.model.tokens(images) + noise.to(images)))
        return outcome_columns(explained.batch.before, noised) | self.measures.alike(explained.maps, after)

    def _said(self, batch: ImageBatch, pictures: Tensor) -> dict[str, Tensor]:
        return outcome_columns(batch.before, self.outputs(pictures))


def has_noise(asked: Asked[AttributionSettings]) -> bool:
    """Whether there is learned noise to look at: it is asked for, and the run searches it."""
    return asked.settings.learned and "search" in asked.inputs


def verdict(asked: Asked[AttributionSettings]) -> Verdict:
    """Skipped where the model has no map, or no two images are of different classes; warns of maps it has not got."""
    reasons = reasons_against(asked.model.load("cpu"), asked.settings.maps)
    if len(reasons) == len(asked.settings.maps):
        return Verdict(f"the model has none of the maps: {'; '.join(reasons.values())}")
    predictions = predictions_of(asked.inputs["ingest"].folder, asked.inputs["reference"].folder, asked.drawn)
    if len(set(predictions.values())) < 2:
        return Verdict(
            f"the model puts all {len(predictions)} images into one class: no image has another one to take the map of "
            "(random weights do that; give trained ones)"
        )
    return Verdict(warnings=tuple(f"attribution: {name} is left out: {reason}" for name, reason in reasons.items()))


def _tallies(asked: Asked[AttributionSettings]) -> dict[str, AttributionTally]:
    kernel = bool(asked.inputs["kernel"].result["nullity"])
    ways = ways_of(asked.settings, kernel=kernel, learned=has_noise(asked))
    return {way.name: AttributionTally(asked.settings.maps, learned=way.kind == "learned") for way in ways}


def tracked(place: str) -> bool:
    """Whether a figure becomes a metric: of each condition its outcome and the rank correlation of each map."""
    return place.endswith(_TRACKED) or (("spearman_" in place or "deletion_" in place) and "_ci" not in place)


EVALUATION = Evaluation(
    name=NAME,
    version=2,
    settings=AttributionSettings,
    worker=AttributionShards,
    tallies=_tallies,
    needs=("kernel",),
    reads=lambda settings: ("search",) if settings.learned else (),
    draws=lambda settings: settings.images,
    verdict=verdict,
    tracked=tracked,
    headlines=("steered.agreement", "steered.pixels_top", *_SEARCHED),
)

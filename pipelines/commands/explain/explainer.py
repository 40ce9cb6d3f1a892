"""The maps of a picture before and after noise, and under the same noise in random order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nullspace.attribution.compare import spearman, top_intersection
from nullspace.attribution.gradients import gradient
from nullspace.attribution.maps import map_named, reasons_against
from nullspace.attribution.overlay import as_drawn, laid_over, pixels_as_drawn
from nullspace.attribution.places import PixelPlace, token_noise
from nullspace.attribution.search import move_map
from nullspace.attribution.steering import elsewhere, map_of, steer
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.controls import permuted
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise
from pipelines.commands.explain.command import KERNEL, NONE, SEARCH
from pipelines.commands.pictures.files import Picture
from pipelines.engine.class_names import ClassNames
from pipelines.errors import ConfigError
from pipelines.evaluations.attribution.measures import count_of

TOP = 3
PIXELS = "pixels"
_LARGEST = 0.02  # of the pixels, which noise in the kernel is to move
_STEERING_STEPS = 60
_PERMUTED = "explain_permuted"


@dataclass(frozen=True)
class Request:
    """What is asked: maps by name, the noise, the limits of a search, the class explained (None: the predicted)."""

    maps: tuple[str, ...]
    noise: str
    epsilon: float
    steps: int
    kind: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture (3,H,W) in [0,1] with what the model says of it, and its maps laid over it, by name.

    `alike` has the rank correlation of each map with that of the picture; for `pixels`, which are those of input ×
    gradient, the share of the largest that stays. Empty for the picture itself.
    """

    title: str
    image: Tensor
    top: tuple[Mapping[str, Any], ...]
    maps: Mapping[str, Tensor]
    alike: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Explained:
    """The panels, from the picture itself on."""

    model: str
    noise: str
    explained: Mapping[str, Any]
    panels: tuple[Panel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without pixels."""
        named = zip(("picture", "noised", "permuted"), self.panels, strict=False)
        shown = {name: {"top": [dict(each) for each in panel.top], "alike": dict(panel.alike)} for name, panel in named}
        return {"model": self.model, "noise": self.noise, "explained": dict(self.explained), **shown}


@dataclass(frozen=True, eq=False)
class _Sight:
    """What the model is given: images (1,3,H,W), within `under`, where noise is on the tokens."""

    title: str
    images: Tensor
    under: Callable[[], Any] = nullcontext


@dataclass(frozen=True, eq=False)
class Explainer:
    """Explains pictures for one model."""

    model: SplitViT
    names: ClassNames

    def explain(self, picture: Picture, request: Request) -> Explained:
        """The picture as the model is given it, before and after noise. Raises ConfigError, NullspaceError."""
        self._check(request)
        image = from_uint8(picture.seen(self.model.preprocessing))[None]
        with torch.no_grad():
            predicted = int(self.model(image).argmax())
        kind = predicted if request.kind is None else request.kind
        classes = torch.tensor([kind])
        sights = [_Sight("the picture", image), *self._noised(image, classes, request)]
        maps = [self._maps(each, classes, request.maps) for each in sights]
        panels = [self._panel(sights[0], maps[0], None)]
        panels += [self._panel(each, after, maps[0]) for each, after in zip(sights[1:], maps[1:], strict=True)]
        explained = {"class": kind, "name": self.names[kind], "predicted": kind == predicted}
        return Explained(self.model.name, request.noise, explained, tuple(panels))

    def _check(self, request: Request) -> None:
        reasons = reasons_against(self.model, request.maps)
        if reasons:
            raise ConfigError("; ".join(f"--map {name}: {reason}" for name, reason in reasons.items()))
        if request.kind is not None and request.kind >= self.model.num_classes:
            raise ConfigError(f"--class {request.kind}: expected 0 to {self.model.num_classes - 1}")

    def _noised(self, image: Tensor, classes: Tensor, request: Request) -> Iterator[_Sight]:
        """What the model is given under noise, and under the same noise permuted."""
        if request.noise == NONE:
            return
        if request.noise not in (KERNEL, SEARCH):
            yield from self._learned(image, NullNoise.load(request.noise), request.seed)
            return
        made = self._steered(image, classes) if request.noise == KERNEL else self._moved(image, request)
        change = Draws(request.seed, _PERMUTED, ["change"]).shuffled(made - image)
        title = (
            "noise in the kernel" if request.noise == KERNEL else f"searched noise, ε = {255 * request.epsilon:g}/255"
        )
        yield _Sight(title, made)
        yield _Sight("its change, permuted", from_uint8(round_to_uint8((image + change).clamp(0, 1))))

    def _steered(self, image: Tensor, classes: Tensor) -> Tensor:
        kernel = exact_kernel(self.model)
        if kernel.is_trivial:
            raise ConfigError(
                f"--noise kernel: the patch embedding of {self.model.name} sees every change of a patch; take --noise "
                "search, or none"
            )
        slope = gradient(self.model, image, classes)
        wanted = elsewhere(self.model, image, slope, _count(image))
        return from_uint8(steer(self.model, image, slope, wanted, kernel, steps=_STEERING_STEPS).saved)

    def _moved(self, image: Tensor, request: Request) -> Tensor:
        draws = Draws(request.seed, "explain", ["picture"])
        place = PixelPlace.around(self.model, image, draws, epsilon=request.epsilon)
        return from_uint8(move_map(self.model, image, map_named(request.maps[0]), place, steps=request.steps).made)

    def _learned(self, image: Tensor, noise: NullNoise, seed: int) -> Iterator[_Sight]:
        draws = Draws(seed, _PERMUTED, ["noise"])
        mixed = permuted(noise.tensor, draws, shift_invariant=noise.shift_invariant, hold="token")
        yield _Sight("learned noise on tokens", image, lambda: noise.apply(self.model))
        yield _Sight("the same, permuted", image, lambda: token_noise(self.model, mixed))

    def _maps(self, sight: _Sight, classes: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Maps (1,N) of what the model is given, and input × gradient by pixels (1,H·W), in absolute value."""
        with sight.under():
            found = {name: map_named(name)(self.model, sight.images, classes).detach() for name in names}
            slope = gradient(self.model, sight.images, classes)
        return found | {PIXELS: map_of(self.model, sight.images, slope).abs().flatten(1)}

    def _panel(self, sight: _Sight, maps: Mapping[str, Tensor], before: Mapping[str, Tensor] | None) -> Panel:
        with torch.no_grad(), sight.under():
            logits = self.model(sight.images)
        alike = {}
        if before is not None:
            alike = {name: float(spearman(before[name], each)) for name, each in maps.items() if name != PIXELS}
            alike[PIXELS] = float(top_intersection(before[PIXELS], maps[PIXELS], _count(sight.images)))
        return Panel(sight.title, sight.images[0], self._top(logits[0]), self._drawn(sight.images, maps), alike)

    def _drawn(self, images: Tensor, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        drawn = {name: as_drawn(self.model, each) for name, each in maps.items() if name != PIXELS}
        drawn[PIXELS] = pixels_as_drawn(maps[PIXELS].unflatten(1, images.shape[2:]))
        return {name: laid_over(images, each)[0] for name, each in drawn.items()}

    def _top(self, logits: Tensor) -> tuple[dict[str, Any], ...]:
        likeliest = logits.double().softmax(-1).topk(min(TOP, len(logits)))
        return tuple(
            {"class": int(number), "name": self.names[int(number)], "probability": float(probability)}
            for probability, number in zip(likeliest.values, likeliest.indices, strict=True)
        )


def _count(images: Tensor) -> int:
    """How many pixels are the largest."""
    return count_of(_LARGEST, images[0, 0].numel())

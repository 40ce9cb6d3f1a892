"""The ways in which explanations are put to the test, and the names of their conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.evaluations.attribution.settings import AttributionSettings

Kind = Literal["clean", "sanity", "kernel", "learned", "search"]
Goal = Literal["away", "towards", "as_image"]
PIXEL_MAP = "input_times_gradient"
"""The map that noise in the kernel steers, pixel by pixel."""
LIKENESS = ("spearman", "top", "pearson", "ssim", "centre")
"""Rank correlation of tokens, share of the largest quarter that stays, correlation, SSIM as drawn, pixels of shift."""
PIXELS = "pixels_top"
"""Share of the pixels with the largest input × gradient (in absolute value) that stay among them."""
RANDOM = "random"
"""Deletion in random order."""
PIXEL_PICTURE = "pixels"
WORDS = {
    "gradient": "gradient",
    "input_times_gradient": "input × gradient",
    "integrated_gradients": "integrated gradients",
    "smooth_gradient": "SmoothGrad",
    "attention_rollout": "attention rollout",
    "gradient_weighted_attention": "gradient-weighted attention",
    "grad_cam": "Grad-CAM",
}


@dataclass(frozen=True)
class Way:
    """One condition: `title` for people; `control` where it is only compared with.

    A search has a `map`, a `goal`, and `epsilon` (of 255) in pixels or `relative_norm` on tokens.
    """

    name: str
    title: str
    kind: Kind
    control: bool = False
    map: str = ""
    goal: Goal = "away"
    epsilon: float | None = None
    relative_norm: float | None = None


CLEAN = Way("clean", "the image itself", "clean")
RANDOM_WEIGHTS = Way("random_weights", "weights in random order", "sanity", control=True)
RANDOM_MAP = Way("random_map", "a random map", "sanity", control=True)
STEERED = Way("steered", f"{WORDS[PIXEL_MAP]} moved in the kernel", "kernel")
LEARNED = {
    "learned": Way("learned", "learned noise on tokens", "learned"),
    "permuted": Way("learned_permuted", "the same, permuted", "learned", control=True),
    "gaussian": Way("learned_gaussian", "Gaussian noise, same norm", "learned", control=True),
}
"""The learned noise and its controls, by the conditions of `TokenNoise`."""


def ways_of(settings: AttributionSettings, *, kernel: bool, learned: bool) -> list[Way]:
    """All conditions, controls among them, in the order of the page; none without a kernel, or a learned noise."""
    found = [CLEAN, RANDOM_WEIGHTS, RANDOM_MAP]
    if kernel:
        found += [STEERED, *(control(STEERED, what) for what in controls_of(STEERED))]
    if learned:
        found += LEARNED.values()
    for way in searches(settings):
        found += [way, *(control(way, what) for what in controls_of(way))]
    return found


def searches(settings: AttributionSettings) -> Iterator[Way]:
    """Those that noise is searched for: away at every size, the other goals at the largest ε alone."""
    for name in settings.searched:
        title = WORDS[name]
        for epsilon in settings.epsilon:
            yield Way(f"away_{name}_eps{epsilon:g}", f"{title} moved, ε = {epsilon:g}/255", "search",
                      map=name, epsilon=epsilon)  # fmt: skip
        for norm in settings.relative_norm:
            yield Way(f"away_{name}_norm{norm:g}", f"{title} moved, on tokens, {norm:g}", "search",
                      map=name, relative_norm=norm)  # fmt: skip
        if settings.epsilon:
            most = max(settings.epsilon)
            yield Way(f"towards_{name}_eps{most:g}", f"{title} of another image, ε = {most:g}/255", "search",
                      map=name, goal="towards", epsilon=most)  # fmt: skip
            yield Way(f"as_image_{name}_eps{most:g}",
                      f"another picture, this {title}, ε = {most:g}/255", "search",
                      map=name, goal="as_image", epsilon=most)  # fmt: skip


def controls_of(way: Way) -> tuple[str, ...]:
    """Its own change in random order; in pixels, but towards no goal, also random signs of its root mean square."""
    return ("permuted", "signs") if way.goal == "away" and way.relative_norm is None else ("permuted",)


def control(way: Way, what: str) -> Way:
    """A control of equal size."""
    title = {"permuted": "its change, permuted", "signs": "random signs, same size"}[what]
    return Way(f"{way.name}_{what}", title, way.kind, True, way.map, way.goal, way.epsilon, way.relative_norm)


def likeness(measure: str, name: str) -> str:
    """The column of a measure of a map's likeness before and after."""
    return f"{measure}_{name}"


def picture(way: Way) -> str:
    """The name of a way's picture."""
    return "image" if way.name == CLEAN.name else way.name


def map_picture(way: Way, name: str) -> str:
    """The name of the picture of a map."""
    return f"{picture(way)}_map_{name}"

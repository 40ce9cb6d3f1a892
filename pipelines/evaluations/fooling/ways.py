"""The ways in which pictures are made that fool the model, and the names of their conditions."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.evaluations.fooling.settings import FoolingSettings

CONTROLS = ("permuted", "signs")
"""Of every way: its own change of pixels in random order; signs at random, of the same root mean square."""
JUDGED = ("image", "look", "other")
"""What a judge may take a picture for."""


@dataclass(frozen=True)
class Way:
    """One way: what people are to see, what of the model is matched, and how far pixels may go."""

    name: str
    title: str
    look: str = "image"
    """Another image of the pair, "grey" or "noise"."""
    at: str = "logits"
    epsilon: float | None = None
    """Of 255; None: anywhere in [0,1]."""
    exact: bool = False
    """Within the kernel of the patch embedding, around the image itself."""

    universal: float | None = None
    """Root mean square, of 255, of one change for all images, around the image itself."""

    @property
    def keeps_image(self) -> bool:
        """Whether it changes the image; else it changes the look."""
        return self.exact or self.universal is not None

    def condition(self, what: str) -> str:
        """Of a control, or after a distortion."""
        return f"{self.name}_{what}"


def ways_of(settings: FoolingSettings, *, kernel: bool, universal: bool) -> list[Way]:
    """All of them in the order of the page; none is exact without a kernel, or universal without images for it."""
    found = [Way("exact", "exact, in the kernel", exact=True)] if settings.exact and kernel else []
    found += [_near(at, epsilon) for at in settings.at for epsilon in settings.epsilon]
    found += [Way(f"look_{look}", f"look of {look}", look, settings.at[0]) for look in settings.looks]
    return found + ([universal_way(rms) for rms in settings.universal] if universal else [])


def universal_way(rms: float) -> Way:
    return Way(f"universal_rms{rms:g}", f"one change for all, rms {rms:g}/255", universal=rms)


def conditions_of(settings: FoolingSettings, *, kernel: bool, universal: bool) -> list[str]:
    """The names of all conditions, controls and distortions included."""
    further = (*CONTROLS, *settings.distortions)
    return [
        name
        for way in ways_of(settings, kernel=kernel, universal=universal)
        for name in (way.name, *(way.condition(each) for each in further))
    ]


def shown(ways: list[Way]) -> set[str]:
    """Names of those of which pictures are kept: one of each kind, the largest ε at the first depth."""
    return {way.name for way in (best(ways), *ways) if way is not None and (way is best(ways) or way.epsilon is None)}


def best(ways: list[Way]) -> Way | None:
    """The way shown in headlines: the largest ε at the first depth, else the first of all."""
    near = [way for way in ways if way.epsilon is not None]
    of_first = [way for way in near if way.at == near[0].at]
    return max(of_first, key=lambda way: way.epsilon or 0, default=ways[0] if ways else None)


def _near(at: str, epsilon: float) -> Way:
    return Way(f"{at.replace(':', '')}_eps{epsilon:g}", f"{at}, ε = {epsilon:g}/255", at=at, epsilon=epsilon)


def judged(label: str, name: str) -> str:
    """The column of a judge's answer."""
    return f"judge_{label}_{name}"

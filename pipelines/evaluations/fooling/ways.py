"""The ways in which pictures are made that fool the model, and the names of their conditions."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.evaluations.fooling.settings import FoolingSettings

CONTROLS = ("permuted", "signs")
"""Of every way: its own change of pixels in random order; signs at random, of the same root mean square."""


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

    def condition(self, what: str) -> str:
        """Of a control, or after a distortion."""
        return f"{self.name}_{what}"


def ways_of(settings: FoolingSettings, *, kernel: bool) -> list[Way]:
    """All of them in the order of the page; without a kernel none is exact."""
    found = [Way("exact", "exact, in the kernel", exact=True)] if settings.exact and kernel else []
    found += [_near(at, epsilon) for at in settings.at for epsilon in settings.epsilon]
    return [*found, *(Way(f"look_{look}", f"look of {look}", look, settings.at[0]) for look in settings.looks)]


def conditions_of(settings: FoolingSettings, *, kernel: bool) -> list[str]:
    """The names of all conditions, controls and distortions included."""
    further = (*CONTROLS, *settings.distortions)
    return [
        name
        for way in ways_of(settings, kernel=kernel)
        for name in (way.name, *(way.condition(each) for each in further))
    ]


def shown(ways: list[Way]) -> set[str]:
    """Names of those of which pictures are kept: one of each kind, the largest ε at the first depth."""
    return {way.name for way in (best(ways), *ways) if way is not None and (way is best(ways) or way.epsilon is None)}


def best(ways: list[Way]) -> Way | None:
    """The way that headlines speak of: the largest ε at the first depth, else the first of all."""
    near = [way for way in ways if way.epsilon is not None]
    of_first = [way for way in near if way.at == near[0].at]
    return max(of_first, key=lambda way: way.epsilon or 0, default=ways[0] if ways else None)


def _near(at: str, epsilon: float) -> Way:
    return Way(f"{at.replace(':', '')}_eps{epsilon:g}", f"{at}, ε = {epsilon:g}/255", at=at, epsilon=epsilon)

"""The sizes of changes, what is done at each of them, and the names of the conditions."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.evaluations.adversarial.settings import AdversarialSettings, Norm

SMALLEST = "smallest"
CONTROLS = {"signs": "random signs, same size", "permuted": "its change, permuted"}
"""Changes of equal size that mean nothing."""
CONFINED = {
    "kernel": "attacked in the kernel alone",
    "kernel_noise": "attacked, then noise in the kernel",
    "row_space": "attacked in the row space alone",
}


@dataclass(frozen=True)
class Way:
    """Changes of one norm up to one size: of 255 for Linf, of pixels in [0,1] for L2."""

    norm: Norm
    size: float

    @property
    def name(self) -> str:
        """Of its condition."""
        return f"{self.norm}_eps{self.size:g}"

    @property
    def title(self) -> str:
        return f"Linf {self.size:g}/255" if self.norm == "linf" else f"L2 {self.size:g}"

    @property
    def epsilon(self) -> float:
        """In pixel units of [0,1]."""
        return self.size / 255 if self.norm == "linf" else self.size

    def condition(self, what: str) -> str:
        """Of a control, or of an attack in a subspace."""
        return f"{self.name}_{what}"


def ways_of(settings: AdversarialSettings) -> list[Way]:
    """In the order of the page: norm by norm, ε rising."""
    sizes = {"linf": settings.epsilon_linf, "l2": settings.epsilon_l2}
    return [Way(norm, size) for norm in settings.norms for size in sizes[norm]]


def beside(settings: AdversarialSettings, *, kernel: bool) -> list[str]:
    """What is done at every size beside the attack itself; without a kernel the row space is everything."""
    return [*CONTROLS, *(CONFINED if settings.confined and kernel else ())]


def conditions_of(settings: AdversarialSettings, *, kernel: bool) -> list[str]:
    """The names of all conditions."""
    found = [
        name
        for way in ways_of(settings)
        for name in (way.name, *(way.condition(what) for what in beside(settings, kernel=kernel)))
    ]
    return [*found, *([SMALLEST] if settings.smallest else [])]


def shown(settings: AdversarialSettings) -> Way:
    """The way of headlines and pictures: the largest ε of the first norm."""
    first = settings.norms[0]
    return max((way for way in ways_of(settings) if way.norm == first), key=lambda way: way.size)

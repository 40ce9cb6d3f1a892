"""Whose noise, on which model: names and titles of the conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OWN = "itself"  # no label of a model can be it: the title of the model that the noise belongs to
KINDS = {"kernel": "Kernel noise in valid pixels", "learned": "Learned noise on the tokens"}
KERNEL_CONTROLS = {"": "kernel noise", "_permuted": "the same change, permuted", "_signs": "random signs, same size"}
LEARNED_CONTROLS = {"": "learned noise", "_permuted": "the same noise, permuted", "_gaussian": "Gaussian, same norm"}


@dataclass(frozen=True)
class Way:
    """Noise of a kind ("kernel", "learned") on a model: the one it belongs to where `label` is None."""

    kind: str
    label: str | None

    @property
    def name(self) -> str:
        return f"{self.kind}_own" if self.label is None else f"{self.kind}_on_{self.label}"

    def conditions(self) -> Iterator[tuple[str, str]]:
        """Name and title of the noise and of its controls."""
        for end, title in (KERNEL_CONTROLS if self.kind == "kernel" else LEARNED_CONTROLS).items():
            yield f"{self.name}{end}", f"{title}, on {self.label or OWN}"


def ways_of(labels: Sequence[str], kinds: Sequence[str]) -> list[Way]:
    """Every kind of noise on the model itself and on the others."""
    return [Way(kind, label) for kind in kinds for label in (None, *labels)]

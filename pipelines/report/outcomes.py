"""One shape for what a model answers under a condition: counts, shares and means that know their 95 % interval.

Made from JSON at the edge; the table of the page, the rows of the terminal and the bars of a figure are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipelines import wording

JsonObject: TypeAlias = Mapping[str, Any]
"""A JSON object as it was read from a file."""

CONTROLS = ("permuted", "gaussian")
FOR_COMPARISON = (*CONTROLS, "plain")
OUTCOMES = {
    "mse_logits": "‖Δlogits‖²",
    "mse_probabilities": "‖Δprobabilities‖²",
    "mse_features": "‖Δfeatures‖²",
    "confidence_change": "Δ confidence",
}
LARGEST = {
    "max_abs_logit_change": "max |Δlogit|",
    "max_probability_change": "max |Δp|",
    "largest_token_change": "Worst ‖A·δ‖",
}


@dataclass(frozen=True)
class Mean:
    """A mean over images and its 95 % interval; no interval for a single image."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        return wording.format_number(self.value)

    @property
    def interval(self) -> str:
        """'[0.21, 0.24]', or '' without an interval."""
        return "" if self.low is None or self.high is None else wording.format_number_interval((self.low, self.high))

    @property
    def both(self) -> str:
        return f"{self.text} {self.interval}".strip()


class Share(Mean):
    """A share of images in [0,1] and its 95 % interval, written in percent."""

    @property
    def text(self) -> str:
        return wording.format_percent(self.value)

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else wording.format_percent_interval((self.low, self.high))


def mean_in(figures: JsonObject, name: str) -> Mean | None:
    """The mean `name` of a JSON object with its interval `<name>_ci`; None where it has none."""
    return Mean(figures[name], *_ends(figures, name)) if wording.is_number(figures.get(name)) else None


def share_in(figures: JsonObject, name: str) -> Share | None:
    """The share `name` of a JSON object with its interval `<name>_ci`; None where it has none."""
    return Share(figures[name], *_ends(figures, name)) if wording.is_number(figures.get(name)) else None


def _ends(figures: JsonObject, name: str) -> Sequence[float]:
    return figures.get(f"{name}_ci") or ()


@dataclass(frozen=True)
class Outcome:
    """What became of a model's answers under one condition, over `n` images."""

    n: int
    agreement: Share | None
    """Share of predictions unchanged."""
    means: Mapping[str, Mean] = field(default_factory=dict)
    """By name, see `OUTCOMES`; also image quality where images were changed."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Figures without an interval: counts and largest changes, see `LARGEST`."""

    @classmethod
    def of(cls, figures: JsonObject) -> Outcome:
        """From the JSON of one condition."""
        with_interval = {name.removesuffix("_ci") for name in figures if name.endswith("_ci")}
        found = {name: mean_in(figures, name) for name in with_interval if name != "agreement"}
        return cls(
            n=figures["n"],
            agreement=share_in(figures, "agreement"),
            means={name: mean for name, mean in found.items() if mean is not None},
            numbers={
                name: value for name, value in figures.items() if wording.is_number(value) and name not in with_interval
            },
        )

    def share(self, name: str) -> Share | None:
        """A mean that is a share of images, to be written in percent."""
        mean = self.means.get(name)
        return None if mean is None else Share(mean.value, mean.low, mean.high)

    def text(self, name: str) -> tuple[str, str]:
        """A figure and its interval as people read them; a dash for what was not measured."""
        mean = self.means.get(name)
        return (wording.format_number(self.numbers.get(name)), "") if mean is None else (mean.text, mean.interval)

    def decibel(self, name: str) -> str:
        """A mean in decibel, as a PSNR: '41.2 dB'; a dash where no image has one."""
        mean = self.means.get(name)
        return wording.MISSING if mean is None else wording.format_decibel(mean.value)

    @property
    def unchanged(self) -> str:
        """'95.3 % [93.1, 96.9]' of predictions."""
        return wording.MISSING if self.agreement is None else self.agreement.both


def separated(better: Outcome, worse: Outcome) -> bool | None:
    """Whether the whole interval of `better` lies above that of `worse`; None when one of them is not recorded."""
    above, below = better.agreement, worse.agreement
    if above is None or below is None or above.low is None or below.high is None:
        return None
    return above.low > below.high


def in_order(conditions: Mapping[str, Outcome], labels: Mapping[str, str]) -> list[str]:
    """Names of conditions in the order of `labels`, the others after them."""
    return list(dict.fromkeys(name for name in (*labels, *conditions) if name in conditions))

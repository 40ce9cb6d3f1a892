"""Evidence that noise is null on images it was not learned from, beside controls of equal norm for every token.

Such images come as `EncoderData`; `evidence` measures one noise on them, `measure_nullness` a learned one and its
controls. Scaling, sums and transfer: `closure`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.controls import gaussian, permuted
from nullspace.metrics.draws import Draws
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.norms import total_norm
from nullspace.metrics.outcomes import outcomes, summarise
from nullspace.model.shapes import Float

Within = Literal["inside", "outside", "undecided"]
CONTROLS: dict[str, Callable[..., Tensor]] = {"permuted": permuted, "gaussian": gaussian}


@dataclass(frozen=True)
class Evidence:
    """What one noise does to n images: one row of a table.

    `norm` is of the whole tensor, `effective_norm` without its shift part, which does nothing in a shift invariant
    model; `relative_norm` and `spread` as in `geometry`, also without it. `metrics` are those of `stability.summarise`,
    with 95 % intervals; `details` say what is special to this row, e.g. a scale or a seed.
    """

    condition: str
    norm: float
    effective_norm: float
    relative_norm: float
    spread: float
    metrics: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.metrics["n"])

    @property
    def agreement(self) -> float:
        """Share of images whose prediction is unchanged."""
        return float(self.metrics["agreement"])

    def within(self, epsilon: float) -> Within:
        """Whether the mean squared change of probabilities is at most `epsilon`: by its 95 % interval, not its mean."""
        if not epsilon > 0:
            raise NullspaceError(f"expected epsilon > 0, got {epsilon}")
        interval = self.metrics["mse_probabilities_ci"]
        if interval is None:
            return "undecided"
        return "inside" if interval[1] <= epsilon else "outside" if interval[0] > epsilon else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """One flat row of plain JSON values."""
        sizes = ("norm", "effective_norm", "relative_norm", "spread")
        return (
            {"condition": self.condition} | {name: getattr(self, name) for name in sizes} | self.metrics | self.details
        )


def evidence(held_out: EncoderData, noise: Float[Tensor, "N D"], condition: str, **details: Any) -> Evidence:
    """Measure noise (N,D) on the held-out images; `details` are kept in the row."""
    unit = held_out.unit
    return Evidence(
        condition=condition,
        norm=total_norm(noise),
        effective_norm=total_norm(unit.effective(noise)),
        relative_norm=unit.relative_norm(noise),
        spread=unit.spread(noise),
        metrics=summarise(outcomes(held_out.clean, held_out.outputs(noise))),
        details=details,
    )


def measure_nullness(
    held_out: EncoderData, noise: Float[Tensor, "N D"], *, draws: int = 1, seed: int = 0
) -> list[Evidence]:
    """Rows for learned noise (N,D) and for `draws` permuted and Gaussian controls each, of equal norm per token.

    Control number i is drawn with seed + i, which its row names. Noise that is all shift has no such control: it is
    compared with nothing, and a single row comes back.
    """
    if draws < 1:
        raise NullspaceError(f"expected draws >= 1, got {draws}; nothing is shown without its controls")
    rows = [evidence(held_out, noise, "learned")]
    if is_null_exactly(held_out, noise):
        return rows
    for name in CONTROLS:
        for number in range(seed, seed + draws):
            rows.append(evidence(held_out, control(held_out, noise, name, number), name, seed=number))
    return rows


def control(held_out: EncoderData, noise: Tensor, name: str, seed: int) -> Tensor:
    """The "permuted" or "gaussian" control of noise (N,D): equal effective norm, token by token."""
    if name not in CONTROLS:
        raise NullspaceError(f"expected a control of {sorted(CONTROLS)}, got {name!r}")
    draws = Draws(seed, name, ["all images"])
    return CONTROLS[name](noise, draws, shift_invariant=held_out.unit.shift_invariant, hold="token")[0]


def is_null_exactly(held_out: EncoderData, noise: Tensor) -> bool:
    """Whether nothing but rounding is left of the noise without its shift part."""
    return total_norm(held_out.unit.effective(noise)) <= 10 * torch.finfo(noise.dtype).eps * total_norm(noise)

"""Is what was learned a subspace, and whose: noise scaled, added, held to other norms, on other images and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.controls import gaussian
from nullspace.metrics.draws import Draws
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.nullness import CONTROLS, Evidence, control, evidence, is_null_exactly, measure_nullness
from nullspace.model.shapes import Float
from nullspace.subspace.spectrum import SensitivitySpectrum

SCALES = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
RELATIVE_NORMS = (0.25, 0.5, 1.0)


def scaling_curve(
    held_out: EncoderData, noise: Float[Tensor, "N D"], *, scales: Sequence[float] = SCALES, seed: int | None = 0
) -> list[Evidence]:
    """Rows for a·v, a in `scales` (in `details`), for v = noise (N,D) and, unless `seed` is None, for its controls."""
    curves = {"learned": noise}
    if seed is not None and not is_null_exactly(held_out, noise):
        curves |= {name: control(held_out, noise, name, seed) for name in CONTROLS}
    return [evidence(held_out, scale * v, name, scale=scale) for name, v in curves.items() for scale in scales]


def additivity(
    held_out: EncoderData, first: Float[Tensor, "N D"], second: Float[Tensor, "N D"], *, seed: int = 0
) -> list[Evidence]:
    """Rows "first", "second", "sum", "sum rescaled" for two learned noises (N,D), and both sums for their controls.

    "sum rescaled" has, token by token, the norm of `first`. The sum of two controls is held to the norm of the learned
    sum in the same way, so that no row wins by being smaller.
    """
    total = first + second
    rows = [evidence(held_out, v, name) for name, v in (("first", first), ("second", second), ("sum", total))]
    rows.append(evidence(held_out, held_out.unit.hold_like(total, first), "sum rescaled"))
    if any(is_null_exactly(held_out, v) for v in (first, second, total)):
        return rows
    for name in CONTROLS:
        both = control(held_out, first, name, seed) + control(held_out, second, name, seed + 1)
        for like, suffix in ((total, "sum"), (first, "sum rescaled")):
            rows.append(evidence(held_out, held_out.unit.hold_like(both, like), f"{name} {suffix}", seed=seed))
    return rows


def transfer(
    held_outs: Mapping[str, EncoderData],
    noises: Mapping[str, Tensor],
    *,
    relative_norm: float | None = None,
    draws: int = 1,
    seed: int = 0,
) -> list[Evidence]:
    """`measure_nullness` of every noise (N,D), e.g. one per seed, on every set of images or model of equal shape.

    The rows' `details` say which ("noise", "on"). With `relative_norm` every token is held to it in the unit of each
    `EncoderData`, as models differ in their token norms; without, the noise is added as it is.
    """
    rows: list[Evidence] = []
    for place, held_out in held_outs.items():
        for name, noise in noises.items():
            v = noise if relative_norm is None else held_out.unit.hold(noise, relative_norm)
            measured = measure_nullness(held_out, v, draws=draws, seed=seed)
            rows += [replace(row, details={"noise": name, "on": place} | row.details) for row in measured]
    return rows


def agreement_by_norm(
    held_out: EncoderData,
    *,
    learned: Tensor | None = None,
    spectrum: SensitivitySpectrum | None = None,
    others: Mapping[str, Tensor] | None = None,
    relative_norms: Sequence[float] = RELATIVE_NORMS,
    seed: int = 0,
) -> list[Evidence]:
    """Rows at rising relative norm, held for every token: Gaussian noise, and what else is given.

    `learned` (N,D) comes with its permuted control, `spectrum` as one sample of its complement, `others` by name. All
    keep their direction at every norm; `details["requested"]` is the relative norm asked for.
    """
    if not all(norm > 0 for norm in relative_norms):
        raise NullspaceError(f"expected relative norms > 0, got {list(relative_norms)}")
    generator = torch.Generator().manual_seed(seed)
    unit = torch.ones(held_out.encoder.noise_shape)
    curves = {"gaussian": gaussian(unit, Draws(seed, "gaussian", ["all images"]))[0]}
    if learned is not None:
        curves |= {"learned": learned, "permuted": control(held_out, learned, "permuted", seed)}
    if spectrum is not None:
        curves["complement"] = spectrum.sample(1.0, held_out.unit.token_norm, generator).noise
    curves |= dict(others or {})
    return [
        evidence(held_out, held_out.unit.hold(v, norm), name, requested=norm)
        for name, v in curves.items()
        for norm in relative_norms
    ]

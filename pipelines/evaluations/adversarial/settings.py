"""What a config says of attacks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.evaluations.settings import EvaluationSettings, once
from pipelines.settings import HOW

Norm = Literal["linf", "l2"]


class AdversarialSettings(EvaluationSettings):
    """The worst case of several attacks within ε, for each image."""

    images: int = Field(default=48, ge=1, description="images that are attacked, drawn by seed")
    norms: tuple[Norm, ...] = Field(default=("linf", "l2"), min_length=1, description="in which changes are small")
    epsilon_linf: tuple[float, ...] = Field(
        default=(1, 4), min_length=1, description="largest changes of a pixel, of 255"
    )
    epsilon_l2: tuple[float, ...] = Field(
        default=(0.5,), min_length=1, description="largest Euclidean lengths of a change, pixels being in [0,1]"
    )
    attacks: tuple[str, ...] = Field(
        default=("fgsm", "pgd", "apgd_ce", "apgd_t", "fab_t", "square"),
        min_length=1,
        description="those that are made, each on the images that the ones before did not break",
    )
    steps: int = Field(
        default=50,
        ge=1,
        description="passes of APGD, and for each target of APGD-T and FAB-T; of Square 20 times that",
    )
    confined: bool = Field(default=True, description="also attacks in the kernel and in the row space alone")
    smallest: bool = Field(default=True, description="also the smallest adversarial change, and the largest invisible")
    batch_images: Annotated[int, HOW] = Field(default=16, ge=1, description="images a worker has in memory at once")
    examples: int = Field(default=3, ge=0, le=64, description="images kept as pictures for the report")

    @field_validator("epsilon_linf", "epsilon_l2")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 0 < value <= 255:
                raise ValueError(f"expected more than 0 and at most 255, got {value:g}")
        return tuple(sorted(once(values)))

    @field_validator("norms")
    @classmethod
    def _norms_once(cls, names: tuple[Norm, ...]) -> tuple[Norm, ...]:
        return once(names)

    @field_validator("attacks")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Not before: it brings torch, and configs are read for their help, too.
        from nullspace.errors import NullspaceError
        from nullspace.robustness.attacks.cascade import checked_attacks

        try:
            return tuple(checked_attacks(once(names)))
        except NullspaceError as error:
            raise ValueError(str(error)) from error

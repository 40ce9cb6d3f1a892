"""The unit of noise at one place of one model: a token's mean norm, and whether the shift part counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from nullspace.metrics.norms import check_token_norm, effective, hold_token_norm, mean_token_norm, spread, token_norms


@dataclass(frozen=True)
class Unit:
    """Mean token norm of some images, and whether the model was measured (`shift_test`) to be shift invariant.

    Raises NullspaceError when the norm cannot serve as a unit. Noise is (N,D), or (n,N,D) one per image.
    """

    token_norm: float
    shift_invariant: bool

    def __post_init__(self) -> None:
        check_token_norm(self.token_norm)

    @classmethod
    def of(cls, tokens: Tensor, *, shift_invariant: bool, token_norm: float | None = None) -> Self:
        """The unit of tokens (n,N,D), or of `token_norm` when it is known."""
        return cls(mean_token_norm(tokens) if token_norm is None else token_norm, shift_invariant)

    def effective(self, noise: Tensor) -> Tensor:
        """The noise that counts: without its shift part where the model is shift invariant."""
        return effective(noise, self.shift_invariant)

    def relative_norm(self, noise: Tensor) -> float:
        """Mean over tokens of |v_i| in this unit, of the noise that counts."""
        return float(token_norms(self.effective(noise)).mean()) / self.token_norm

    def spread(self, noise: Tensor) -> float:
        """`norms.spread` of the noise (N,D) that counts."""
        return spread(self.effective(noise))

    def hold(self, noise: Tensor, relative_norm: float) -> Tensor:
        """The noise that counts, with every token rescaled to `relative_norm`; a zero token stays zero."""
        return hold_token_norm(self.effective(noise), relative_norm * self.token_norm)

    def hold_like(self, noise: Tensor, like: Tensor) -> Tensor:
        """The noise that counts, with every token rescaled to the norm it has in `like`."""
        return hold_token_norm(self.effective(noise), token_norms(self.effective(like)))

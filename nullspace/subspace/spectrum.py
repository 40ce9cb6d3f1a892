"""`SensitivitySpectrum`: the directions of token noise a model is most sensitive to, and noise without them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nullspace.errors import ArtifactError, NullspaceError
from nullspace.files import save_whole
from nullspace.metrics.norms import check_token_norm, effective, hold_token_norm
from nullspace.model.shapes import Float
from nullspace.paths import SAVE_HERE, local_path

FORMAT = "nullspace-sensitivity/1"
ROUNDS = 200  # of the two constraints in turn; with k far below N·D some five reach rounding
TOLERANCE = 1e-6  # share of the noise left in the top directions at which the alternation ends
_TENSORS = ("eigenvalues", "eigenvectors", "residuals", "channels", "tokens")


@dataclass(frozen=True)
class EffectiveDimension:
    """Number of directions that hold `share` of the sensitivity; `lower_bound`: at least so many, not all computed."""

    dimension: int
    share: float
    lower_bound: bool


@dataclass(frozen=True, eq=False)
class ComplementSample:
    """Noise (N,D) of one norm per token, and the share |top part|/|noise| the top directions still hold of it."""

    noise: Float[Tensor, "N D"]
    top_share: float
    rounds: int


@dataclass(frozen=True, eq=False, kw_only=True)
class SensitivitySpectrum:
    """Top eigenpairs of G = mean over n images of JᵀJ, J = d output / d noise (N,D) at `injection`; on the CPU.

    `eigenvalues` (k,) float64 fall; `eigenvectors` (k,N,D) are orthonormal; `residuals` (k,) are |G u - λ u| with the
    exact G, or NaN with iterations=0, where they were not measured. `trace` estimates tr G with the standard error
    `trace_stderr` of the draws (0: no draws), on THESE images; other images are another G, see `captured_elsewhere`.
    `channels` (D,D) and `tokens` (N,N) are G summed over tokens or over channels: mean of Σ JᵀJ blocks, trace tr G.
    """

    eigenvalues: Float[Tensor, " k"]
    eigenvectors: Float[Tensor, "k N D"]
    residuals: Float[Tensor, " k"]
    channels: Float[Tensor, "D D"]
    tokens: Float[Tensor, "N N"]
    trace: float
    trace_stderr: float
    n: int
    output: str
    injection: str
    shift_invariant: bool
    cotangents: int
    iterations: int
    seed: int

    def __post_init__(self) -> None:
        shape, k = tuple(self.eigenvectors.shape), len(self.eigenvalues)
        count, dim = shape[1:] if len(shape) == 3 else (0, 0)
        sizes = {"residuals": (k,), "channels": (dim, dim), "tokens": (count, count)}
        if len(shape) != 3 or shape[0] != k or any(tuple(getattr(self, name).shape) != s for name, s in sizes.items()):
            raise NullspaceError(
                f"expected k eigenvalues, eigenvectors (k,N,D), {', '.join(sizes)} to match, got {k}, {shape}, "
                f"{[tuple(getattr(self, name).shape) for name in sizes]}"
            )

    @property
    def captured(self) -> float:
        """Share of the trace in the computed eigenvalues."""
        return float(self.eigenvalues.sum()) / self.trace if self.trace > 0 else 0.0

    @property
    def captured_stderr(self) -> float:
        """Standard error of `captured` from that of the trace, to first order."""
        return self.captured * self.trace_stderr / self.trace if self.trace > 0 else 0.0

    def effective_dimension(self, share: float = 0.99) -> EffectiveDimension:
        """Fewest directions whose eigenvalues sum to `share` of the trace.

        When the computed ones do not, a lower bound: no later eigenvalue exceeds the last computed one, so at least
        (missing energy) / (last eigenvalue) more are needed.
        """
        if not 0 < share < 1:
            raise NullspaceError(f"expected a share between 0 and 1 such as 0.99, got {share}")
        sums = self.eigenvalues.cumsum(0)
        wanted = share * self.trace
        computed = int((sums < wanted).sum())
        if computed < len(sums):
            return EffectiveDimension(0 if wanted <= 0 else computed + 1, share, lower_bound=False)
        last = float(self.eigenvalues[-1])
        more = math.ceil((wanted - float(sums[-1])) / last) if last > 0 else 1
        return EffectiveDimension(len(sums) + max(1, more), share, lower_bound=True)

    def project(self, noise: Tensor) -> Tensor:
        """Noise (...,N,D) without its part in the computed top directions."""
        expected = tuple(self.eigenvectors.shape[1:])
        if tuple(noise.shape[-2:]) != expected:
            raise NullspaceError(f"expected noise (...,{expected[0]},{expected[1]}), got shape {tuple(noise.shape)}")
        top = self.eigenvectors.flatten(1).to(noise)
        return noise - ((noise.flatten(-2) @ top.T) @ top).view_as(noise)

    def top_share(self, noise: Tensor) -> float:
        """|part in the computed top directions| / |noise|, from 0 to 1; 0 for zero noise."""
        top = self.eigenvectors.flatten(1).double()
        flat = noise.detach().cpu().double().flatten()
        length = float(flat.norm())
        return float((top @ flat).norm()) / length if length > 0 else 0.0

    def hold(self, noise: Tensor, norm: float) -> ComplementSample:
        """Noise nearest to the given (N,D) by turns: out of the top directions, free of shift, every token of `norm`.

        Ends when at most TOLERANCE of it is in the top directions, or after ROUNDS, or when the share no longer falls;
        `top_share` says what was reached. Raises NullspaceError when nothing is left of a token.
        """
        held = self.held(noise.detach().cpu().double(), norm)
        shares = [self.top_share(held)]
        while shares[-1] > TOLERANCE and len(shares) <= ROUNDS:
            held = self.held(self.project(held), norm)
            shares.append(self.top_share(held))
        return ComplementSample(held.float(), self.top_share(held.float()), len(shares) - 1)

    def sample(self, relative_norm: float, token_norm: float, generator: torch.Generator) -> ComplementSample:
        """Random noise outside the top directions, every token of norm relative_norm * token_norm, without shift."""
        check_token_norm(token_norm)
        drawn = torch.randn(self.eigenvectors.shape[1:], generator=generator, dtype=torch.float64)
        return self.hold(drawn, relative_norm * token_norm)

    def held(self, noise: Tensor, norm: float) -> Tensor:
        counted = effective(noise, self.shift_invariant)
        shortest = float(counted.norm(dim=-1).min())
        if not 0 < norm < math.inf or not 0 < shortest < math.inf:
            raise NullspaceError(
                f"expected a positive finite norm for every token, got {norm} for noise whose smallest token norm is "
                f"{shortest}; with {len(self.eigenvalues)} directions taken out nothing may be left of a token"
            )
        return hold_token_norm(counted, norm)

    def save(self, path: str | Path) -> None:
        """Write as safetensors with the numbers as JSON in its header, whole or not at all."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _TENSORS}
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        header = {"format": FORMAT, "metadata": json.dumps(values)}
        save_whole(local_path(path, "spectrum file", SAVE_HERE), tensors, header, "spectrum")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; raises ArtifactError when it is missing, damaged or something else."""
        path = local_path(path, "spectrum file")
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                header = dict(opened.metadata() or {})
                if header.get("format") != FORMAT:
                    raise ArtifactError(f"expected {path} to be a {FORMAT} file, got {header.get('format')!r}")
                tensors = {name: opened.get_tensor(name) for name in _TENSORS}
            return cls(**tensors, **json.loads(header["metadata"]))
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ArtifactError(f"{path} is no readable spectrum ({error}); compute and save it again") from error

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vectors and covariances, as plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _TENSORS}
        measured = bool(torch.isfinite(self.residuals).all())
        return values | {
            "eigenvalues": self.eigenvalues.tolist(),
            "residuals": self.residuals.tolist() if measured else None,
            "captured": self.captured,
            "captured_stderr": self.captured_stderr,
            "effective_dimensions": [asdict(self.effective_dimension(share)) for share in (0.9, 0.99)],
        }

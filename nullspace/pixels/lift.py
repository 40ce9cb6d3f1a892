"""From token noise back to pixels: the change of an image, inside [0,1], whose tokens change by a wanted amount.

Per patch that is min |A d - v| over low <= d <= high with A = W·diag(1/std): bounded least squares. Not every v can be
reached; every answer comes with a residual and a floor, the residual below which no allowed change can get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import scaled_weight
from nullspace.metrics.norms import remove_shift
from nullspace.model.images import check_unit_range
from nullspace.model.shapes import Bool, Float, Int
from nullspace.model.vit import SplitViT
from nullspace.pixels.solvers.box_problem import BoxProblem
from nullspace.pixels.solvers.interior_point import interior_point
from nullspace.pixels.solvers.newton import proximal_newton

CHUNK_ELEMENTS = 1 << 22  # of a (patches,3p^2) tensor; a solver keeps about twenty of them


@dataclass(frozen=True, eq=False)
class PatchMap:
    """A (D,3p^2), float64 on the CPU, with its thin SVD A = U diag(sigma) Q^T cut at the rank.

    With `modulo_shift` A is centred: columns lose their mean, as do the tokens, which is all LayerNorm lets through.
    """

    matrix: Float[Tensor, "D pixels"]
    left: Float[Tensor, "D rank"]  # U
    sigma: Float[Tensor, " rank"]
    right: Float[Tensor, "pixels rank"]  # Q
    modulo_shift: bool

    @property
    def rank(self) -> int:
        """Number of token directions that pixels can move."""
        return len(self.sigma)

    def tokens(self, delta: Float[Tensor, "*P pixels"]) -> Float[Tensor, "*P D"]:
        """Change of tokens (...,D) by a change of patches (...,3p^2), in float64."""
        return _precise(delta) @ self.matrix.T.to(_precise(delta))

    def wanted(self, noise: Float[Tensor, "*P D"]) -> Float[Tensor, "*P D"]:
        """The part of token noise (...,D) to be matched: all of it, or what is left after its shift."""
        return remove_shift(_precise(noise)) if self.modulo_shift else _precise(noise)


@dataclass(frozen=True, eq=False)
class Lift:
    """A change of pixels, float64, with the evidence of how near its tokens come to the noise.

    No allowed change of a patch has a residual below `floor`. `iterations` are Newton and interior point steps.
    """

    delta: Float[Tensor, "*P pixels"]  # inside its box exactly
    residual: Float[Tensor, "*P"]  # |A delta - v| in token units
    relative: Float[Tensor, "*P"]  # residual / |v|; 0 for zero noise
    floor: Float[Tensor, "*P"]
    iterations: Int[Tensor, "*P"]
    tolerance: float
    converged: Bool[Tensor, "*P"]  # whether residual - floor <= tolerance |v|


@dataclass(frozen=True, eq=False)
class SharedLift:
    """One change of pixels for all images: `lift` in its box, and what every image keeps of it after clipping to [0,1].

    `survived` (B,N) is <w,v>/<v,v> and `relative` (B,N) is |w - v|/|v| with w the change of the image's own tokens.
    """

    lift: Lift
    survived: Float[Tensor, "B N"]
    relative: Float[Tensor, "B N"]


def patch_map(model: SplitViT, *, modulo_shift: bool = False, rtol: float | None = None) -> PatchMap:
    """The map of a model's patch embedding; raises CannotCutError when that is not one convolution on patches."""
    return map_of(model.patch_projection.weight, model.preprocessing.std, modulo_shift=modulo_shift, rtol=rtol)


def map_of(
    weight: Tensor, std: Sequence[float] | Tensor, *, modulo_shift: bool = False, rtol: float | None = None
) -> PatchMap:
    """The map A = W·diag(1/std), W being `weight` (D,3,p,p) or (D,3p^2) and `std` the three channels' scale.

    Singular values up to rtol·sigma_max, by default max(D,3p^2)·eps(float64), count as zero. Raises NullspaceError.
    """
    matrix, _ = scaled_weight(weight, std)
    if modulo_shift:
        matrix = matrix - matrix.mean(0, keepdim=True)
    left, sigma, right = _thin_svd(matrix)
    kept = sigma > (max(matrix.shape) * torch.finfo(torch.float64).eps if rtol is None else rtol) * sigma[0]
    return PatchMap(matrix, left[:, kept], sigma[kept], right[:, kept].contiguous(), modulo_shift)


def lift_noise(
    noise: Float[Tensor, "... D"], patches: Float[Tensor, "*P pixels"], mapping: PatchMap, *, tolerance: float = 1e-7
) -> Lift:
    """Changes of patches (...,3p^2) in [0,1], within [0,1], that move their tokens by `noise`, (...,D) or one for all.

    Noise (N,D) is shared by images (B,N,3p^2), each of which gets a change of its own. In exact cases the change is
    small but not the smallest. Equivalent to scipy.optimize.lsq_linear per patch. Raises ImageRangeError on pixels
    outside [0,1] and NullspaceError on shapes that do not fit.
    """
    _check(noise, patches, mapping, tolerance)
    check_unit_range(patches)
    pixels = _precise(patches)
    return _lift(noise, -pixels, 1 - pixels, mapping, tolerance)


def lift_shared(
    noise: Float[Tensor, "N D"],
    patches: Float[Tensor, "B N pixels"],
    mapping: PatchMap,
    *,
    bound: float | None = None,
    tolerance: float = 1e-7,
) -> SharedLift:
    """One change (N,3p^2) for all images (B,N,3p^2) that moves their tokens by `noise` (N,D).

    Without `bound` it is allowed in every image, so little is left where some image is black and another white. With
    it, |change| <= bound, whatever the images are; they clip it. Raises ImageRangeError and NullspaceError.
    """
    _check(noise, patches, mapping, tolerance)
    check_unit_range(patches)
    if noise.ndim != 2 or patches.ndim != 3 or not len(patches):
        raise NullspaceError(
            f"expected noise (N,D) and patches (B,N,3p^2) of at least one image, got {tuple(noise.shape)} and "
            f"{tuple(patches.shape)}"
        )
    if bound is not None and not 0 < bound <= 1:
        raise NullspaceError(f"expected a bound in (0,1], the largest change of a pixel in [0,1], got {bound}")
    pixels = _precise(patches)
    high = (1 - pixels).amin(0) if bound is None else torch.full_like(pixels[0], bound)
    low = (-pixels).amax(0) if bound is None else -high
    lift = _lift(noise, low, high, mapping, tolerance)
    got = mapping.wanted(mapping.tokens((pixels + lift.delta).clamp(0, 1) - pixels))
    wanted = mapping.wanted(noise).to(got).expand_as(got)
    size = torch.linalg.vector_norm(wanted, dim=-1)
    survived = _ratio((got * wanted).sum(-1), size.square())
    return SharedLift(lift, survived, _ratio(torch.linalg.vector_norm(got - wanted, dim=-1), size))


def _lift(noise: Tensor, low: Tensor, high: Tensor, mapping: PatchMap, tolerance: float) -> Lift:
    """Solve per patch in a box (...,3p^2), a chunk of patches at a time."""
    wanted = mapping.wanted(noise).to(low).expand(*low.shape[:-1], -1)
    shape, flat = low.shape[:-1], wanted.reshape(-1, wanted.shape[-1])
    size = torch.linalg.vector_norm(flat, dim=-1)
    chunk = max(1, CHUNK_ELEMENTS // low.shape[-1])
    lows, highs = (part.reshape(-1, part.shape[-1]).split(chunk) for part in (low, high))
    pieces = zip(flat.split(chunk), lows, highs, strict=True)
    parts = [_solve(target, least, most, mapping, tolerance) for target, least, most in pieces]
    delta, floor, steps = (torch.cat(part).reshape((*shape, *part[0].shape[1:])) for part in zip(*parts, strict=True))
    residual = torch.linalg.vector_norm(mapping.tokens(delta) - wanted, dim=-1)
    size = size.reshape(shape)
    converged = residual - floor <= tolerance * size
    return Lift(delta, residual, _ratio(residual, size), floor, steps, tolerance, converged)


def _solve(target: Tensor, low: Tensor, high: Tensor, mapping: PatchMap, tolerance: float) -> tuple[Tensor, ...]:
    """d (P,n), floor (P,) and steps (P,) of flat problems, in singular coordinates scaled to sigma_max = 1."""
    scale = float(mapping.sigma[0]) if mapping.rank else 1.0
    left, sigma, right = (part.to(target) for part in (mapping.left, mapping.sigma / scale, mapping.right))
    inside = target @ left
    beyond = torch.linalg.vector_norm(target - inside @ left.T, dim=-1)  # out of any pixels' reach
    seen = right.abs().amax(-1) > 0 if mapping.rank else torch.zeros_like(low[0], dtype=torch.bool)
    low, high = torch.where(seen, low, 0), torch.where(seen, high, 0)  # a pixel without effect stays as it is
    allowed = tolerance / 2 * torch.linalg.vector_norm(target, dim=-1) / scale
    problem = BoxProblem(right * sigma, sigma, inside / scale, low, high, allowed)
    delta, steps, done = proximal_newton(problem)
    if not bool(done.all()):
        rest = (~done).nonzero().squeeze(-1)
        other, more, _ = interior_point(problem.subset(rest))
        delta[rest], steps[rest] = other, steps[rest] + more
    _, floor, _ = problem.solved(delta)
    return delta, torch.hypot(floor * scale, beyond), steps


def _thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, sigma, Q of A = U diag(sigma) Q^T. A wide A goes through QR of its transpose: several times faster."""
    if matrix.shape[0] >= matrix.shape[1]:
        left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, sigma, right.T
    basis, triangle = torch.linalg.qr(matrix.T)
    left, sigma, right = torch.linalg.svd(triangle.T)
    return left, sigma, basis @ right.T


def _precise(values: Tensor) -> Tensor:
    """float64, on the CPU where the device knows none (MPS)."""
    return (values.detach().cpu() if values.device.type == "mps" else values.detach()).double()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


def _check(noise: Tensor, patches: Tensor, mapping: PatchMap, tolerance: float) -> None:
    dims = (mapping.matrix.shape[0], mapping.matrix.shape[1])
    fits = noise.shape[-1:] == dims[:1] and patches.shape[-1:] == dims[1:] and noise.ndim <= patches.ndim
    if not fits or noise.shape[:-1] != patches.shape[patches.ndim - noise.ndim : -1]:
        raise NullspaceError(
            f"expected noise (...,{dims[0]}) and patches (...,{dims[1]}) of the same tokens, got {tuple(noise.shape)} "
            f"and {tuple(patches.shape)}; SplitViT.patchify makes the patches"
        )
    if not noise.is_floating_point() or not bool(torch.isfinite(noise).all()):
        raise NullspaceError(f"expected finite float noise, got {noise.dtype} with NaN, infinity or integers")
    if not tolerance > 0:
        raise NullspaceError(f"expected tolerance > 0, a share of the noise's norm, got {tolerance}")

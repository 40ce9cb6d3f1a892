"""The exact nullspace of the patch embedding, as one linear map on RGB patches.

A = W·diag(1/std) takes a pixel patch (3p²) to a token (D), W being the convolution's weight; mean and bias cancel in
differences. Adding anything of ker A to a patch leaves its token, and so the whole model, as it was. The three colours
are taken jointly: per channel most of the kernel is missed.

Where the model ignores c·(1,…,1) added to the convolution's output (`exact_kernel` measures it), everything that A maps
to a multiple of (1,…,1) is as invisible. That is ker (I - 11ᵀ/D)A, one dimension more whenever (1,…,1) is in the range
of A: also square patch embeddings of full rank, as of vit_base_patch16, then have a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.row_space import row_space
from nullspace.metrics.draws import Draws
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT


@dataclass(frozen=True, eq=False)
class PatchKernel:
    """ker A, or ker (I - 11ᵀ/D)A with `modulo_shift`, and the evidence for its dimension.

    `rank` counts the `singular_values` above `tolerance` = rtol·sigma_max(A); `gap` is sigma_rank/sigma_(rank+1):
    how clear-cut that count is, None when no singular value (or every one) was left out, infinite when the next is 0.
    `row_space` (3p²,rank) is an orthonormal basis of the complement, `std` (3p²,) the pixel scale of every entry.

    Modulo the shift the singular values are those on the D-1 directions orthogonal to (1,…,1), whose own zero is not
    listed, and tolerance is relative to the larger of their sigma_max and |Aᵀ1|/√D, which is sigma_max(A) within √2.
    """

    patch_dim: int
    embed_dim: int
    rank: int
    nullity: int
    rtol: float
    tolerance: float
    gap: float | None
    singular_values: Float[Tensor, " values"]
    row_space: Float[Tensor, "pixels rank"]
    std: Float[Tensor, " pixels"]
    modulo_shift: bool = False

    @property
    def is_trivial(self) -> bool:
        """Whether the kernel holds nothing but zero."""
        return self.nullity == 0

    def to(self, device: str | torch.device) -> PatchKernel:
        """The same kernel with its tensors on `device`, which spares `project` the copying."""
        moved = {name: getattr(self, name).to(device) for name in ("singular_values", "row_space", "std")}
        return replace(self, **moved)

    def project(self, patches: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch pixels"]:
        """The nearest element of ker A to patches (…,3p²), in pixel units; same shape, dtype and device.

        Equivalent to `patches @ (I - QQᵀ)` with Q the row space, computed in float64 where the device has it.
        """
        self._check_length(patches)
        dtype = patches.dtype if patches.device.type == "mps" else torch.float64  # MPS knows no float64
        rows = self.row_space.to(dtype).to(patches.device)
        exact = patches.to(dtype)
        return (exact - (exact @ rows) @ rows.T).to(patches.dtype)

    def sample(self, count: int, *, rms: float, generator: torch.Generator) -> Float[Tensor, "count pixels"]:
        """`count` random elements of ker A, (count,3p²) float64 in pixel units on the CPU.

        Each has root mean square `rms` in normalised units, that is after division by `std`. Gaussian noise projected,
        so every direction of the kernel is equally likely. Raises NullspaceError when the kernel is trivial.
        """
        self._check_sample(count, rms)
        drawn = torch.randn(count, self.patch_dim, generator=generator, dtype=torch.float64, device=generator.device)
        noise = self.project(drawn.cpu())
        return noise * (rms / (noise / self.std.cpu()).square().mean(dim=-1, keepdim=True).sqrt())

    def drawn(self, count: int, *, rms: float, draws: Draws) -> Float[Tensor, "n count pixels"]:
        """As `sample`, `count` patches for each of n images, (n,count,3p²) float32, on the device of the draws.

        What is left outside the kernel is 1e-7 of the noise, as rounding of pixels leaves too.
        """
        self._check_sample(count, rms)
        noise = draws.normal(count, self.patch_dim)
        rows, std = self.row_space.to(noise), self.std.to(noise)
        flat = noise.view(-1, self.patch_dim)
        if self.nullity > self.rank:  # in place, as are the next: memory costs more than arithmetic here
            flat.addmm_(flat @ rows, rows.T, alpha=-1)
        else:  # little is left of what was drawn, beside which rounding of float32 would show
            flat.copy_(self.project(flat))
        size = (flat.square() @ std.pow(-2) / self.patch_dim).sqrt()
        flat.mul_((rms / size)[:, None])
        return noise

    def basis(self) -> Tensor:
        """An orthonormal basis (3p²,nullity) of ker A, float64; not unique: compare projectors, never bases."""
        if self.rank == 0:
            return torch.eye(self.patch_dim, dtype=torch.float64)
        complete = torch.linalg.qr(self.row_space.cpu(), mode="complete").Q
        return complete[:, self.rank :]

    def _check_sample(self, count: int, rms: float) -> None:
        if self.is_trivial:
            raise NullspaceError(
                f"the patch embedding maps {self.patch_dim} numbers to {self.embed_dim} with rank {self.rank}: its "
                "kernel is zero and nothing can be sampled; choose a model with a smaller embedding or larger patches"
                + (
                    ""
                    if self.modulo_shift
                    else ", or use exact_kernel, which adds the shift where the model ignores it"
                )
            )
        if not (math.isfinite(rms) and rms > 0) or count < 0:
            raise NullspaceError(f"expected rms > 0 and count >= 0, got rms {rms} and count {count}")

    def to_dict(self) -> dict[str, Any]:
        """The evidence as plain JSON values; sigma_min is the smallest sigma counted, an infinite gap is None."""
        counted = self.singular_values[: self.rank]
        return {
            "patch_dim": self.patch_dim,
            "embed_dim": self.embed_dim,
            "rank": self.rank,
            "nullity": self.nullity,
            "modulo_shift": self.modulo_shift,
            "rtol": self.rtol,
            "tolerance": self.tolerance,
            "gap": self.gap if self.gap is not None and math.isfinite(self.gap) else None,
            "sigma_max": float(counted[0]) if self.rank else 0.0,
            "sigma_min": float(counted[-1]) if self.rank else 0.0,
        }

    def _check_length(self, patches: Tensor) -> None:
        if patches.ndim == 0 or patches.shape[-1] != self.patch_dim or not patches.is_floating_point():
            raise NullspaceError(
                f"expected float patches (…,{self.patch_dim}), got {patches.dtype} of shape {tuple(patches.shape)}"
            )


def patch_kernel(model: SplitViT, *, rtol: float | None = None, modulo_shift: bool = False) -> PatchKernel:
    """The kernel of a model's patch embedding; raises CannotCutError when that is not one convolution on patches.

    `modulo_shift` is right only for models measured to ignore shifts: `exact_kernel` measures and decides.
    """
    weight, std = model.patch_projection.weight, model.preprocessing.std
    return kernel_of(weight, std, rtol=rtol, modulo_shift=modulo_shift)


def kernel_of(
    weight: Tensor, std: Sequence[float] | Tensor, *, rtol: float | None = None, modulo_shift: bool = False
) -> PatchKernel:
    """The kernel of A = W·diag(1/std), W being `weight` (D,3,p,p) or (D,3p²) and `std` the three channels' scale.

    In float64 on the CPU; `rtol` defaults to max(D,3p²)·eps(float64). In float32 the usual default calls
    well-conditioned square matrices singular. Equivalent to scipy.linalg.null_space of A, or of (I - 11ᵀ/D)A with
    `modulo_shift`, which returns a basis instead.
    """
    matrix, scale = scaled_weight(weight, std)
    rtol = max(matrix.shape) * torch.finfo(torch.float64).eps if rtol is None else float(rtol)
    if not 0 <= rtol < 1:
        raise NullspaceError(f"expected rtol in [0,1), relative to the largest singular value, got {rtol}")
    seen, removed = across_shift(matrix) if modulo_shift else (matrix, 0.0)
    found = row_space(seen, rtol, at_least=removed)
    return PatchKernel(
        patch_dim=matrix.shape[1],
        embed_dim=matrix.shape[0],
        rank=found.rank,
        nullity=matrix.shape[1] - found.rank,
        rtol=rtol,
        tolerance=found.tolerance,
        gap=found.gap,
        singular_values=found.singular_values,
        row_space=found.basis,
        std=scale,
        modulo_shift=modulo_shift,
    )


def across_shift(matrix: Tensor) -> tuple[Tensor, float]:
    """The columns of `matrix` (D,n) in D-1 orthonormal coordinates orthogonal to (1,…,1), and the norm of the rest.

    A Householder reflection takes (1,…,1)/√D to the first axis, which is dropped: same kernel and singular values as
    the centred matrix (I - 11ᵀ/D)A, without the singular value of the size of rounding that centring leaves behind.
    """
    root = math.sqrt(matrix.shape[0])
    along = matrix.sum(dim=0) / root
    rest = matrix[1:] - (along - matrix[0]) / (root - 1) if len(matrix) > 1 else matrix[:0]
    return rest, float(along.norm())


def scaled_weight(weight: Tensor, std: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
    """A (D,3p²) and the std of every patch entry (3p²,), both float64 on the CPU."""
    matrix = weight.detach().to("cpu", torch.float64)
    if matrix.ndim not in (2, 4) or 0 in matrix.shape or (matrix.ndim == 4 and matrix.shape[1] != 3):
        raise NullspaceError(f"expected a weight (D,3,p,p) or (D,3p²), got shape {tuple(weight.shape)}")
    matrix = matrix.flatten(1)
    channels = torch.as_tensor(std, dtype=torch.float64).cpu()
    if matrix.shape[1] % 3 or channels.shape != (3,):
        raise NullspaceError(
            f"expected three channels in weight and std, got {matrix.shape[1]} and {tuple(channels.shape)}"
        )
    if (
        not bool(torch.isfinite(matrix).all())
        or not bool((channels > 0).all())
        or not bool(torch.isfinite(channels).all())
    ):
        raise NullspaceError(
            f"expected finite weights and std > 0, got std {channels.tolist()}; check the weights file"
        )
    scale = channels.repeat_interleave(matrix.shape[1] // 3)
    return matrix / scale, scale

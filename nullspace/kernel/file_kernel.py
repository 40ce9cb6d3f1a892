"""The exact kernel on the user's own file: what survives the model's resizing and cropping unseen.

B = Qᵀ ∘ patchify ∘ crop ∘ resize takes a change of a file (3,H,W) to the row-space coordinates of every patch; the
model cannot see ker B. B is applied, never formed, and projections solve BBᵀ by conjugate gradients on the side of the
tokens. Pixels outside the crop are free. What stays is PIL's own rounding to 8 bits, which no linear map undoes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.kernel.solvers import Ascent, conjugate_gradients
from nullspace.model.images import check_unit_range, round_to_uint8
from nullspace.model.patches import patchify, unpatchify
from nullspace.model.resize import Resize, resize_of
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT


@dataclass(frozen=True, eq=False)
class FileChange:
    """A change `delta` (B,3,H,W) of files, in pixel units, float64, and how far it is from ker B.

    `residual` (B,) is |B delta|: the norm of what the model sees of it, in its pixels.
    """

    delta: Tensor
    residual: Tensor
    iterations: int
    tolerance: float

    @property
    def converged(self) -> Tensor:
        """Whether each residual (B,) is within the tolerance."""
        return self.residual <= self.tolerance


@dataclass(frozen=True, eq=False)
class NoisedFile:
    """8-bit `images` (B,3,H,W) ready to be saved; `residual` (B,) before and `rounded_residual` (B,) after rounding."""

    images: Tensor
    delta: Tensor
    residual: Tensor
    rounded_residual: Tensor
    converged: Tensor


@dataclass(frozen=True, eq=False)
class FileKernel:
    """ker B for files of one size; changes are (B,3,H,W) in pixel units.

    `grey` keeps changes equal in all three channels: what JPEG does to colours does nothing to them.
    """

    kernel: PatchKernel
    resize: Resize
    patch_size: tuple[int, int]
    grey: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row of what the model is given."""
        (height, width), (ph, pw) = self.resize.input_size, self.patch_size
        return height // ph, width // pw

    @property
    def least_nullity(self) -> int:
        """The number of unknowns less that of equations: a lower bound, reached when B has full row rank."""
        height, width = self.resize.file_size
        return max((1 if self.grey else 3) * height * width - math.prod(self.grid) * self.kernel.rank, 0)

    def seen(self, delta: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N rank"]:
        """B delta: changes (B,3,H,W), if grey their grey part, to row-space coordinates (B,N,rank) of every patch."""
        view = self.resize.apply(delta.mean(dim=1, keepdim=True) if self.grey else delta)
        return patchify(view.expand(-1, 3, -1, -1), self.patch_size) @ self.kernel.row_space.to(delta)

    def adjoint(self, coordinates: Float[Tensor, "B N rank"]) -> Float[Tensor, "B 3 H W"]:
        """Bᵀ: coordinates (B,N,rank) to changes of the file (B,3,H,W)."""
        patches = coordinates @ self.kernel.row_space.to(coordinates).T
        view = unpatchify(patches, self.patch_size, self.grid)
        return self.resize.adjoint(view.mean(dim=1, keepdim=True) if self.grey else view).expand(-1, 3, -1, -1)

    def _allowed(self, delta: Tensor) -> Tensor:
        """The nearest change (B,3,H,W) that is grey, if it has to be."""
        return delta.mean(dim=1, keepdim=True).expand_as(delta) if self.grey else delta

    def project(
        self, delta: Float[Tensor, "B 3 H W"], *, iterations: int = 1000, tolerance: float = 1e-8
    ) -> FileChange:
        """The nearest element of ker B: delta - Bᵀ(BBᵀ)⁻¹B delta, until |B answer| <= tolerance or the iterations end.

        Conjugate gradients on BBᵀ, whose residual is B(answer): the evidence costs nothing. Enlarging makes BBᵀ
        singular, but B delta is in its range, so they converge to the same projection.
        """
        exact = self._checked(delta, iterations, tolerance)
        multiplier, used = self._solve(self.seen(exact), iterations, tolerance)
        answer = exact - self.adjoint(multiplier)
        return FileChange(answer, _norms(self.seen(answer)), used, tolerance)

    def sample(self, count: int, *, rms: float, generator: torch.Generator) -> FileChange:
        """Gaussian noise projected to ker B, of root mean square `rms` in pixel units over the whole file."""
        if not (math.isfinite(rms) and rms > 0) or count < 0:
            raise NullspaceError(f"expected rms > 0 and count >= 0, got rms {rms} and count {count}")
        shape = (count, 3, *self.resize.file_size)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
        found = self.project(drawn)
        sizes = found.delta.square().mean(dim=(1, 2, 3)).sqrt()
        if bool((sizes <= 1e-9).any()):
            raise NullspaceError("the model sees every change of a file of this size: nothing can be sampled")
        factor = rms / sizes
        return FileChange(
            factor[:, None, None, None] * found.delta, factor * found.residual, found.iterations, found.tolerance
        )

    def project_to_box(
        self,
        images: Float[Tensor, "B 3 H W"],
        delta: Float[Tensor, "B 3 H W"],
        *,
        room: Float[Tensor, "H W"] | None = None,
        iterations: int = 500,
        tolerance: float = 1e-3,
    ) -> FileChange:
        """The nearest change in ker B with images + change in [0,1], as `pixels.project_to_box` is for one patch.

        `room` (H,W) in [0,1] is the share of the way to black and to white that each pixel may go, by default all.
        Accelerated gradient ascent on the dual with restarts per image, from the multipliers of the plain projection;
        every answer is inside the box, the best residual is kept. Raises ImageRangeError when images leave [0,1].
        """
        wanted = self._checked(delta, iterations, tolerance)
        if images.shape != delta.shape:
            raise NullspaceError(
                f"expected images and delta of one shape, got {tuple(images.shape)} and {tuple(delta.shape)}"
            )
        check_unit_range(images)
        x = images.to(wanted)
        low, high = -x, 1 - x
        if room is not None:
            check_unit_range(room)
            low, high = room.to(x) * low, room.to(x) * high
        if self.grey:
            low, high = low.amax(1, keepdim=True).expand_as(low), high.amin(1, keepdim=True).expand_as(high)
        return self._ascend(wanted, low, high, iterations, tolerance)

    def noised(self, images: Tensor, delta: Tensor, *, iterations: int = 500, tolerance: float = 1e-3) -> NoisedFile:
        """8-bit files (B,3,H,W) uint8 with the nearest invisible change to `delta` inside the pixel range, rounded."""
        if images.dtype != torch.uint8:
            raise ImageRangeError(f"expected 8-bit images (uint8), got {images.dtype}; round_to_uint8 makes them")
        clean = images.double() / 255
        found = self.project_to_box(clean, delta, iterations=iterations, tolerance=tolerance)
        rounded = round_to_uint8((clean + found.delta).clamp(0, 1))
        after = _norms(self.seen(rounded.double() / 255 - clean))
        return NoisedFile(rounded, found.delta, found.residual, after, found.converged)

    def _solve(self, right: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, int]:
        """Multipliers y (B,N,rank) with |BBᵀy - right| <= tolerance per image."""
        return conjugate_gradients(
            lambda multiplier: self.seen(self.adjoint(multiplier)),
            right,
            product=_products,
            enough=lambda energy, _: bool((energy.sqrt() <= tolerance / 2).all()),
            iterations=iterations,
        )

    def _ascend(self, wanted: Tensor, low: Tensor, high: Tensor, iterations: int, tolerance: float) -> FileChange:
        step = 1 / self.resize.norm**2
        ascent = Ascent.start(self._solve(self.seen(wanted), 200, tolerance)[0])
        best = torch.zeros_like(wanted)
        residual = torch.full_like(wanted[:, 0, 0, 0], torch.inf)
        used = 0
        while used < iterations and bool((residual > tolerance).any()):
            used += 1
            change = torch.clamp(wanted - self.adjoint(ascent.ahead), low, high)
            gradient = self.seen(change)
            size = _norms(gradient)
            better = size < residual
            best, residual = torch.where(better[:, None, None, None], change, best), torch.minimum(size, residual)
            ascent = ascent.climbed(gradient, step)
        return FileChange(best, residual, used, tolerance)

    def _checked(self, delta: Tensor, iterations: int, tolerance: float) -> Tensor:
        expected = (3, *self.resize.file_size)
        if delta.ndim != 4 or tuple(delta.shape[1:]) != expected or not delta.is_floating_point():
            raise NullspaceError(
                f"expected a float delta (B,{','.join(map(str, expected))}), got {delta.dtype} of shape "
                f"{tuple(delta.shape)}; a FileKernel is for files of one size"
            )
        if not bool(torch.isfinite(delta).all()):
            raise NullspaceError("expected a finite delta, got NaN or infinity")
        if iterations < 1 or tolerance < 0:
            raise NullspaceError(f"expected iterations >= 1 and tolerance >= 0, got {iterations} and {tolerance}")
        return self._allowed(delta.detach().double())


def kernel_on_file(model: SplitViT, file_size: tuple[int, int], *, kernel: PatchKernel | None = None) -> FileKernel:
    """The kernel of a model on files of `file_size` (H,W), through its own resize and centre crop.

    `kernel` is that of its patches, by default `patch_kernel(model)`; one modulo the shift serves as well. Raises
    NullspaceError for preprocessing that is not linear, CannotCutError for stems that are not one convolution.
    """
    resize = resize_of(model.preprocessing, file_size)
    return FileKernel(kernel or patch_kernel(model), resize, model.patch_size)


def _products(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2), keepdim=True)


def _norms(coordinates: Tensor) -> Tensor:
    return _products(coordinates, coordinates)[:, 0, 0].sqrt()

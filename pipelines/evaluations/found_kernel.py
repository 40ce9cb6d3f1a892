"""The kernel that the stage of that name found, made again by a worker."""

from __future__ import annotations

from typing import Any

from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.model.vit import SplitViT
from pipelines.evaluations.base import Asked


def found_kernel(asked: Asked[Any], model: SplitViT) -> PatchKernel:
    """The kernel of the patch embedding, also a trivial one."""
    exact = asked.inputs["kernel"].result
    return patch_kernel(model, rtol=exact["rtol"], modulo_shift=exact["modulo_shift"])


def kernel_of(asked: Asked[Any], model: SplitViT) -> PatchKernel | None:
    """The kernel of the patch embedding; None when it is trivial."""
    return found_kernel(asked, model) if asked.inputs["kernel"].result["nullity"] else None

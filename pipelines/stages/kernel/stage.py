"""Kernel: the exact nullspace of the patch embedding, and whether the encoder ignores shifts of its tokens.

Where the shift was measured to be ignored, what the embedding maps to a shift belongs to the kernel: `modulo_shift`.
That is decided here, on these images, and every later stage takes the kernel as it was found here.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow as pa

from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.kernel.shift import exact_kernel, shift_test
from nullspace.model.vit import SplitViT
from pipelines.data.shards import first_images
from pipelines.engine.stage import Context, Stage
from pipelines.files import write_json, write_table
from pipelines.settings import deciding
from pipelines.stages.branch import Branch
from pipelines.stages.kernel.settings import KernelSettings

VERSION = 3
_SHIFT_IMAGES = 4


def kernel_stage(branch: Branch, settings: KernelSettings) -> Stage:
    """The stage of one model."""

    def make(context: Context) -> dict[str, Any]:
        return kernel(context, model=branch.facts.spec.load("cpu"), rtol=settings.rtol)

    headlines = {"kernel.nullity": "nullity", "kernel.rank": "rank"}
    return branch.stage("kernel", VERSION, deciding(settings), {}, make, headlines=headlines)


def kernel(context: Context, *, model: SplitViT, rtol: float | None) -> dict[str, Any]:
    """Rank, nullity and spectrum of the patch embedding (float64, on the CPU), and the measured shift invariance.

    `plain_nullity` is that of A itself: what leaves the token as it is, also where the model ignores shifts.
    """
    images = first_images(context.inputs["ingest"].folder, _SHIFT_IMAGES)
    found = exact_kernel(model, images, rtol=rtol)
    plain = patch_kernel(model, rtol=rtol) if found.modulo_shift else found
    shift = shift_test(model, images)
    if shift.in_doubt:  # a model that hardly reacts at all: in float32 its rounding looks like an answer to the shift
        shift = shift_test(copy.deepcopy(model).double(), images)
    result = {**found.to_dict(), "plain_nullity": plain.nullity, "shift": shift.to_dict()}
    write_table(context.folder / "spectrum.parquet", spectrum_table(found))
    write_json(context.folder / "kernel.json", result)
    return result


def spectrum_table(found: PatchKernel) -> pa.Table:
    sigma = found.singular_values.numpy()
    return pa.table({"index": np.arange(1, len(sigma) + 1), "sigma": sigma})

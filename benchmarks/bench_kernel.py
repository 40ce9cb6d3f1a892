"""Kernel of a patch embedding against scipy.linalg.null_space, both in float64, each the best of some repetitions.

The shapes of vit_base_patch32 (768×3072), vit_small_patch16 and deit_tiny, with random weights of three kinds: as
initialised (condition 3), with the condition of trained deit_tiny (400), and singular. Nullities are checked to agree.
CPU time is what a machine shared with others tells more truly. `|A·N|` is the largest entry of A times our projector,
`projectors` the largest difference to scipy's, `sigma` that of the singular values, relative to the largest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from common import environment, report

from nullspace.kernel.patch_kernel import kernel_of

SHAPES = {"vit_base_patch32": (768, 3072), "vit_small_patch16": (384, 768), "deit_tiny_patch16": (192, 768)}
FLAT = (1.0, 1.0, 1.0)  # std: scipy is given the very same matrix


def weights(kind: str, shape: tuple[int, int]) -> torch.Tensor:
    """A matrix (D,3p²) "as initialised", of "condition 400", or "singular" by one row."""
    generator = torch.Generator().manual_seed(0)
    drawn = 0.02 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "condition 400":
        left, _, right = torch.linalg.svd(drawn, full_matrices=False)
        return left * torch.logspace(0, -np.log10(400), shape[0], dtype=torch.float64) @ right
    if kind == "singular":
        drawn[-1] = drawn[:-1].sum(dim=0)
    return drawn


def best_of(call: Callable[[], Any], repetitions: int) -> tuple[float, float, Any]:
    """Shortest wall time and shortest CPU time in seconds, and the last answer."""
    wall, cpu, answer = [], [], None
    for _ in range(repetitions):
        began, busy = time.perf_counter(), time.process_time()
        answer = call()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
    return min(wall), min(cpu), answer


def compare(name: str, kind: str, repetitions: int) -> dict[str, Any]:
    matrix = weights(kind, SHAPES[name])
    ours, ours_cpu, kernel = best_of(lambda: kernel_of(matrix, FLAT), repetitions)
    theirs, theirs_cpu, basis = best_of(lambda: scipy.linalg.null_space(matrix.numpy()), max(repetitions // 2, 1))
    sigma = torch.from_numpy(scipy.linalg.svdvals(matrix.numpy()))
    null = torch.from_numpy(basis)
    projector = kernel.project(torch.eye(matrix.shape[1], dtype=torch.float64))
    if kernel.nullity != basis.shape[1]:
        raise SystemExit(f"{name}, {kind}: nullity {kernel.nullity} here, {basis.shape[1]} by scipy")
    return {
        "shape": f"{name} {matrix.shape[0]}×{matrix.shape[1]}",
        "weights": kind,
        "nullity": kernel.nullity,
        "ours s": ours,
        "scipy s": theirs,
        "ratio": theirs / ours,
        "ratio of CPU time": theirs_cpu / ours_cpu,
        "|A·N|": float((matrix @ projector).abs().max()),
        "projectors": float((projector - null @ null.T).abs().max()),
        "sigma": float((kernel.singular_values - sigma).abs().max() / sigma[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=6, help="of ours; scipy gets half as many")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    options = parser.parse_args()
    rows = [
        compare(name, kind, options.repetitions)
        for name in SHAPES
        for kind in ("as initialised", "condition 400", "singular")
    ]
    report("kernel of the patch embedding", rows)
    if options.json:
        saved = {"rows": rows, "environment": environment()}
        options.json.write_text(json.dumps(saved, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

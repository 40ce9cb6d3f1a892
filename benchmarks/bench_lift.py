"""Token noise to pixels against scipy's lsq_linear, and 8-bit rounding against nearest rounding.

    OMP_NUM_THREADS=1 python benchmarks/bench_lift.py --assets FOLDER --json lift.json

Times are CPU seconds, so that a busy machine matters little; one thread makes them comparable. scipy solves
`--reference` of the patches and its time is scaled to all: it takes 10 s or more for each. Ours holds the
decomposition of A. Residuals are |A d - v| / |v|, the worst of the patches that scipy solved too. Rounding needs the
assets (weights of deit_tiny, real images); it is skipped without.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import torch
from common import asset_images, deit_tiny, environment, report
from torch import Tensor

from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.pixels.lift import lift_noise, map_of, patch_map
from nullspace.pixels.projection import project_to_box
from nullspace.pixels.rounding import round_patches, rounding_plan

PATCHES, SIZE, EMBED = 49, 3072, 768  # vit_base_patch32 at 224x224
FEW = 8  # patches whose noise is out of reach: seconds each
HALF = (0.5, 0.5, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--reference", type=int, default=2, help="patches that scipy solves")
    parser.add_argument("--images", type=int, default=8, help="images to round")
    parser.add_argument("--json", type=Path, help="file for the rows and the environment")
    args = parser.parse_args()
    tables = {"Lifting patches of a p32 model": lifting(args.reference)}
    if args.assets and Path(args.assets).is_dir():
        tables["8-bit rounding of kernel noise, deit_tiny"] = rounding(Path(args.assets), args.images)
    for name, rows in tables.items():
        report(name, rows)
    if args.json:
        args.json.write_text(json.dumps({"environment": environment(), "tables": tables}, indent=2) + "\n")


def lifting(reference: int) -> list[dict[str, Any]]:
    patches = (uniform(PATCHES, SIZE) * 1.5 - 0.25).clamp(0, 1)  # a third of all pixels saturated
    change = (patches + 0.1 * gaussian(PATCHES, SIZE)).clamp(0, 1) - patches
    rows = []
    for name, weight in {"random": gaussian(EMBED, SIZE, seed=1), "timm init": timm_initialised()}.items():
        matrix = map_of(weight, HALF).matrix
        for kind, noise in {
            "reachable": change @ matrix.T,
            "out of reach": 8 * float((change @ matrix.T).std()) * gaussian(PATCHES, EMBED, seed=2),
        }.items():
            count = PATCHES if kind == "reachable" else FEW
            rows.append({"A": name, "noise": kind, **compare(weight, noise[:count], patches[:count], reference)})
    return rows


def compare(weight: Tensor, noise: Tensor, patches: Tensor, reference: int) -> dict[str, Any]:
    start = time.process_time()
    lift = lift_noise(noise, patches, map_of(weight, HALF))
    ours = time.process_time() - start
    matrix = map_of(weight, HALF).matrix
    start = time.process_time()
    theirs = [scipy_residual(matrix, noise[index], patches[index]) for index in range(reference)]
    scaled = (time.process_time() - start) / reference * len(patches)
    return {
        "patches": len(patches),
        "ours s": ours,
        "scipy s (scaled)": scaled,
        "ratio": scaled / ours,
        "our residual": float(lift.relative[:reference].max()),
        "scipy residual": max(theirs),
        "converged": f"{int(lift.converged.sum())}/{len(patches)}",
    }


def scipy_residual(matrix: Tensor, noise: Tensor, patch: Tensor) -> float:
    low, high = (-patch).numpy() - 1e-12, (1 - patch).numpy() + 1e-12
    found = scipy.optimize.lsq_linear(matrix.numpy(), noise.numpy(), bounds=(low, high))
    return float(np.linalg.norm(found.fun)) / float(noise.norm())


def rounding(assets: Path, count: int) -> list[dict[str, Any]]:
    model = deit_tiny(assets)
    mapping, images = patch_map(model), asset_images(assets, model, count)
    patches = model.patchify(images.double())
    noise = 0.1 * gaussian(*patches.shape)
    delta = project_to_box(patches, noise, patch_kernel(model), iterations=2000, tolerance=1e-9).delta
    hidden = (patches + delta).clamp(0, 1)
    clean, token_norm = logits(model, images), float(model.tokens(images).norm(dim=-1).mean())
    start = time.process_time()
    nearest = round_to_uint8(hidden)
    seconds = (time.process_time() - start) / count
    rows = []
    for max_move, damping in ((1.0, 1e-3), (2.0, 1e-4)):
        plan, start = rounding_plan(mapping, damping=damping), time.process_time()
        found = round_patches(hidden, plan, max_move=max_move)
        used = (time.process_time() - start) / count
        if not rows:
            rows.append(row("nearest", seconds, found.nearest_residual, nearest, model, clean, token_norm, 0.5))
        kind = f"in the kernel, {max_move:g} level(s)"
        rows.append(row(kind, used, found.residual, found.pixels, model, clean, token_norm, found.largest_move))
    return rows


def row(
    name: str, seconds: float, residual: Tensor, pixels: Tensor, model: Any, clean: Tensor, norm: float, move: float
) -> dict[str, Any]:
    change = (logits(model, from_uint8(model.unpatchify(pixels))) - clean).abs().max()
    rms = float(residual.square().mean().sqrt())
    return {
        "rounding": name,
        "s/image": seconds,
        "token residual (rms)": rms,
        "of the token norm": rms / norm,
        "largest change of a logit": float(change),
        "largest move": move,
    }


@torch.no_grad()
def logits(model: Any, images: Tensor) -> Tensor:
    return model(images.float())


def timm_initialised() -> Tensor:
    import timm

    torch.manual_seed(0)
    model: Any = timm.create_model("vit_base_patch32_224", depth=1, num_classes=0)
    return model.patch_embed.proj.weight.detach()


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


if __name__ == "__main__":
    main()

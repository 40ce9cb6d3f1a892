"""Hidden messages on kernels of many kinds: random ones, a trained one, and ones that read what photos have.

    OMP_NUM_THREADS=1 python benchmarks/bench_hidden_kernels.py --assets FOLDER --images 100 --json kernels.json

Kernels made of photos see the first 200 images by name, messages are written into those after them. "Before" is a fixed
number of sites for every kernel, and readings added up as normal numbers instead of by likelihood; both are read in the
same run. Every reader knows length and strength. Bits are as read, before correction; whole messages after it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import deit_tiny, environment, report, with_assets
from PIL import Image
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.metrics.outcomes import largest_probability_change, wilson_interval
from nullspace.model.images import from_uint8
from nullspace.model.vit import SplitViT
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.payload import carriers, lattice, reading
from nullspace.watermark.payload.detection import Detection, bit_scores, log_p_value
from nullspace.watermark.payload.hidden_mark import HiddenMark, per_patch

PSNR, BYTES, BATCH, LEARNED_FROM = 42, 8, 20, 200
AFTER = ("none", "jpeg_90", "jpeg_75", "jpeg_50")
STD = torch.tensor((0.229, 0.224, 0.225), dtype=torch.float64)[:, None, None]


class Before(HiddenMark):
    """Four sites per 256 pixels on every kernel, coarse patterns alone, one rounding error, no likelihoods."""

    _rounding = lattice.ROUNDING  # pyright: ignore[reportAssignmentType]  fixed, where the present one is measured

    def __init__(self, model: SplitViT, key: str) -> None:
        super().__init__(model, key)
        with patch.object(carriers, "FINEST", 7):
            count = per_patch(model.patch_size, model.num_patches)
            chosen = carriers.choose_carriers(self.kernel, model.patch_size, count=count)
        self.lattice = replace(self.lattice, carriers=chosen)

    def detect(self, images: Tensor, **known: Any) -> list[Detection]:
        with patch.object(reading, "explained", _as_normal), patch.object(reading, "evidence", _by_squares):
            return super().detect(images, **known)


def _as_normal(scores: Tensor, kinds: Tensor, room: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    return scores * room, torch.zeros_like(scores)


def _by_squares(scores: Tensor, ones: Tensor, zeros: Tensor, room: Tensor, bits: int) -> Tensor:
    return log_p_value(bit_scores(scores, bits, room))


def kernels(assets: Path) -> dict[str, Callable[[], SplitViT]]:
    def random(name: str, seed: int = 0, **args: Any) -> Callable[[], SplitViT]:
        return lambda: SplitViT.load(name, weights="random", seed=seed, model_args=args)

    def trained() -> Tensor:
        return deit_tiny(assets).patch_projection.weight.detach().clone()

    def read_by_small(weight: Callable[[], Tensor]) -> Callable[[], SplitViT]:
        return lambda: with_weight(random("vit_small_patch16_224")(), weight())

    return {
        "deit_tiny, trained": lambda: deit_tiny(assets),
        "deit_tiny, transposed": lambda: with_weight(deit_tiny(assets), trained().transpose(2, 3)),
        "deit_tiny twice, 2nd moved": read_by_small(lambda: torch.cat([trained(), trained().roll((4, 6), (2, 3))])),
        "vit_small, photos' 384 first PCs": read_by_small(lambda: principal(assets, 384)),
        "vit_small, coloured as photos": read_by_small(lambda: coloured(assets, 384)),
        "deit_tiny, luma as photos": lambda: with_weight(deit_tiny(assets), coloured(assets, 192, luma=True)),
        "deit_tiny, luma as photos squared": lambda: with_weight(
            deit_tiny(assets), coloured(assets, 192, luma=True, power=2)
        ),
        "vit_tiny, random": random("vit_tiny_patch16_224", 1),
        "vit_small, random": random("vit_small_patch16_224"),
        "vit_small patch 32, random": random("vit_small_patch32_224"),
        "vit_base patch 32, random": random("vit_base_patch32_224"),
        "dinov2 small patch 14, random": random("vit_small_patch14_dinov2", img_size=224),
    }


@torch.no_grad()
def with_weight(model: SplitViT, weight: Tensor) -> SplitViT:
    """The model reading patches by other filters, as large as its own."""
    own = model.patch_projection.weight
    own.copy_((weight * (own.norm() / weight.norm())).reshape(own.shape))
    return model


def covariance(assets: Path, colour: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of what 16×16 patches of the first photos hold, in colours or in one."""
    found = []
    for path in files(assets)[:LEARNED_FROM]:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).double() / 255
        pixels = pixels if colour is None else (pixels * colour[:, None, None]).sum(0, keepdim=True)
        found.append(pixels.unfold(1, 16, 8).unfold(2, 16, 8).permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1))
    patches = torch.cat(found)
    patches -= patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    return values.clamp_min(1e-12), vectors


def principal(assets: Path, count: int) -> Tensor:
    return covariance(assets)[1].T.flip(0)[:count].reshape(count, 3, 16, 16) * STD


def coloured(assets: Path, count: int, *, luma: bool = False, power: float = 1) -> Tensor:
    """Random filters that read each component of photos as strongly as these have it, to the power given."""
    colour = torch.tensor(carriers.LUMA, dtype=torch.float64) if luma else None
    values, vectors = covariance(assets, colour)
    drawn = torch.randn(count, 768, generator=torch.Generator().manual_seed(0)).double()[:, : len(values)]
    filters = drawn @ (vectors * values ** (power / 2)) @ vectors.T
    if colour is None:
        return filters.reshape(count, 3, 16, 16) * STD
    return filters.reshape(count, 1, 16, 16) * colour[:, None, None] * STD


def files(assets: Path) -> list[Path]:
    return sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--images", type=int, default=400, help="of those after the first 200 by name")
    parser.add_argument("--kernels", nargs="+", default=[""], help="beginnings of names")
    parser.add_argument("--json", type=Path, help="file for the rows and the environment")
    args = with_assets(parser)
    torch.set_num_threads(1)
    rows = []
    for name, made in kernels(args.assets).items():
        if name.startswith(tuple(args.kernels)):
            rows.append({"kernel": name, **measured(made(), args.assets, args.images)})
            print(json.dumps(rows[-1]), flush=True)
    report(f"hidden messages of {8 * BYTES} bits at {PSNR} dB: bits / messages", rows)
    if args.json:
        args.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n")


def measured(model: SplitViT, assets: Path, count: int) -> dict[str, Any]:
    transform = model.preprocessing.transform()
    paths = files(assets)[LEARNED_FROM : LEARNED_FROM + count]
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    drawn = np.random.default_rng(0).integers(0, 256, (len(images), BYTES), np.uint8)
    messages = [each.tobytes() for each in drawn]
    before, mark = Before(model, "benchmark of kernels"), HiddenMark(model, "benchmark of kernels")
    row: dict[str, Any] = {
        "nullity": mark.kernel.nullity,
        "sites": f"{before.lattice.carriers.count} → {mark.lattice.carriers.count}",
        "room": mark.room(BYTES),
    }
    embedded(mark, images[:2], messages[:2])
    for name, each, conditions in (("before, ", before, ("jpeg_50",)), ("", mark, AFTER)):
        start = time.process_time()
        marked = embedded(each, images, messages)
        row[f"{name}embed ms"] = round(1e3 * (time.process_time() - start) / len(images), 1)
        quality = -10 * (from_uint8(marked) - from_uint8(images)).square().mean(dim=(1, 2, 3)).log10()
        row[f"{name}PSNR mean, least"] = f"{float(quality.mean()):.2f}, {float(quality.min()):.2f}"
        start, reading = 0.0, 0.0
        numbers = [str(number) for number in range(len(marked))]
        for condition in conditions:
            arrived = distorted(marked, distortion_named(condition), Draws(0, condition, numbers))
            start = time.process_time()
            found = each.detect(arrived, length=BYTES, psnr=PSNR)
            reading += time.process_time() - start
            bits = np.mean([right(one.as_read, sent) for one, sent in zip(found, messages, strict=True)])
            read = sum(one.message == sent for one, sent in zip(found, messages, strict=True))
            low, high = wilson_interval(read, len(found))
            row[name + condition] = (
                f"{100 * bits:.1f} / {100 * read / len(found):.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            )
        row[f"{name}detect ms"] = round(1e3 * reading / len(images) / len(conditions), 1)
    same, change = seen(model, images, marked)
    return row | {"n": len(images), "agreement": same, "max change of p": f"{change:.1e}"}


def embedded(mark: HiddenMark, images: Tensor, messages: list[bytes]) -> Tensor:
    parts = range(0, len(images), BATCH)
    return torch.cat([mark.embed(images[at : at + BATCH], messages[at : at + BATCH], psnr=PSNR).images for at in parts])


@torch.no_grad()
def seen(model: SplitViT, images: Tensor, marked: Tensor) -> tuple[float, float]:
    """Share of predictions that agree, and the largest change of a probability."""
    logits = [torch.cat([model(from_uint8(part)) for part in each.split(BATCH)]) for each in (images, marked)]
    same = (logits[0].argmax(1) == logits[1].argmax(1)).double().mean()
    return float(same), float(largest_probability_change(logits[0], logits[1]).max())


def right(read: bytes, sent: bytes) -> float:
    ours, theirs = (np.unpackbits(np.frombuffer(each, np.uint8)) for each in (read, sent))
    return float((ours == theirs).mean())


if __name__ == "__main__":
    main()

"""What 8 bits and JPEG leave of "the model does not see it": kernel noise in the pixel box, and a visible mark.

    python benchmarks/bench_eight_bits.py --assets FOLDER --images 600 --jpeg 120 --out results/eight_bits

Every picture is rounded twice, to the nearest levels and within the kernel (`EightBits`), and both are compared with
the clean picture. Times are CPU seconds of the rounding alone. Moved is the certificate, |A δ| of a patch over the mean
token norm of its image: root mean square, and the worst of all patches. The mark is laid on in the whole kernel and in
the part that JPEG's colour subsampling leaves in it (`jpeg_kernel`), and both pictures, clean and marked, are saved as
JPEG. Contrast is the root mean square change under the mark of brightness and of colour, in the PNG. Without the assets
only models with random weights are measured, on random pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import asset_images, deit_tiny, environment
from torch import Tensor

from nullspace.eight_bits import EightBits
from nullspace.kernel import PatchKernel
from nullspace.pixels import from_uint8, project_to_box, round_to_uint8
from nullspace.shift import exact_kernel
from nullspace.stability import largest_probability_change, wilson_interval
from nullspace.vit import SplitViT
from nullspace.watermark.attacks import attack_named, attacked
from nullspace.watermark.carrier import LUMA
from nullspace.watermark.certify import token_changes
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.visible import embed
from pipelines.config import WatermarkSettings
from pipelines.marks import JPEG_QUALITIES, make_mark

RANDOM = ("vit_tiny_patch16_224:1", "vit_small_patch32_224:0")  # model and seed of its weights
RMS, TOGETHER = 0.5, 4


class Row:
    """Outcomes of one way to save one change, over all pictures."""

    def __init__(self) -> None:
        self.same = self.n = 0
        self.logit = self.probability = self.worst = self.squares = self.seconds = self.luma = self.colour = 0.0

    def add(self, model: SplitViT, eight: EightBits, before: Tensor, after: Tensor, seconds: float = 0.0) -> None:
        logits = [model(each) for each in (before, after)]
        moved = token_changes(model, eight.plan.mapping, before, after)
        self.n += len(before)
        self.same += int((logits[0].argmax(1) == logits[1].argmax(1)).sum())
        self.logit = max(self.logit, float((logits[1] - logits[0]).abs().max()))
        self.probability = max(self.probability, float(largest_probability_change(*logits).max()))
        self.worst = max(self.worst, float(moved.max()))
        self.squares += float(moved.square().mean(dim=1).sum())
        self.seconds += seconds

    def see(self, change: Tensor, alpha: Tensor) -> None:
        """How much there is to see where the mark lies."""
        luma = (change * torch.tensor(LUMA)[:, None, None]).sum(dim=1)
        weight = alpha / alpha.sum()
        self.luma += float((luma.square() * weight).sum())
        self.colour += float(((change - luma[:, None]).square().mean(dim=1) * weight).sum())

    def to_dict(self) -> dict[str, Any]:
        low, high = wilson_interval(self.same, self.n)
        said = {
            "n": self.n,
            "unchanged": f"{100 * self.same / self.n:.1f} %",
            "95 %": f"[{100 * low:.1f}, {100 * high:.1f}]",
            "max |Δlogit|": self.logit,
            "max |Δp|": self.probability,
            "moved": (self.squares / self.n) ** 0.5,
            "worst patch": self.worst,
        }
        if self.seconds:
            said["ms/image"] = 1000 * self.seconds / self.n
        if self.luma:
            said |= {"contrast": (self.luma / self.n) ** 0.5, "of colour": (self.colour / self.n) ** 0.5}
        return said


@torch.no_grad()
def measured(model: SplitViT, batches: Iterator[Tensor], jpeg: int) -> Iterator[tuple[dict[str, Row], dict[str, Row]]]:
    """Rows of 8-bit pictures and of JPEGs so far, after every batch; JPEG for the first `jpeg` pictures."""
    kernel = exact_kernel(model)
    eight, within = EightBits.of(model, kernel), jpeg_kernel(model, kernel)
    mark, alpha = make_mark(WatermarkSettings(), model.preprocessing.input_size)
    saved, compressed, done = defaultdict[str, Row](Row), defaultdict[str, Row](Row), 0
    generator = torch.Generator().manual_seed(0)
    for images in batches:
        both(saved, "kernel noise", model, eight, images, noised(model, kernel, images, generator))
        for name, part in {"JPEG's part": within, "whole kernel": kernel}.items():
            if name == "whole kernel" and done >= jpeg:
                continue
            made = embed(model, kernel, images, mark, alpha, within=part).marked
            if name == "JPEG's part":
                both(saved, "visible mark", model, eight, images, made)
            if done < jpeg:
                png = eight.save(images, made)
                for quality in JPEG_QUALITIES:
                    row = compressed[f"JPEG {quality}, mark in the {name}"]
                    row.add(model, eight, as_jpeg(round_to_uint8(images), quality), as_jpeg(png, quality))
                    row.see(from_uint8(png) - images, alpha)
        done += len(images)
        yield saved, compressed


def noised(model: SplitViT, kernel: PatchKernel, images: Tensor, generator: torch.Generator) -> Tensor:
    patches = model.patchify(images)
    drawn = kernel.sample(len(images) * model.num_patches, rms=RMS, generator=generator).view(patches.shape)
    return model.unpatchify(patches + project_to_box(patches, drawn.float(), kernel, iterations=2000).delta).clamp(0, 1)


def both(rows: dict[str, Row], name: str, model: SplitViT, eight: EightBits, images: Tensor, changed: Tensor) -> None:
    for how, save in {
        "nearest": lambda: round_to_uint8(changed),
        "in the kernel": lambda: eight.save(images, changed),
    }.items():
        began = time.process_time()
        pixels = save()
        seconds = time.process_time() - began
        rows[f"{name}, {how}"].add(model, eight, images, from_uint8(pixels), seconds)


def as_jpeg(pixels: Tensor, quality: int) -> Tensor:
    return from_uint8(attacked(pixels, attack_named(f"jpeg_{quality}"), [0] * len(pixels)))


def asset_batches(assets: Path, model: SplitViT, count: int) -> Iterator[Tensor]:
    for start in range(0, count, TOGETHER):
        images = asset_images(assets, model, min(TOGETHER, count - start), start=start)
        yield from_uint8(round_to_uint8(images))


def random_batches(model: SplitViT, count: int) -> Iterator[Tensor]:
    """Smooth pictures that reach black and white."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(0, count, TOGETHER):
        coarse = 1.4 * torch.rand(TOGETHER, 3, 9, 9, generator=generator) - 0.2
        images = torch.nn.functional.interpolate(coarse, size=model.preprocessing.input_size, mode="bicubic")
        yield from_uint8(round_to_uint8(images.clamp(0, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--images", type=int, default=600, help="for deit_tiny; other models get --jpeg")
    parser.add_argument("--jpeg", type=int, default=120, help="pictures that are saved as JPEG too")
    parser.add_argument(
        "--models", nargs="*", default=["deit_tiny", *RANDOM], help="deit_tiny, and NAME:SEED of random weights"
    )
    parser.add_argument(
        "--out", type=Path, help="file name without ending: tables as .md, rows and environment as .json"
    )
    given = parser.parse_args()
    assets = Path(given.assets) if given.assets and Path(given.assets).is_dir() else None
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in given.models:
        if name == "deit_tiny" and assets is None:
            print("skipped deit_tiny: no real weights and images; give --assets FOLDER or set NULLSPACE_ASSETS")
            continue
        known, _, seed = name.partition(":")
        model = (
            deit_tiny(assets) if assets and not seed else SplitViT.load(known, weights="random", seed=int(seed or 0))
        )
        count = given.images if not seed else given.jpeg
        batches = asset_batches(assets, model, count) if assets else random_batches(model, count)
        for saved, compressed in measured(model, batches, given.jpeg):
            tables[f"{name}: saved in 8 bits"] = [{"change": key, **row.to_dict()} for key, row in saved.items()]
            tables[f"{name}: marked against clean, both as JPEG"] = [
                {"after": key, **row.to_dict()} for key, row in sorted(compressed.items(), reverse=True)
            ]
            if given.out:
                write(given.out, tables)
    print(markdown(tables))


def write(out: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """After every batch: a run cut short has its tables too, with the n it reached."""
    out.with_suffix(".json").write_text(json.dumps({"environment": environment(), "tables": tables}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(tables))


def markdown(tables: dict[str, list[dict[str, Any]]]) -> str:
    parts = ["_" + ", ".join(f"{key} {value}" for key, value in environment().items()) + "_\n"]
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        parts += [f"\n### {name}\n", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(shown(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(parts) + "\n"


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

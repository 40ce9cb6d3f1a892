"""What 8 bits and JPEG leave of "the model does not see it": kernel noise in the pixel box, and a visible mark.

    python benchmarks/bench_eight_bits.py --assets FOLDER --images 600 --jpeg 120 --out results/eight_bits
    python benchmarks/bench_eight_bits.py --merge a.json b.json --out results/eight_bits

The second adds up what several processes measured on pictures of their own (`--start`).

Every picture is rounded twice, to the nearest levels and within the kernel (`EightBits`), and both are compared with
the clean picture. Times are CPU seconds of the rounding alone. Moved is the certificate, |A δ| of a patch over the mean
token norm of its image: root mean square, and the worst of all patches. The mark is laid on in the whole kernel and in
the part that JPEG's colour subsampling leaves in it (`jpeg_kernel`), and both pictures, clean and marked, are saved as
JPEG. Contrast is the root mean square change under the mark of brightness and of colour, in the PNG. `digits` has the
weights and the 600 held-out pictures of the demo; without the assets models with random weights get random pictures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from common import asset_images, deit_tiny
from eight_bits_files import asset_files, on_files
from eight_bits_rows import Row, markdown, merged, write
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.visible.visible import embed
from pipelines.digits import MODEL_NAME, data
from pipelines.engine.models import load_model
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES, make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

MODELS = ("deit_tiny", "digits", "vit_tiny_patch16_224:1", "vit_small_patch32_224:0")
RMS, TOGETHER = 0.5, 4


@torch.no_grad()
def measured(model: SplitViT, batches: Iterator[Tensor], jpeg: int) -> Iterator[tuple[dict[str, Row], dict[str, Row]]]:
    """Rows of 8-bit pictures and of JPEGs so far, after every batch; JPEG for the first `jpeg` pictures."""
    kernel = exact_kernel(model)
    eight, within = EightBits.of(model, kernel), jpeg_kernel(model, kernel)
    mark, alpha = make_mark(VisibleWatermarkSettings(), model.preprocessing.input_size)
    saved, compressed, done = defaultdict[str, Row](Row), defaultdict[str, Row](Row), 0
    generator = torch.Generator().manual_seed(0)
    for images in batches:
        clean = (images, model(images))
        files = {quality: as_jpeg(round_to_uint8(images), quality) for quality in JPEG_QUALITIES} if done < jpeg else {}
        compared = {quality: (each, model(each)) for quality, each in files.items()}
        both(saved, "kernel noise", model, eight, clean, noised(model, kernel, images, generator))
        for name, part in {"JPEG's part": within, "the whole kernel": kernel}.items():
            if name == "the whole kernel" and done >= jpeg:
                continue
            made = embed(model, kernel, images, mark, alpha, within=part).marked
            if name == "JPEG's part":
                both(saved, "visible mark", model, eight, clean, made)
            png = eight.save(images, made) if compared else images
            for quality, before in compared.items():
                row = compressed[f"JPEG {quality}, mark in {name}"]
                row.add(model, eight, before, as_jpeg(png, quality))
                row.see(from_uint8(png) - images, alpha)
        done += len(images)
        yield saved, compressed


def noised(model: SplitViT, kernel: PatchKernel, images: Tensor, generator: torch.Generator) -> Tensor:
    patches = model.patchify(images)
    drawn = kernel.sample(len(images) * model.num_patches, rms=RMS, generator=generator).view(patches.shape)
    return model.unpatchify(patches + project_to_box(patches, drawn.float(), kernel, iterations=2000).delta).clamp(0, 1)


def both(
    rows: dict[str, Row], name: str, model: SplitViT, eight: EightBits, clean: tuple[Tensor, Tensor], changed: Tensor
) -> None:
    images = clean[0]
    for how, save in {
        "nearest": lambda: round_to_uint8(changed),
        "in the kernel": lambda: eight.save(images, changed),
    }.items():
        began = time.process_time()
        pixels = save()
        seconds = time.process_time() - began
        rows[f"{name}, {how}"].add(model, eight, clean, from_uint8(pixels), seconds)


def as_jpeg(pixels: Tensor, quality: int) -> Tensor:
    return from_uint8(distorted(pixels, distortion_named(f"jpeg_{quality}")))


def asset_batches(assets: Path, model: SplitViT, count: int, first: int) -> Iterator[Tensor]:
    for start in range(0, count, TOGETHER):
        images = asset_images(assets, model, min(TOGETHER, count - start), start=first + start)
        yield from_uint8(round_to_uint8(images))


def random_batches(model: SplitViT, count: int) -> Iterator[Tensor]:
    """Smooth pictures that reach black and white."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(0, count, TOGETHER):
        coarse = 1.4 * torch.rand(TOGETHER, 3, 9, 9, generator=generator) - 0.2
        images = torch.nn.functional.interpolate(coarse, size=model.preprocessing.input_size, mode="bicubic")
        yield from_uint8(round_to_uint8(images.clamp(0, 1)))


def digit_batches(count: int, first: int) -> Iterator[Tensor]:
    pixels = data.load("held_out").images[first : first + count].transpose(0, 3, 1, 2)
    yield from from_uint8(torch.from_numpy(pixels.copy())).split(50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--images", type=int, default=600, help="for each model")
    parser.add_argument("--start", type=int, default=0, help="first picture")
    parser.add_argument("--jpeg", type=int, default=120, help="pictures that are saved as JPEG too")
    parser.add_argument("--files", type=int, default=12, help="photos that are made files of several sizes")
    parser.add_argument("--models", nargs="*", default=MODELS, help="deit_tiny, digits, or NAME:SEED of random weights")
    parser.add_argument("--merge", nargs="*", type=Path, help="files of rows to add up, instead of measuring")
    parser.add_argument("--out", type=Path, help="file without ending: tables as .md, rows and environment as .json")
    given = parser.parse_args()
    rows: dict[str, dict[str, Row]] = {}
    if given.merge:
        rows = merged(given.merge)
    else:
        measure(given, rows)
    print(markdown(rows))
    if given.out:
        write(given.out, rows)


def measure(given: argparse.Namespace, rows: dict[str, dict[str, Row]]) -> None:
    """Into `rows`, by table and name; written after every batch, so that a run cut short has its tables too."""
    assets = Path(given.assets) if given.assets and Path(given.assets).is_dir() else None
    for name in given.models:
        known, _, seed = name.partition(":")
        if name == "deit_tiny" and assets is None:
            print("skipped deit_tiny: no real weights and images; give --assets FOLDER or set NULLSPACE_ASSETS")
            continue
        if name == "digits":
            model = load_model(MODEL_NAME, "pretrained", seed=0, device="cpu")
        elif name == "deit_tiny" and assets is not None:
            model = deit_tiny(assets)
        else:
            model = SplitViT.load(known, weights="random", seed=int(seed))
        if name == "digits":
            batches = digit_batches(given.images, given.start)
        elif assets is not None:
            batches = asset_batches(assets, model, given.images, given.start)
        else:
            batches = random_batches(model, given.images)
        for saved, compressed in measured(model, batches, given.jpeg):
            rows[f"{name}: saved in 8 bits"] = saved
            rows[f"{name}: marked against clean, both as JPEG"] = compressed
            if given.out:
                write(given.out, rows)
        if assets is None or name == "digits":
            continue
        for kind, found in on_files(model, asset_files(assets, given.files)):
            rows[f"{name}: {kind} marks on files"] = dict(found)
            if given.out:
                write(given.out, rows)


if __name__ == "__main__":
    main()

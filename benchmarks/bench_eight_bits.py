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
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import asset_images, deit_tiny, environment
from PIL import Image, ImageOps
from torch import Tensor

from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.outcomes import largest_probability_change, wilson_interval
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.resize import Resize
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.eight_bits_on_file import save_on_file
from nullspace.pixels.projection import project_to_box
from nullspace.watermark.certify import token_changes
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.luma import luma
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.on_file import embed_on_file
from nullspace.watermark.visible.on_file import embed_visible_on_file
from nullspace.watermark.visible.visible import embed
from pipelines.commands.pictures.files import Picture
from pipelines.digits import MODEL_NAME, data
from pipelines.engine.models import load_model
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES, make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

MODELS = ("deit_tiny", "digits", "vit_tiny_patch16_224:1", "vit_small_patch32_224:0")
RMS, TOGETHER = 0.5, 4
FILES = ((500, 375), (256, 256), (256, 248), (224, 224), (150, 150))  # width and height
Way = Callable[[EightBits, Resize, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]


class Row:
    """Outcomes of one way to save one change, over all pictures."""

    def __init__(self) -> None:
        self.same = self.n = 0
        self.logit = self.probability = self.worst = self.squares = self.seconds = self.luma = self.colour = 0.0

    def add(
        self, model: SplitViT, eight: EightBits, clean: tuple[Tensor, Tensor], after: Tensor, seconds: float = 0.0
    ) -> None:
        """`clean` are the pictures compared with, and their logits."""
        before, logits = clean[0], (clean[1], model(after))
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
        bright = luma(change)
        weight = alpha / alpha.sum()
        self.luma += float((bright.square() * weight).sum())
        self.colour += float(((change - bright[:, None]).square().mean(dim=1) * weight).sum())

    def plus(self, other: dict[str, float]) -> None:
        """Take in the `vars` of another row."""
        for name, value in other.items():
            largest = name in ("logit", "probability", "worst")
            setattr(self, name, max(getattr(self, name), value) if largest else getattr(self, name) + value)

    def to_dict(self) -> dict[str, Any]:
        low, high = wilson_interval(self.same, self.n)
        said = {
            "n": self.n,
            "unchanged": f"{100 * self.same / self.n:.1f} %",
            "95 %": f"[{100 * low:.1f}, {100 * high:.1f}]",
            "largest Δlogit": self.logit,
            "largest Δp": self.probability,
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


@torch.no_grad()
def on_files(
    model: SplitViT, pictures: Iterator[Tensor], ways: dict[str, Way] | None = None
) -> Iterator[tuple[str, dict[str, Row]]]:
    """Name and rows of a table, so far, after every file (3,H,W) uint8 of the sizes in `FILES`."""
    kernel, mark = exact_kernel(model), HiddenMark(model, "a key of the benchmark")
    tables = {"visible": EightBits.of(model, kernel), "hidden": EightBits.of(model, mark.kernel)}
    rows = defaultdict[str, dict[str, Row]](lambda: defaultdict(Row))
    for count, file in enumerate(pictures):
        size = (file.shape[1], file.shape[2])
        picture, name = Picture(file, None, file, None), f"{size[1]}x{size[0]}"

        def seen(pixels: Tensor, picture: Picture = picture) -> Tensor:
            return picture.with_pixels(pixels).seen(model.preprocessing)

        before = from_uint8(seen(file))[None]
        through, (colour, alpha) = (
            kernel_on_file(model, size, kernel=kernel),
            make_mark(VisibleWatermarkSettings(), size),
        )
        floats: dict[str, Tensor] = {}

        def visible(_: FileKernel, changed: Tensor, floats: dict[str, Tensor] = floats) -> Tensor:
            floats["visible"] = changed
            return round_to_uint8(changed)

        def hidden(_: Resize, changed: Tensor, floats: dict[str, Tensor] = floats) -> Tensor:
            floats.setdefault("hidden", changed)
            return round_to_uint8(changed)

        embed_visible_on_file(model, file, colour, alpha, iterations=50, kernel=through, save=visible)
        embed_on_file(mark, file, seen(file), f"{count:08d}".encode(), save=hidden)
        for kind, changed in floats.items():
            for way, save in (ways or WAYS).items():
                began = time.process_time()
                pixels = save(tables[kind], through.resize, file, changed, seen)
                seconds = time.process_time() - began
                after = from_uint8(seen(pixels))[None]
                rows[kind][f"{name}, {way}"].add(model, tables[kind], (before, model(before)), after, seconds)
        yield from rows.items()


def nearest(_: EightBits, __: Resize, ___: Tensor, changed: Tensor, ____: Callable[[Tensor], Tensor]) -> Tensor:
    return round_to_uint8(changed)


WAYS: dict[str, Way] = {"nearest": nearest, "on the file": save_on_file}


def asset_files(assets: Path, count: int) -> Iterator[Tensor]:
    """`count` photos of the folder, each in the sizes of `FILES`, scaled and cropped to them."""
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    for index in order[:count]:
        with Image.open(files[index]) as image:
            photo = image.convert("RGB")
        for size in FILES:
            pixels = np.array(ImageOps.fit(photo, size, Image.Resampling.LANCZOS))
            yield torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


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
        for file in given.merge:
            for table, found in json.loads(file.read_text())["rows"].items():
                for name, sums in found.items():
                    rows.setdefault(table, {}).setdefault(name, Row()).plus(sums)
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


def write(out: Path, rows: dict[str, dict[str, Row]]) -> None:
    sums = {table: {name: vars(row) for name, row in found.items()} for table, found in rows.items()}
    out.with_suffix(".json").write_text(json.dumps({"environment": environment(), "rows": sums}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows))


def markdown(rows: dict[str, dict[str, Row]]) -> str:
    parts = ["_" + ", ".join(f"{key} {value}" for key, value in environment().items()) + "_"]
    for table, found in rows.items():
        if not found:
            continue
        said = [{"": name, **row.to_dict()} for name, row in sorted(found.items(), reverse="JPEG" in table)]
        columns = list(said[0])
        parts += [f"\n### {table}\n", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(shown(row.get(column, "")) for column in columns) + " |" for row in said]
    return "\n".join(parts) + "\n"


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

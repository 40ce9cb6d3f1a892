"""Marks on files of several sizes, for `bench_eight_bits.py`: rounded to the nearest levels, and on the file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from eight_bits_rows import Row
from PIL import Image, ImageOps
from torch import Tensor

from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.resize import Resize
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.eight_bits_on_file import save_on_file
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.on_file import embed_on_file
from nullspace.watermark.visible.on_file import embed_visible_on_file
from pipelines.commands.pictures.files import Picture
from pipelines.evaluations.visible_watermark.mark import make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

FILES = ((500, 375), (256, 256), (256, 248), (224, 224), (150, 150))  # width and height
Way = Callable[[EightBits, Resize, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]


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

"""Hidden messages beside invisible-watermark (dwtDct, dwtDctSvd): who still reads them after what, at which price.

    OMP_NUM_THREADS=1 python benchmarks/watermark_peers.py --assets FOLDER --images 600 --json peers.json

Every image carries a random message of its own, and every reader knows its length and the strength it was written
with. invisible-watermark refuses images of fewer pixels than 256×256; that is a check of its front door alone, so the
embedders behind it are called, which work at any size and read the same bits. Their strength is the step `scales[1]`;
for equal quality it is searched for so that the mean PSNR of a few images is as asked. The floor is theirs: they put
two of the wavelet's bands back in each other's place, an error that stays however small the step. Bits of ours are as
read, before correction; whole messages after it. Times are CPU seconds of one thread, so that a busy machine matters
little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import asset_images, deit_tiny, environment, report, with_assets
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.payload.hidden_mark import HiddenMark

PSNR, BYTES, BATCH, NATIVE = 42, 8, 60, 36.0
CALIBRATED_ON = 24  # images on which a peer's step is searched for
DEFAULT = (
    "none jpeg_90 jpeg_75 jpeg_50 webp_75 noise_0.01 noise_0.02 noise_0.05 blur_0.5 brightness_1.1 contrast_1.2 "
    "saturation_0 erase_0.1 crop_0.9 resize_0.7 rotate_2 shift_3 jpeg_75+brightness_1.1"
)
Embed = Callable[[Tensor, list[bytes]], Tensor]
Read = Callable[[Tensor], list[tuple[bytes, bytes | None]]]  # bits as read, and the message where one was made out


@dataclass(frozen=True)
class Method:
    name: str
    length: int  # bytes
    embed: Embed
    read: Read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--distortions", nargs="+", default=DEFAULT.split(), help="names such as jpeg_75 or crop_0.9")
    parser.add_argument("--methods", nargs="+", default=["ours", "dwtDct"], help="beginnings of names")
    parser.add_argument("--json", type=Path, help="file for the rows and the environment")
    args = with_assets(parser)
    torch.set_num_threads(1)
    model = deit_tiny(args.assets)
    images = round_to_uint8(asset_images(args.assets, model, args.images))
    results = [measured(each, model, images, args.distortions) for each in methods(model, images, tuple(args.methods))]
    tables = {
        f"quality, and what {model.name} sees, {len(images)} images": [row for row, _ in results],
        "bit accuracy / whole messages": [
            {"after": name, **{row["method"]: after[name] for row, after in results}} for name in args.distortions
        ],
    }
    for name, rows in tables.items():
        report(name, rows)
    if args.json:
        args.json.write_text(json.dumps({"environment": environment(), "tables": tables}, indent=2) + "\n")


def methods(model: SplitViT, images: Tensor, wanted: tuple[str, ...]) -> list[Method]:
    """Those whose names begin with one of `wanted`."""
    found = [ours(HiddenMark(model, "benchmark of peers"))] if "ours".startswith(wanted) else []
    try:
        # By name: they are no dependency, and type checkers need not find them.
        cv2, svd, dct = (import_module(name) for name in ("cv2", "imwatermark.dwtDctSvd", "imwatermark.maxDct"))
    except ImportError:
        print("invisible-watermark is not installed: only our rows; pip install invisible-watermark==0.2.0")
        return found
    cv2.setNumThreads(1)
    for name, embedder in (("dwtDct", dct.EmbedMaxDct), ("dwtDctSvd", svd.EmbedDwtDctSvd)):
        for length, step in ((BYTES, NATIVE), (BYTES, None), (BYTES // 2, None)):
            title = f"{name} {8 * length} bits, {'own strength' if step else f'{PSNR} dB'}"
            if not title.startswith(wanted):
                continue
            used = calibrated(embedder, images[:CALIBRATED_ON], length) if step is None else step
            found.append(peer(f"{title}, step {used:.3g}", embedder, length, used))
    return found


def ours(mark: HiddenMark) -> Method:
    def embed(images: Tensor, messages: list[bytes]) -> Tensor:
        return mark.embed(images, messages, psnr=PSNR).images

    def read(images: Tensor) -> list[tuple[bytes, bytes | None]]:
        return [(each.as_read, each.message) for each in mark.detect(images, length=BYTES, psnr=PSNR)]

    return Method(f"ours {8 * BYTES} bits, {PSNR} dB", BYTES, embed, read)


def peer(name: str, embedder: Any, length: int, step: float) -> Method:
    settings = dict(wmLen=8 * length, scales=[0, step, 0], block=4)

    def embed(images: Tensor, messages: list[bytes]) -> Tensor:
        marked = [
            embedder(list(bits(each)), **settings).encode(bgr(image))
            for image, each in zip(images, messages, strict=True)
        ]
        return torch.stack([torch.from_numpy(each[..., ::-1].copy()).permute(2, 0, 1) for each in marked])

    def read(images: Tensor) -> list[tuple[bytes, bytes | None]]:
        found = [np.packbits(embedder([], **settings).decode(bgr(image))).tobytes() for image in images]
        return [(each, each) for each in found]

    return Method(name, length, embed, read)


def calibrated(embedder: Any, images: Tensor, length: int) -> float:
    """The step at which the mean PSNR is as asked, by bisection: quality falls with the step."""
    messages, low, high = random_messages(len(images), length), 4.0, NATIVE
    for _ in range(7):
        step = (low + high) / 2
        quality = float(psnr(images, peer("", embedder, length, step).embed(images, messages)).mean())
        low, high = (step, high) if quality > PSNR else (low, step)
    return (low + high) / 2


def measured(method: Method, model: SplitViT, images: Tensor, distortions: list[str]) -> tuple[dict[str, Any], dict]:
    messages = random_messages(len(images), method.length)
    start = time.process_time()
    marked = torch.cat(
        [method.embed(images[at : at + BATCH], messages[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    )
    embedding = time.process_time() - start
    after, reading = {}, 0.0
    for name in distortions:
        right, whole = [], []
        for at in range(0, len(images), BATCH):
            part = marked[at : at + BATCH]
            numbers = [str(at + number) for number in range(len(part))]
            arrived = distorted(part, distortion_named(name), Draws(0, name, numbers))
            start = time.process_time()
            found = method.read(arrived)
            reading += time.process_time() - start
            for (read, message), sent in zip(found, messages[at : at + BATCH], strict=True):
                right.append(float(np.mean(bits(read) == bits(sent))))
                whole.append(message == sent)
        after[name] = f"{100 * np.mean(right):.1f} / {100 * np.mean(whole):.1f}"
    row = {
        "method": method.name,
        "PSNR mean": f"{float(psnr(images, marked).mean()):.2f}",
        "PSNR least": f"{float(psnr(images, marked).min()):.2f}",
        "embed ms": f"{1e3 * embedding / len(images):.1f}",
        "detect ms": f"{1e3 * reading / len(images) / len(distortions):.1f}",
        **seen(model, images, marked),
    }
    return row, after


def seen(model: SplitViT, images: Tensor, marked: Tensor) -> dict[str, float]:
    """What changes in the model's output."""
    before, after = probabilities(model, images), probabilities(model, marked)
    change = (after - before).abs()
    return {
        "agreement": float((before.argmax(1) == after.argmax(1)).double().mean()),
        "largest change of p": float(change.max()),
        "mean of the largest": float(change.max(1).values.mean()),
        "mean change of p": float(change.mean()),
    }


@torch.no_grad()
def probabilities(model: SplitViT, images: Tensor) -> Tensor:
    return torch.cat([model(from_uint8(part)).softmax(-1) for part in images.split(BATCH)])


def psnr(images: Tensor, marked: Tensor) -> Tensor:
    """(B,) in dB."""
    return -10 * (from_uint8(marked) - from_uint8(images)).square().mean(dim=(1, 2, 3)).log10()


def random_messages(count: int, length: int) -> list[bytes]:
    return [each.tobytes() for each in np.random.default_rng(0).integers(0, 256, (count, length), np.uint8)]


def bits(message: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(message, np.uint8))


def bgr(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])


if __name__ == "__main__":
    main()

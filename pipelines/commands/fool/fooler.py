"""Makes a fooled picture of a file, writes it, reads it back, and asks the model of what is in the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nullspace.fooling.metamer import metamers
from nullspace.kernel.file_kernel import kernel_on_file
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8
from nullspace.model.resize import resize_of
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from pipelines.commands.fool.looks import Look
from pipelines.commands.pictures.files import Picture, read_picture, write_picture
from pipelines.commands.pictures.marks import saved_in_kernel
from pipelines.engine.class_names import ClassNames
from pipelines.errors import ConfigError
from pipelines.evaluations.image_quality import psnr, ssim

TOP = 3
_EXACT_ITERATIONS = 200
PANELS = ("image", "look", "fooled", "permuted")


@dataclass(frozen=True)
class Request:
    """How near: the depth that is matched, the largest change of a pixel of the look (of 255), passes at most."""

    at: str = "logits"
    epsilon: float | None = None
    steps: int = 40
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Fooler:
    """Makes fooled pictures for one model."""

    model: SplitViT
    names: ClassNames

    @cached_property
    def kernel(self) -> PatchKernel:
        """The exact kernel, modulo the shift where the model is measured to ignore it."""
        return exact_kernel(self.model)

    def near(self, source: Path, look: Look, target: Path, request: Request) -> dict[str, Any]:
        """A picture near the look, of its size, whose state in the model is that of `source`."""
        image, base = read_picture(source), look.picture
        resize = resize_of(self.model.preprocessing, _size(base))
        opaque, pixels = base.free, from_uint8(base.pixels)

        def seen(pictures: Tensor) -> Tensor:
            may = pictures if opaque is None else torch.where(opaque, pictures, pixels)
            return resize.model_pixels(may)

        limit = None if request.epsilon is None else request.epsilon / 255
        found = metamers(
            self.model, self._input(image), pixels[None],
            at=request.at, epsilon=limit, steps=request.steps, seen=seen,
        )  # fmt: skip
        written = write_picture(target, base.with_pixels(found.saved[0].cpu()), quality=100)
        facts = {"method": "near", "at": request.at, "epsilon": request.epsilon, "passes": int(found.passes[0])}
        return self._row(source, look, (image, base, base, read_picture(written)), written, request.seed) | facts

    def exact(self, source: Path, look: Look, target: Path, seed: int) -> dict[str, Any]:
        """The picture nearest to the look, of the size of `source`, that the model cannot distinguish from `source`."""
        image = read_picture(source)
        if self.kernel.is_trivial:
            raise ConfigError(
                f"--exact: the patch embedding of {self.model.name} sees every change of a patch; leave --exact out"
            )
        shown = image.with_pixels(look.fitted(_size(image)))
        through = kernel_on_file(self.model, _size(image), kernel=self.kernel)
        clean, wanted = (from_uint8(each.pixels).double() for each in (image, shown))
        room = (through.resize.read if image.free is None else through.resize.read & image.free).double()
        change = through.project_to_box(
            clean[None], (wanted - clean)[None], room=room, iterations=_EXACT_ITERATIONS
        ).delta[0]
        rounding = EightBits.of(self.model, self.kernel)
        pixels = saved_in_kernel(self.model, rounding, image, through.resize, (clean + change).clamp(0, 1))
        written = write_picture(target, image.with_pixels(pixels), quality=100)
        row = self._row(source, look, (image, shown, image, read_picture(written)), written, seed)
        return row | {"method": "exact", "at": "tokens", "epsilon": None, "passes": 0}

    def _input(self, picture: Picture) -> Tensor:
        return from_uint8(picture.seen(self.model.preprocessing))[None]

    @torch.no_grad()
    def _row(
        self, source: Path, look: Look, pictures: tuple[Picture, Picture, Picture, Picture], written: Path, seed: int
    ) -> dict[str, Any]:
        """What the model says of the image, the look, the file that was written, and its change in random order.

        `pictures`: the image, the look, the one that was changed, and the file read back.
        """
        image, shown, base, fooled = pictures
        panels = (image, shown, fooled, _permuted(base, fooled, seed))
        inputs = torch.cat([self._input(each) for each in panels])
        logits = self.model(inputs).double().cpu()
        change = (fooled.pixels.int() - base.pixels.int()).abs()
        return {
            "file": str(source),
            "like": look.name,
            "output": str(written),
            "size": [fooled.pixels.shape[2], fooled.pixels.shape[1]],
            "model": self.model.name,
            **{name: self._top(each) for name, each in zip(PANELS, logits, strict=True)},
            "taken_for": _taken_for(logits),
            "relative_logits": _relative(logits),
            "largest_change": int(change.max()),
            **self._quality(inputs),
            "notes": [*image.notes, *base.notes_for(written.suffix.lower())] if base is not image else
            base.notes_for(written.suffix.lower()),
        }  # fmt: skip

    @staticmethod
    def _quality(inputs: Tensor) -> dict[str, float | None]:
        """PSNR and SSIM of the fooled picture to image and look, as the model is given them."""
        fooled = inputs[2:3]
        measured = {
            f"{measure.__name__}_to_{name}": float(measure(fooled, other[None]))
            for name, other in zip(PANELS[:2], inputs[:2], strict=True)
            for measure in (psnr, ssim)
        }
        return {name: value if value < float("inf") else None for name, value in measured.items()}

    def _top(self, logits: Tensor) -> list[dict[str, Any]]:
        likeliest = logits.softmax(-1).topk(min(TOP, len(logits)))
        return [
            {"class": int(number), "name": self.names[int(number)], "probability": float(probability)}
            for probability, number in zip(likeliest.values, likeliest.indices, strict=True)
        ]


def _size(picture: Picture) -> tuple[int, int]:
    return picture.pixels.shape[1], picture.pixels.shape[2]


def _permuted(base: Picture, fooled: Picture, seed: int) -> Picture:
    """The base with the change to the fooled picture in random order: as large, without its direction."""
    change = from_uint8(fooled.pixels) - from_uint8(base.pixels)
    mixed = Draws(seed, "fool_permuted", ["change"]).shuffled(change[None])[0]
    pixels = (255 * (from_uint8(base.pixels) + mixed).clamp(0, 1)).round().to(torch.uint8)
    return base.with_pixels(pixels)


def _taken_for(logits: Tensor) -> str:
    """Whose class the fooled picture has: "image", "look", "both" where these are of one class, or "neither"."""
    image, look, fooled = logits[:3].argmax(dim=1).tolist()
    if fooled == image:
        return "both" if image == look else "image"
    return "look" if fooled == look else "neither"


def _relative(logits: Tensor) -> float | None:
    """Squared distance of logits between fooled picture and image, over that between look and image."""
    image, look, fooled = logits[:3]
    apart = float((look - image).square().sum())
    return float((fooled - image).square().sum()) / apart if apart > 0 else None

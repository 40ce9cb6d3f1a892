"""A model's predictions for a picture, the picture with noise and a control of equal norm: `nullspace show`.

All figures are measured on the bytes of files, through the model's own resizing. Kernel noise changes the file; a
learned noise is added to the tokens inside the model, and the file is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.metrics.controls import permuted
from nullspace.metrics.draws import Draws
from nullspace.metrics.outcomes import largest_probability_change
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.noise.artifact import NullNoise
from nullspace.pixels.eight_bits import EightBits
from nullspace.watermark.certify import certify, mean_and_worst
from pipelines.commands.pictures.files import Picture, picture_of, read_picture, write_picture
from pipelines.commands.pictures.marks import saved_in_kernel
from pipelines.commands.show.noise import kernel_noise, permuted_noise, size_of, strongest_noise
from pipelines.engine.class_names import ClassNames
from pipelines.errors import DecodeError

TOP = 3
_WHITE = 3.0  # times its root mean square: noise this large is drawn white
_REACHED = 0.97  # of the wanted size: below, there is a note


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture `pixels` (3,H,W) uint8 and the model's predictions for it.

    `top` has class, name and probability of the likeliest classes; `change` is against the first panel, empty there.
    """

    title: str
    pixels: Tensor
    top: tuple[Mapping[str, Any], ...]
    change: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Shown:
    """The panels of one picture, and the noise as a picture (3,h,w) uint8 around grey, amplified by `scale`."""

    source: Path
    model: str
    noise: str
    panels: tuple[Panel, Panel, Panel]
    difference: Tensor
    scale: float
    lines: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without pixels."""
        names = ("picture", "noised", "permuted")
        return {
            "file": str(self.source),
            "size": [self.panels[0].pixels.shape[2], self.panels[0].pixels.shape[1]],
            "model": self.model,
            "noise": self.noise,
            **{
                name: {"top": [dict(each) for each in panel.top], **panel.change}
                for name, panel in zip(names, self.panels, strict=True)
            },
            "shown_times": self.scale,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Shower:
    """Shows noise on pictures to one model; its kernel is measured once."""

    model: SplitViT
    names: ClassNames

    @cached_property
    def kernel(self) -> PatchKernel:
        """The exact kernel, modulo the shift where it is measured to be ignored."""
        return exact_kernel(self.model)

    @cached_property
    def eight_bits(self) -> EightBits:
        """For rounding changed pixels."""
        return EightBits.of(self.model, self.kernel)

    def of_kernel(self, source: Path, target: Path, *, rms: float | None, seed: int) -> Shown:
        """Kernel noise of size `rms`, None for the largest, written to `target` as PNG and read back."""
        picture = read_picture(source)
        clean, through = from_uint8(picture.pixels).double(), self._on_file(picture)
        # Outside the crop anything could be added; permuted, it would move into the crop and be no fair control.
        free = through.resize.read if picture.free is None else through.resize.read & picture.free
        if not bool(free.any()):
            raise DecodeError(f"{source}: all that the model reads of it is transparent, and noise cannot lie there")
        generator = torch.Generator().manual_seed(seed)
        if rms is None:
            change = strongest_noise(through, clean, free, generator=generator)
        else:
            change = kernel_noise(through, clean, free, rms=rms, generator=generator)
        pixels = saved_in_kernel(self.model, self.eight_bits, picture, through.resize, (clean + change).clamp(0, 1))
        noised = read_picture(write_picture(target, picture.with_pixels(pixels), quality=100))
        kept = from_uint8(noised.pixels).double() - clean
        draws = Draws(seed, "permuted", [source.name])
        control = round_to_uint8(clean + permuted_noise(kept, clean, free, draws=draws))
        control = picture_of(picture.with_pixels(control).encoded(".png", 100))
        panels = self._panels((picture, noised, control), free)
        difference, scale = centred(kept)
        size, permuted_size = (each.change["rms"] for each in panels[1:])
        lines = [f"root mean square {size:.3f} of the range 0 to 1", f"permuted {permuted_size:.3f}"]
        lines += [f"grey is none, shown × {scale:g}"]
        lines += [] if bool(through.resize.read.all()) else ["none outside the model's crop"]
        notes = picture.notes_for(".png")
        if rms is not None and size < _REACHED * rms:
            notes.append(f"noise of {size:.3f} instead of {rms:g}: the pixel range of this picture allows no more")
        if permuted_size < _REACHED * size:
            notes.append(f"the permuted noise is weaker ({permuted_size:.3f}): it is clipped at black and white")
        words = "the largest kernel noise found" if rms is None else "kernel noise"
        return Shown(source, self.model.name, words, panels, difference, scale, tuple(lines), tuple(notes))

    @torch.no_grad()
    def of_tokens(self, source: Path, noise: NullNoise, *, seed: int) -> Shown:
        """A learned noise, added to the tokens inside the model. Raises ArtifactError for another model."""
        picture = read_picture(source)
        image = from_uint8(picture.seen(self.model.preprocessing))[None]
        draws = Draws(seed, "permuted", [source.name])
        mixed = permuted(noise.tensor, draws, shift_invariant=noise.shift_invariant, hold="token")[0]
        clean = self.model(image)
        panels = [Panel("the picture", picture.pixels, self._top(clean[0]), {})]
        titles = ("noise on tokens, same picture", "permuted on tokens, same picture")
        for title, each in zip(titles, (noise, replace(noise, tensor=mixed)), strict=True):
            with each.apply(self.model):
                logits = self.model(image)
            effective = noise.unit.effective(each.tensor.double())
            mean, worst = mean_and_worst(torch.linalg.vector_norm(effective, dim=-1)[None] / noise.token_norm)
            change = {
                "token_change": float(mean),
                "largest_token_change": float(worst),
                "logit_change": float((logits - clean).double().abs().amax()),
                "probability_change": float(largest_probability_change(clean, logits)),
                "same_prediction": bool(logits.argmax() == clean.argmax()),
            }
            panels.append(Panel(title, picture.pixels, self._top(logits[0]), change))
        difference, scale = centred(noise.tensor.expand(3, -1, -1))
        count, width = noise.tensor.shape
        lines = (f"{count} tokens (down) × {width} entries", "grey is none", "the pictures are unchanged")
        notes = (
            *picture.notes,
            "learned noise is added to tokens, inside the model, not to pixels: all pictures shown are the file itself",
        )
        return Shown(source, self.model.name, "learned noise", _three(panels), difference, scale, lines, notes)

    def _on_file(self, picture: Picture) -> FileKernel:
        height, width = picture.pixels.shape[1:]
        return kernel_on_file(self.model, (height, width), kernel=self.kernel)

    @torch.no_grad()
    def _panels(self, pictures: tuple[Picture, Picture, Picture], free: Tensor) -> tuple[Panel, Panel, Panel]:
        picture = pictures[0]
        seen = torch.stack([each.seen(self.model.preprocessing) for each in pictures])
        logits = self.model(from_uint8(seen))
        found = certify(self.model, seen[:1].expand(2, -1, -1, -1), seen[1:], modulo_shift=self.kernel.modulo_shift)
        panels = [Panel("the picture", picture.pixels, self._top(logits[0]), {})]
        titles = ("with noise from the kernel", "with the same noise, permuted")
        for index, (title, each) in enumerate(zip(titles, pictures[1:], strict=True)):
            change = from_uint8(each.pixels).double() - from_uint8(picture.pixels).double()
            change_facts = {"rms": size_of(change, free), **found.to_dict(index)}
            panels.append(Panel(title, each.pixels, self._top(logits[index + 1]), change_facts))
        return _three(panels)

    def _top(self, logits: Tensor) -> tuple[dict[str, Any], ...]:
        likeliest = logits.double().softmax(-1).topk(min(TOP, len(logits)))
        return tuple(
            {"class": int(number), "name": self.names[int(number)], "probability": float(probability)}
            for probability, number in zip(likeliest.values, likeliest.indices, strict=True)
        )


def centred(change: Tensor) -> tuple[Tensor, float]:
    """A change (3,H,W) as a picture (3,H,W) uint8 around grey, and the factor by which it was amplified."""
    if not bool(change.any()):
        return torch.full(change.shape, 128, dtype=torch.uint8), 1.0
    most = min(float(change.abs().max()), _WHITE * float(change[change != 0].double().square().mean().sqrt()))
    scale = float(f"{0.5 / most:.2g}")
    return round_to_uint8((0.5 + scale * change.double()).clamp(0, 1)), scale


def _three(panels: list[Panel]) -> tuple[Panel, Panel, Panel]:
    first, second, third = panels
    return first, second, third

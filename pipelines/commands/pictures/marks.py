"""Marks in single files: embedding, reading back, and what the model sees of the files as written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from nullspace.kernel.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8
from nullspace.model.resize import Resize
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.eight_bits_on_file import save_on_file
from nullspace.watermark.certify import certify
from nullspace.watermark.payload.detection import Detection
from nullspace.watermark.payload.hidden_mark import HiddenMark
from nullspace.watermark.payload.on_file import embed_on_file
from nullspace.watermark.payload.realign import realign, scales_within
from nullspace.watermark.visible.legibility import texture_contrast
from nullspace.watermark.visible.on_file import embed_visible_on_file
from pipelines.commands.messages import shown
from pipelines.commands.pictures.files import Picture, picture_of, read_picture, write_picture
from pipelines.errors import DecodeError
from pipelines.evaluations.image_quality import psnr, ssim
from pipelines.evaluations.visible_watermark.mark import JPEG_QUALITIES, make_mark
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

_FILE_ITERATIONS = 200  # each is a resize of the whole file and back


@dataclass(frozen=True)
class Marker:
    """Embeds and reads the marks of one key for one model."""

    model: SplitViT
    mark: HiddenMark

    @cached_property
    def eight_bits(self) -> EightBits:
        """For rounding marked files; not needed for reading."""
        return EightBits.of(self.model, self.mark.kernel)

    def embed(self, source: Path, target: Path, message: bytes, *, psnr: float, quality: int) -> dict[str, Any]:
        """Mark one file; the row is measured on the bytes that were written."""
        picture = read_picture(source)
        before = picture.seen(self.model.preprocessing)
        made = embed_on_file(
            self.mark,
            picture.pixels,
            before,
            message,
            psnr=psnr,
            free=picture.free,
            save=partial(saved_in_kernel, self.model, self.eight_bits, picture),
        )
        written = write_picture(target, picture.with_pixels(made.pixels), quality=quality)
        after = read_picture(written).seen(self.model.preprocessing)
        found = self.mark.detect(after[None], length=len(message), psnr=psnr)[0]
        return {
            "file": str(source),
            "output": str(written),
            **{f"message_{name}": value for name, value in shown(message).items()},
            "psnr": made.psnr,
            "reached": made.reached,
            "read_back": found.message == message,
            "warning": self.mark.warning(len(message), psnr=psnr),
            "p_value": found.p_value,
            "bit_agreement": found.bit_agreement,
            "notes": picture.notes_for(target.suffix.lower()),
            **certify(self.model, before[None], after[None]).to_dict(0),
        }

    def detect(
        self, source: Path, *, false_positive_rate: float, length: int | None, shift: int = 0, stretch: float = 0
    ) -> dict[str, Any]:
        """Look for a mark in one file; if none is found, also shifted by up to `shift` of the model's pixels.

        `stretch` is the share by which the file may have been enlarged or reduced as well.
        """
        picture = read_picture(source)
        seen = picture.seen(self.model.preprocessing)
        searches = 2 if shift or stretch else 1  # each with its share of the false positive rate
        rate = false_positive_rate / searches
        found = self.mark.detect(seen[None], false_positive_rate=rate, length=length)[0]
        if searches > 1 and found.message is None:
            scales = scales_within(max(seen.shape[1:]), stretch)
            again = realign(
                self.mark, seen, shift=shift, scales=scales, length=length, false_positive_rate=rate
            ).detection
            found = replace(max(found, again, key=lambda each: each.rank), tried=found.tried + again.tried)
        verdict = detected(replace(found, p_value=min(1.0, searches * found.p_value)))
        return {"file": str(source), **verdict, "notes": list(picture.notes)}


@dataclass(frozen=True)
class VisibleMarker:
    """Puts visible marks on files for one model: its kernel is measured once."""

    model: SplitViT
    kernel: PatchKernel
    eight_bits: EightBits

    @classmethod
    def of(cls, model: SplitViT) -> VisibleMarker:
        """With the exact kernel of the model, modulo the shift where it is measured to ignore shifts."""
        kernel = exact_kernel(model)
        return cls(model, kernel, EightBits.of(model, kernel))


def mark_visibly(
    marker: VisibleMarker, source: Path, target: Path, settings: VisibleWatermarkSettings, *, quality: int
) -> dict[str, Any]:
    """Put a logo or text on one file; the row is measured on the bytes that were written."""
    model, picture = marker.model, read_picture(source)
    if picture.alpha is not None:
        raise DecodeError(f"{source}: it has transparent parts, where a mark cannot lie; save it without transparency")
    size = (picture.pixels.shape[1], picture.pixels.shape[2])
    colour, alpha = make_mark(settings, size)

    def save(through: FileKernel, marked: Tensor) -> Tensor:
        return saved_in_kernel(model, marker.eight_bits, picture, through.resize, marked)

    made = embed_visible_on_file(
        model,
        picture.pixels,
        colour,
        alpha,
        iterations=min(settings.iterations, _FILE_ITERATIONS),
        kernel=kernel_on_file(model, size, kernel=marker.kernel),
        save=save,
    )
    written = write_picture(target, picture.with_pixels(made.pixels), quality=quality)
    saved = read_picture(written)
    before, after = (each.seen(model.preprocessing)[None] for each in (picture, saved))
    images = [from_uint8(each.pixels)[None] for each in (picture, saved)]
    shift = marker.kernel.modulo_shift
    return {
        "file": str(source),
        "output": str(written),
        "psnr": float(psnr(images[1], images[0])),
        "ssim": float(ssim(images[1], images[0])),
        "texture_contrast": float(texture_contrast(images[1], alpha)),
        "texture_contrast_half": float(texture_contrast(images[1], alpha, shrink=2)),
        "clean_texture_contrast": float(texture_contrast(images[0], alpha)),
        "notes": picture.notes_for(target.suffix.lower()),
        **certify(model, before, after, modulo_shift=shift).to_dict(0),
        "after_jpeg": {str(each): _after_jpeg(model, picture, saved, each, shift) for each in JPEG_QUALITIES},
    }


def saved_in_kernel(model: SplitViT, eight_bits: EightBits, picture: Picture, resize: Resize, marked: Tensor) -> Tensor:
    """8-bit pixels (3,H,W) of a picture's marked pixels in [0,1], rounded so that the model's tokens stay the same."""

    def seen(pixels: Tensor) -> Tensor:
        return picture.with_pixels(pixels).seen(model.preprocessing)

    return save_on_file(eight_bits, resize, picture.pixels, marked, seen, free=picture.free)


def _after_jpeg(model: SplitViT, before: Picture, after: Picture, quality: int, shift: bool) -> dict[str, Any]:
    """What the model sees of the mark if both the picture and the marked one are saved as JPEG of a quality."""
    seen = [picture_of(each.encoded(".jpg", quality)).seen(model.preprocessing)[None] for each in (before, after)]
    return certify(model, seen[0], seen[1], modulo_shift=shift).to_dict(0)


def detected(found: Detection) -> dict[str, Any]:
    """A detection as plain JSON values; what was not found is null."""
    message = shown(found.message) if found.message is not None else {"hex": None, "text": None, "uuid": None}
    return {
        "found": found.found,
        **{f"message_{name}": value for name, value in message.items()},
        "p_value": found.p_value,
        "bit_agreement": found.bit_agreement,
        "strength_db": found.psnr if found.found else None,
        "readings_tried": found.tried,
    }

"""Marks in single files: written and read back, and what the model notices of them as they lie on disk."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from nullspace.eight_bits import EightBits
from nullspace.eight_bits_on_file import save_on_file
from nullspace.file_kernel import FileKernel, kernel_on_file
from nullspace.kernel import PatchKernel
from nullspace.pixels import from_uint8
from nullspace.resize import Resize
from nullspace.shift import exact_kernel
from nullspace.vit import SplitViT
from nullspace.watermark.certify import certify
from nullspace.watermark.detection import Detection
from nullspace.watermark.legibility import texture_contrast
from nullspace.watermark.on_file import embed_on_file
from nullspace.watermark.payload import HiddenMark
from nullspace.watermark.realign import realign, scales_within
from nullspace.watermark.visible_on_file import embed_visible_on_file
from pipelines.config import WatermarkSettings
from pipelines.errors import ConfigError, DecodeError
from pipelines.image_quality import psnr, ssim
from pipelines.marks import JPEG_QUALITIES, make_mark
from pipelines.picture_files import Picture, picture_of, read_picture, write_picture

KEY_VARIABLE = "NULLSPACE_KEY"
_FILE_ITERATIONS = 200  # each is a resize of the whole file and back


def read_key(file: Path | None) -> bytes:
    """The key from a file, without the newline at its end, else from the environment; never from the command line.

    Raises ConfigError when there is none.
    """
    if file is not None:
        try:
            return file.expanduser().read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise ConfigError(f"cannot read the key from {file}: {error.strerror or error}") from error
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise ConfigError(
            f"expected a key: --key-file FILE, or the variable {KEY_VARIABLE}. Make one with "
            "`python -c 'import secrets; print(secrets.token_hex(16))' > key.txt` and keep it secret"
        )
    return key.encode()


def read_message(text: str | None, hexadecimal: str | None, unique: str | None) -> bytes:
    """The message's bytes from exactly one of text (UTF-8), hexadecimal digits, and a UUID (`new` draws one)."""
    given = [value for value in (text, hexadecimal, unique) if value is not None]
    if len(given) != 1:
        raise ConfigError(f"expected one of --message, --hex and --uuid, got {len(given) or 'none'}")
    if text is not None:
        return text.encode()
    try:
        return bytes.fromhex(given[0]) if hexadecimal is not None else _uuid(given[0]).bytes
    except ValueError as error:
        kind = "pairs of hexadecimal digits" if hexadecimal is not None else "a UUID, or `new`"
        raise ConfigError(f"expected {kind}, got {given[0]!r}") from error


def _uuid(text: str) -> uuid.UUID:
    return uuid.uuid4() if text == "new" else uuid.UUID(text)


def shown(message: bytes) -> dict[str, Any]:
    """A message as people read it: hexadecimal always, as text where it is text, as a UUID where it has the length."""
    said: dict[str, Any] = {"hex": message.hex()}
    try:
        text = message.decode()
        said["text"] = text if text.isprintable() else None
    except UnicodeDecodeError:
        said["text"] = None
    said["uuid"] = str(uuid.UUID(bytes=message)) if len(message) == 16 else None
    return said


@dataclass(frozen=True)
class Marker:
    """Writes and reads the marks of one key for one model."""

    model: SplitViT
    mark: HiddenMark

    @cached_property
    def eight_bits(self) -> EightBits:
        """Rounds what is marked; reading needs none."""
        return EightBits.of(self.model, self.mark.kernel)

    def embed(self, source: Path, target: Path, message: bytes, *, psnr: float, quality: int) -> dict[str, Any]:
        """Mark one file; what is reported was measured on the bytes that were written."""
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
            "confidence": found.confidence,
            "notes": picture.told(target.suffix.lower()),
            **certify(self.model, before[None], after[None]).to_dict(0),
        }

    def detect(
        self, source: Path, *, false_positive_rate: float, length: int | None, shift: int = 0, stretch: float = 0
    ) -> dict[str, Any]:
        """Look for a mark in one file; where there is none, also moved by up to `shift` of the model's pixels.

        `stretch` is the share by which it may have been made larger or smaller too.
        """
        picture = read_picture(source)
        seen = picture.seen(self.model.preprocessing)
        searches = 2 if shift or stretch else 1  # each may be wrong with its part of the rate
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
    marker: VisibleMarker, source: Path, target: Path, settings: WatermarkSettings, *, quality: int
) -> dict[str, Any]:
    """Put a logo or text on one file; what is reported was measured on the bytes that were written."""
    model, picture = marker.model, read_picture(source)
    if picture.alpha is not None:
        raise DecodeError(f"{source}: it has transparent parts, through which a mark would show; save it without")
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
        "notes": picture.told(target.suffix.lower()),
        **certify(model, before, after, modulo_shift=shift).to_dict(0),
        "after_jpeg": {str(each): _after_jpeg(model, picture, saved, each, shift) for each in JPEG_QUALITIES},
    }


def saved_in_kernel(model: SplitViT, eight_bits: EightBits, picture: Picture, resize: Resize, marked: Tensor) -> Tensor:
    """8-bit pixels (3,H,W) of a picture's marked ones in [0,1], of which the model is given the same tokens."""

    def seen(pixels: Tensor) -> Tensor:
        return picture.with_pixels(pixels).seen(model.preprocessing)

    return save_on_file(eight_bits, resize, picture.pixels, marked, seen, free=picture.free)


def _after_jpeg(model: SplitViT, before: Picture, after: Picture, quality: int, shift: bool) -> dict[str, Any]:
    """What the model notices where both, the picture and the marked one, are saved as JPEG of a quality."""
    seen = [picture_of(each.encoded(".jpg", quality)).seen(model.preprocessing)[None] for each in (before, after)]
    return certify(model, seen[0], seen[1], modulo_shift=shift).to_dict(0)


def detected(found: Detection) -> dict[str, Any]:
    """A verdict as plain JSON values; what was not found is null."""
    message = shown(found.message) if found.message is not None else {"hex": None, "text": None, "uuid": None}
    return {
        "found": found.found,
        **{f"message_{name}": value for name, value in message.items()},
        "p_value": found.p_value,
        "confidence": found.confidence,
        "strength_db": found.psnr if found.found else None,
        "readings_tried": found.tried,
    }

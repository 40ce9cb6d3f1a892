"""Picture files: finding them, opening them as the pixels a model would see, and writing them in the same format."""

from __future__ import annotations

import glob
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nullspace.model.preprocessing import Preprocessing
from pipelines.commands.pictures import colour_profiles
from pipelines.commands.pictures.metadata import Metadata, metadata_of
from pipelines.data.decode import decode_counted, grey_from_wide, orientation, upright
from pipelines.data.sources.folder import IMAGE_SUFFIXES, is_image_name
from pipelines.errors import ConfigError, DecodeError
from pipelines.files import written_aside

MAX_PIXELS = 100_000_000
LOSSY = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FORMATS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", **LOSSY}


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (3,H,W) uint8 of one file in sRGB, upright, on white where transparent; `alpha` (H,W) uint8 or None.

    `profile` is an RGB colour profile that fits the pixels, None if the file had no usable one.
    """

    pixels: Tensor
    alpha: Tensor | None
    colours: Tensor  # (3,H,W) uint8 without the white background: the colours of a file with transparency
    profile: bytes | None
    metadata: Metadata = field(default_factory=Metadata)
    grey: bool = False
    """Whether the file was greyscale."""
    notes: tuple[str, ...] = ()
    """Conversions made while reading it, for the user, a sentence each."""

    @property
    def free(self) -> Tensor | None:
        """Mask (H,W) of the pixels that may change: the fully opaque ones; None for all."""
        return None if self.alpha is None else self.alpha == 255

    def seen(self, preprocessing: Preprocessing) -> Tensor:
        """The input of the model after its preprocessing: uint8 (3,h,w)."""
        return preprocessing.transform()(_image(self.pixels))

    def with_pixels(self, pixels: Tensor) -> Picture:
        """The same picture with other pixels (3,H,W) uint8 where it is opaque."""
        colours = pixels if self.alpha is None else torch.where(self.alpha == 255, pixels, self.colours)
        return replace(self, pixels=pixels, colours=colours)

    def encoded(self, suffix: str, quality: int) -> bytes:
        """The bytes of such a file; `quality` is that of JPEG and WebP. In JPEG and BMP transparency becomes
        white.

        A picture that was and still is grey becomes a greyscale file if the format has one; without a profile, because
        its pixels have the curve of sRGB now.
        """
        kind = FORMATS[suffix]
        alpha = self.alpha if kind in ("PNG", "TIFF", "WEBP") else None
        held = self.pixels if alpha is None else self.colours
        grey = self.grey and kind != "WEBP" and bool((held == held[:1]).all())
        channels = [held[:1] if grey else held, *([] if alpha is None else [alpha[None]])]
        options = self.metadata.options(kind)
        if self.profile and not grey:
            options["icc_profile"] = self.profile
        if suffix in LOSSY:
            options["quality"] = quality
        written = io.BytesIO()
        _image(torch.cat(channels)).save(written, kind, **options)
        return written.getvalue()

    def notes_for(self, suffix: str) -> list[str]:
        """The notes, and what a file with this suffix cannot hold."""
        return [*self.notes, *self.metadata.losses(FORMATS[suffix])]


def read_picture(path: Path) -> Picture:
    """Raises DecodeError with the reason, naming the file."""
    try:
        return picture_of(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise DecodeError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def picture_of(data: bytes) -> Picture:
    """The picture in the bytes of a file. Raises DecodeError with the reason, also for animations and several pages."""
    # Rejects damaged and too large files.
    _, count = decode_counted(data, lambda image: torch.empty(0), max_pixels=MAX_PIXELS)
    if count > 1:
        raise DecodeError(f"it has {count} frames or pages, of which only one could be marked; save them one by one")
    with Image.open(io.BytesIO(data)) as image:
        before = orientation(image) if image.format == "TIFF" else 1  # Pillow rotates these itself
        image.load()
        turned = max(before, orientation(image)) >= 5
        colours, alpha = _split(image)
        found = colour_profiles.to_srgb(colours, image.info.get("icc_profile"))
        rgb = _tensor(upright(found.rgb, image))
        size = (rgb.shape[2], rgb.shape[1])
        metadata = metadata_of(image, size=size, turned=turned, converted=found.rgb is not colours and bool(found.note))
        notes = [found.note] if found.note else []
        notes += ["16 bits per channel are written with 8"] if _is_deep(image, data) else []
        veil = None if alpha is None else torch.from_numpy(np.array(upright(alpha, image)))
    common = {"profile": found.profile, "metadata": metadata, "grey": colours.mode == "L", "notes": tuple(notes)}
    if veil is None or bool((veil == 255).all()):
        return Picture(rgb, None, rgb, **common)
    return Picture(_on_white(rgb, veil), veil, rgb, **common)


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours of a loaded image as L, RGB or CMYK of 8 bit, and its transparency if it has any."""
    if image.mode.startswith("I") or image.mode == "F":
        return grey_from_wide(image), None
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        grey = image.mode in ("1", "L", "LA", "La")
        return layer.convert("RGB").convert("L") if grey else layer.convert("RGB"), layer.getchannel("A")
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return image if image.mode == "CMYK" else image.convert("RGB"), None


def _on_white(colours: Tensor, alpha: Tensor) -> Tensor:
    whole = _image(torch.cat([colours, alpha[None]]))
    white = Image.new("RGBA", whole.size, (255, 255, 255, 255))
    return _tensor(Image.alpha_composite(white, whole).convert("RGB"))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a PNG or TIFF file holds more than 8 bits per channel."""
    if image.format == "PNG":
        return data[24] > 8  # the depth in its header
    bits = image.tag_v2.get(258, 8) if image.format == "TIFF" else 8  # pyright: ignore[reportAttributeAccessIssue]
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8


def write_picture(target: Path, picture: Picture, *, quality: int) -> Path:
    """Write it atomically; the ending of the name determines the format."""
    check_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as aside:
        aside.write_bytes(picture.encoded(target.suffix.lower(), quality))
    return target


def check_name(target: Path) -> None:
    """Raises ConfigError for an ending that is no writable format."""
    if target.suffix.lower() not in FORMATS:
        raise ConfigError(f"{target}: expected a name that ends in {', '.join(FORMATS)}; .png keeps every pixel")


def find_pictures(inputs: Sequence[str]) -> list[tuple[Path, Path]]:
    """Pairs of a file and its name relative to the folder it was found in, of files, folders and patterns, each once.

    Raises ConfigError for an input that holds no picture.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        here = _found(text)
        if not here:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES)[:4])
            raise ConfigError(
                f"{text}: found no picture there ({kinds} …); give files, folders, or a pattern in quotes"
            )
        for file, name in here:
            found.setdefault(file, name)
    return list(found.items())


def _found(text: str) -> list[tuple[Path, Path]]:
    path = Path(text).expanduser()
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file.name))
        return [(file, file.relative_to(path)) for file in inside]
    if path.is_file():
        return [(path, Path(path.name))]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    return [(file, Path(file.name)) for file in matches if file.is_file() and is_image_name(file.name)]


def outputs(pictures: Sequence[tuple[Path, Path]], out: Path, suffix: str | None, *, force: bool) -> list[Path]:
    """The target of each picture: `out` itself for one picture if it is a file name, else below the folder `out`.

    `suffix` replaces the endings. Raises ConfigError if two targets are the same, and if a target exists, unless
    `force`.
    """
    if len(pictures) == 1 and out.suffix and not out.is_dir():
        targets = [out]
    else:
        targets = [out / (name.with_suffix(suffix) if suffix else name) for _, name in pictures]
    for target in targets:
        check_name(target)
    count = Counter(targets)
    twice = next((target for target in targets if count[target] > 1), None)
    if twice:
        raise ConfigError(f"{twice} would be written twice; give folders instead of files, or one folder at a time")
    same = [target for (file, _), target in zip(pictures, targets, strict=True) if target.resolve() == file.resolve()]
    if same:
        raise ConfigError(f"{same[0]} would be overwritten by its own marked version; choose another folder")
    there = [target for target in targets if target.exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} exists already ({len(there)} of {len(targets)} do); add --force to replace them")
    return targets


def _image(pixels: Tensor) -> Image.Image:
    """An image of mode L, LA, RGB or RGBA from (channels,H,W)."""
    values = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    return Image.fromarray(values[..., 0] if len(pixels) == 1 else values)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

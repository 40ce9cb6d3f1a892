"""Pictures on disk, one by one: found, opened as the pixels a model would get, and written back as what they were."""

from __future__ import annotations

import glob
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nullspace.preprocessing import Preprocessing
from pipelines.decode import decode, to_rgb
from pipelines.errors import ConfigError, DecodeError
from pipelines.files import written_aside
from pipelines.sources.folder import IMAGE_SUFFIXES, is_image_name

MAX_PIXELS = 100_000_000
LOSSY = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FORMATS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", **LOSSY}


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (3,H,W) uint8 of one file, upright, transparency laid on white; `alpha` (H,W) uint8 where there is some.

    `profile` is the file's colour profile, which is kept.
    """

    pixels: Tensor
    alpha: Tensor | None
    colours: Tensor  # (3,H,W) uint8 without the white below: what a file with transparency holds
    profile: bytes | None

    @property
    def free(self) -> Tensor | None:
        """Which pixels (H,W) may change: those that nothing shines through; None for all."""
        return None if self.alpha is None else self.alpha == 255

    def seen(self, preprocessing: Preprocessing) -> Tensor:
        """What the model gets of it: uint8 (3,h,w)."""
        return preprocessing.transform()(_image(self.pixels))

    def with_pixels(self, pixels: Tensor) -> Picture:
        """The same picture with other pixels (3,H,W) uint8, which show where it is opaque."""
        colours = pixels if self.alpha is None else torch.where(self.alpha == 255, pixels, self.colours)
        return Picture(pixels, self.alpha, colours, self.profile)

    def encoded(self, suffix: str, quality: int) -> bytes:
        """The bytes of such a file; `quality` is that of JPEG and WebP. JPEG and BMP lose transparency to white."""
        kind, options = FORMATS[suffix], {"icc_profile": self.profile} if self.profile else {}
        alpha = self.alpha if kind in ("PNG", "TIFF", "WEBP") else None
        image = _image(self.pixels if alpha is None else torch.cat([self.colours, alpha[None]]))
        more: dict[str, Any] = {"quality": quality} if suffix in LOSSY else {}
        written = io.BytesIO()
        image.save(written, kind, **options, **more)
        return written.getvalue()


def read_picture(path: Path) -> Picture:
    """Raises DecodeError with the reason, naming the file."""
    try:
        return picture_of(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise DecodeError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def picture_of(data: bytes) -> Picture:
    """The picture in the bytes of a file. Raises DecodeError with the reason."""
    decode(data, lambda image: torch.empty(0), max_pixels=MAX_PIXELS)  # refuses what is damaged or too large
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        rgb, profile = to_rgb(image), image.info.get("icc_profile")
        layer = image.convert("RGBA") if image.has_transparency_data else None
    pixels = _tensor(rgb)
    if layer is None or layer.size != rgb.size:  # turned by its orientation tag: kept as it looks, on white
        return Picture(pixels, None, pixels, profile)
    whole = _tensor(layer)
    alpha = None if bool((whole[3] == 255).all()) else whole[3]
    return Picture(pixels, alpha, pixels if alpha is None else whole[:3], profile)


def write_picture(target: Path, picture: Picture, *, quality: int) -> Path:
    """Write it under its name, whole or not at all; the name's ending decides the format."""
    check_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as aside:
        aside.write_bytes(picture.encoded(target.suffix.lower(), quality))
    return target


def check_name(target: Path) -> None:
    """Raises ConfigError for an ending that names no format that can be written."""
    if target.suffix.lower() not in FORMATS:
        raise ConfigError(f"{target}: expected a name that ends in {', '.join(FORMATS)}; .png keeps every pixel")


def find_pictures(inputs: Sequence[str]) -> list[tuple[Path, Path]]:
    """Files, folders and patterns to pairs of a file and its name below the folder it was found in, each file once.

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
    """Where each picture is to be written: `out` itself for one file where it names one, else below the folder `out`.

    `suffix` replaces the endings. Raises ConfigError where two would be one file, and where a file is there already
    unless `force`.
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
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

"""From the bytes of an image file to the pixels a model reads; whatever cannot be decoded whole is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from pipelines.errors import DecodeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "DecodeError",
    "decode",
    "decode_counted",
    "grey_from_wide",
    "orientation",
    "stills",
    "to_rgb",
    "upright",
]

# Raster formats whose decoders run in this process. EPS, for instance, would start Ghostscript on an untrusted program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
MAX_ASPECT = 200  # resizing the shorter side of a thin strip to the model's size would take gigabytes
_WHITE = (255, 255, 255, 255)
_NEW_SUBFILE_TYPE = 254  # TIFF; its lowest bit says "a smaller version of another page"


def decode(data: bytes, transform: Callable[[Image.Image], Tensor], *, max_pixels: int) -> np.ndarray:
    """Decode one image file and apply `transform` (RGB PIL image to uint8 tensor (3,H,W)); returns uint8 (3,H,W).

    An RGB image without orientation tag gives the pixels timm's own loader gives, whatever its colour profile says.
    Otherwise: the EXIF orientation is applied; transparency is laid on white; 16-bit grey is scaled to 8 bit; of an
    animation or several pages the first is taken, as timm does.
    The size is checked in the header, before pixels are decoded; Pillow's own limit holds besides `max_pixels`.
    Raises DecodeError with the reason.
    """
    return decode_counted(data, transform, max_pixels=max_pixels)[0]


def decode_counted(
    data: bytes, transform: Callable[[Image.Image], Tensor], *, max_pixels: int
) -> tuple[np.ndarray, int]:
    """What `decode` returns, and how many frames or pages the file has."""
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_known_formats()) as image:
            _check_size(image.size, max_pixels)
            _check_end(image.format, data)
            count = stills(image)
            rgb = to_rgb(image)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("not an image of a known format, or a damaged header") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"decompression bomb: {error}") from error
    except Exception as error:  # on damaged bytes Pillow's plugins raise errors of many kinds
        raise DecodeError(f"damaged or truncated: {type(error).__name__}: {error}") from error
    return np.ascontiguousarray(transform(rgb).numpy()), count


def stills(image: Image.Image) -> int:
    """How many frames or pages the file of an opened image has; previews and sizes of the same picture do not count."""
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):  # further pictures in a JPEG (MPO) are previews
        return 1
    try:
        count = int(getattr(image, "n_frames", 1))
        if image.format == "TIFF" and count > 1:
            count = max(1, sum(_is_page(image, number) for number in range(count)))
            image.seek(0)
    except Exception:  # noqa: BLE001  a damaged later frame: only the first is read
        image.seek(0)
        return 1
    return count


def _is_page(image: Image.Image, number: int) -> bool:
    image.seek(number)
    return not int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & 1  # pyright: ignore[reportAttributeAccessIssue]


def to_rgb(image: Image.Image) -> Image.Image:
    """The whole image, decoded, upright, as RGB of 8 bit. Raises DecodeError, or what Pillow raises."""
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return upright(grey_from_wide(image), image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return upright(Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer), image).convert("RGB")
    return upright(image.convert("RGB"), image)


def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # Pillow may be built without some, e.g. AVIF


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DecodeError(f"expected at least one pixel, got {width}x{height}")
    if width * height > max_pixels:
        raise DecodeError(f"{width}x{height} is more than the {max_pixels} pixels allowed (ingest.max_pixels)")
    if max(size) > MAX_ASPECT * min(size):
        raise DecodeError(f"{width}x{height} is a strip of more than {MAX_ASPECT}:1")


def _check_end(format: str | None, data: bytes) -> None:
    # OpenJPEG fills what is missing with grey and says nothing. The end marker can't occur inside a code stream.
    if format == "JPEG2000" and b"\xff\xd9" not in data:
        raise DecodeError("damaged or truncated: the JPEG 2000 stream has no end")


def grey_from_wide(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bit; Pillow's own conversion would clip at 255 and give white."""
    values = np.asarray(image)
    # PNG and PPM of 16 bit may come as 32-bit integers; other 32-bit data have no white point that could be known.
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not sixteen:
        raise DecodeError(f"pixels of mode {image.mode} have no fixed range; save the image with 8 or 16 bits")
    return Image.fromarray(np.round(np.clip(values, 0, 65535) / 257).astype(np.uint8))


def upright(pixels: Image.Image, tagged: Image.Image) -> Image.Image:
    """`pixels` turned as the orientation tag of `tagged` says."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation(tagged))
    return pixels if turn is None else pixels.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The orientation tag, 1 to 8; 1 where there is none."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  a damaged tag says nothing about the pixels, which are whole
        return 1

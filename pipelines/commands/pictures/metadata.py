"""Metadata of a picture file: EXIF, XMP and resolution, adapted to the upright picture and kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

_ORIENTATION, _XMP = ExifTags.Base.Orientation, 700
_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
_INSIDE = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags of the layout of a TIFF file's own pixels, and those that are written by other means.
_STRUCTURE = frozenset(
    {*range(254, 260), 262, 266, *range(273, 274), *range(277, 282), 284, *range(288, 293), 317, 320, *range(322, 326)}
    | {330, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, _XMP, 34675}
)
_JPEG_SEGMENT = 65_500  # bytes in one segment of a JPEG file


@dataclass(frozen=True)
class Metadata:
    """`exif` as in a JPEG file (`Exif\\0\\0…`), `xmp` as XML, `dpi` (x, y); None where there is none."""

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def options(self, kind: str) -> dict[str, Any]:
        """Arguments of Pillow's `save` for a file of a kind (`PNG` …); `losses` lists what cannot be written."""
        options: dict[str, Any] = {"dpi": self.dpi} if self.dpi and kind != "WEBP" else {}
        exif, xmp = self._held(kind)
        if kind == "WEBP" and not exif and self.dpi:
            exif = _resolution(self.dpi)
        if kind == "TIFF":
            return options | _for_tiff(exif, xmp)
        options |= {"exif": exif} if exif else {}
        if xmp and kind == "PNG":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
            return options | {"pnginfo": info}
        return options | ({"xmp": xmp} if xmp else {})

    def losses(self, kind: str) -> list[str]:
        """What a file of this kind cannot hold, as sentences."""
        lost = [
            name
            for name, own, held in zip(("EXIF", "XMP"), (self.exif, self.xmp), self._held(kind), strict=True)
            if own and not held
        ]
        why = "a BMP file holds none" if kind == "BMP" else "too long for a JPEG file"
        return [f"{' and '.join(lost)} left out: {why}"] if lost else []

    def _held(self, kind: str) -> tuple[bytes | None, bytes | None]:
        if kind == "BMP":
            return None, None
        exif, xmp = ((part if part and len(part) <= _JPEG_SEGMENT else None) for part in (self.exif, self.xmp))
        return (exif, xmp) if kind == "JPEG" else (self.exif, self.xmp)


def metadata_of(image: Image.Image, *, size: tuple[int, int], turned: bool, converted: bool) -> Metadata:
    """The metadata of an opened and loaded image, adapted to the picture after rotation to upright.

    `size` (width, height) is that of the upright picture, `turned` whether the rotation exchanged them, `converted`
    whether its colours were converted to sRGB. A preview in EXIF is dropped: it shows the picture without a mark.
    """
    dpi = _numbers(image.info.get("dpi"))
    xmp = image.info.get("xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return Metadata(
        exif=_exif(image, size, turned, converted),
        xmp=_fitting_xmp(xmp, size, converted) if isinstance(xmp, bytes) and xmp else None,
        dpi=(dpi[1], dpi[0]) if dpi and turned else dpi,
    )


def _exif(image: Image.Image, size: tuple[int, int], turned: bool, converted: bool) -> bytes | None:
    try:
        found, kept = image.getexif(), Image.Exif()
        for tag, value in found.items():
            if tag not in _STRUCTURE and tag not in _INSIDE:
                kept[tag] = value
        inside = {tag: dict(found.get_ifd(tag)) for tag in _INSIDE}
        _fit(inside[ExifTags.IFD.Exif], size, converted)
        for tag, values in inside.items():
            if values:
                kept.get_ifd(tag).update(values)
        if _ORIENTATION in kept:
            kept[_ORIENTATION] = 1
        if turned and all(tag in kept for tag in _RESOLUTION):
            for tag, other in zip(_RESOLUTION, [kept[tag] for tag in _RESOLUTION[::-1]], strict=True):
                kept[tag] = other
        return kept.tobytes() if len(kept) or any(inside.values()) else None
    except Exception:  # noqa: BLE001  damaged tags make Pillow fail in many ways; the pixels do not depend on them
        return None


def _fit(details: dict[int, Any], size: tuple[int, int], converted: bool) -> None:
    for tag, value in zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size, strict=True):
        if tag in details:
            details[tag] = value
    if converted:
        details.pop(ExifTags.IFD.Interop, None)
        if ExifTags.Base.ColorSpace in details:
            details[ExifTags.Base.ColorSpace] = 1


def _fitting_xmp(xmp: bytes, size: tuple[int, int], converted: bool) -> bytes:
    xmp = _put(xmp, b"tiff:Orientation", b"1")
    for names, value in (
        ((b"tiff:ImageWidth", b"exif:PixelXDimension"), size[0]),
        ((b"tiff:ImageLength", b"exif:PixelYDimension"), size[1]),
    ):
        for name in names:
            xmp = _put(xmp, name, b"%d" % value)
    if converted:
        xmp = _put(_put(xmp, b"photoshop:ICCProfile", b"sRGB IEC61966-2.1"), b"exif:ColorSpace", b"1")
    return xmp


def _put(xmp: bytes, name: bytes, value: bytes) -> bytes:
    """Replaces the value of a property that exists, as an attribute or as an element."""
    xmp = re.sub(rb"(\b%b\s*=\s*)(\"[^\"]*\"|'[^']*')" % name, rb'\g<1>"%b"' % value, xmp)
    return re.sub(rb"(<%b\b[^>]*>)[^<]*(</%b\s*>)" % (name, name), rb"\g<1>%b\g<2>" % value, xmp)


def _resolution(dpi: tuple[float, float]) -> bytes:
    exif = Image.Exif()
    exif[_RESOLUTION[0]], exif[_RESOLUTION[1]] = dpi
    exif[ExifTags.Base.ResolutionUnit] = 2
    return exif.tobytes()


def _for_tiff(exif: bytes | None, xmp: bytes | None) -> dict[str, Any]:
    tags = Image.Exif()
    if exif:
        tags.load(exif)
    if xmp:
        tags[_XMP] = xmp
    return {"exif": tags} if exif or xmp else {}


def _numbers(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(each) for each in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if x > 0 and y > 0 else None
